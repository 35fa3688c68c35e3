"""The faults themselves: each brings the system to the moment that it needs, then does what an accident would do.

Jobs that run, and rows, are named by their keys. `NoMoment` says why a fault could not be done.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from qik_core.drilling import Census, Place, Scratch
from qik_core.errors import StoreError
from reconciler.drill.errors import NoMoment
from reconciler.drill.evidence import Cut, Run
from reconciler.drill.kinds import Kind
from reconciler.drill.load import Load, Shape
from reconciler.drill.processes import Process
from reconciler.drill.rows import Pending, Rows
from reconciler.drill.runs import Runs
from reconciler.flush import By, Flushed, WouldLose, flush
from reconciler.lease import identity
from reconciler.passes import Pass, Stop, Tools
from reconciler.survey import Means, Selection, survey

_BURST: Final = 150
_FEW: Final = 12
_ENOUGH: Final = 30
"""Jobs that must be queued for a fault that is about queues."""
_SOME: Final = 5
_LEAST: Final = 2
"""Jobs that must run for a fault that is about running ones."""
_PAGES: Final = 4
"""Pages of rows that a pass must find to be in the middle of."""
_FULL: Final = 3.0
"""Seconds that Redis is full."""
_BEYOND: Final = 3
"""Heartbeats that a worker stays frozen beyond its lease."""
_WAITING: Final = (Place.QUEUED, Place.SCHEDULED)
_AWAY: Final = (*_WAITING, Place.RETRYING, Place.HELD)
"""Where jobs are that a flush removes."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen at one instant."""

    at: float
    census: Census
    pending: Mapping[str, Pending]
    told: frozenset[str]
    """Pending rows that have a job, and its lock."""
    held: Mapping[str, str] = field(default_factory=dict)
    """Pending rows without a job that passes leave out on purpose, and why."""

    @property
    def owed(self) -> AbstractSet[str]:
        """Pending rows that wait for a pass."""
        return self.pending.keys() - self.told - self.held.keys()


class Eyes(Protocol):
    """How a fault sees the system; the drill goes on being drawn meanwhile."""

    def now(self) -> float:
        """Return the seconds since the drill began."""

    def look(self) -> Sight:
        """Look once more."""

    def wait(self, condition: Callable[[Sight], bool], seconds: float | None = None) -> bool:
        """Look until a condition holds; False if it did not in time."""


@dataclass(slots=True)
class Stage:
    """What faults act upon."""

    scratch: Scratch
    rows: Rows
    runs: Runs
    load: Load
    workers: Sequence[Process]
    eyes: Eyes
    heartbeat: float
    lease: float
    cuts: list[Cut] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)

    def until(self, condition: Callable[[Sight], bool], what: str) -> None:
        """Wait for a condition.

        Raises:
            NoMoment: it did not come true in time.
        """
        if not self.eyes.wait(condition):
            raise NoMoment(f"waited in vain for {what}")

    def running(self) -> list[Run]:
        """Return the runs that are under way in processes that live."""
        return [run for run in self.runs.under_way() if run.pid not in self.dead]


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that has happened."""

    at: float
    over: float
    hit: frozenset[str]
    running: int
    held: int = 0
    """Rows that lost their job, too, and that passes leave out on purpose: nobody owes them another."""
    by_run: bool = False
    """A row has healed when its job runs again; otherwise when it has a job again."""
    note: str = ""


def strike(kind: Kind, stage: Stage) -> Struck:
    """Do one fault to the running system.

    Raises:
        NoMoment: there was nothing that it could hit.
    """
    return _STRIKES[kind](stage)


def _told(seen: Sight) -> AbstractSet[str]:
    """Return the rows that have a job and its lock."""
    return seen.told


def _waiting(seen: Sight) -> AbstractSet[str]:
    """Return those whose job waits."""
    return seen.told & _keys(seen.census.at(*_AWAY))


def _queued_only(seen: Sight) -> AbstractSet[str]:
    """Return those whose job is on a queue."""
    return seen.told & _keys(seen.census.at(Place.QUEUED))


def _keys(found: AbstractSet[bytes]) -> set[str]:
    return {key.decode() for key in found}


def _damage(
    stage: Stage, do: Callable[[], object], hits: Callable[[Sight], AbstractSet[str]] = _told
) -> Struck:
    """Do something to Redis. It has hit what `hits` says of the moment before, as far as that is pending still.

    What passes have told again by the next look counts: it has healed fast.
    """
    before, running = stage.eyes.look(), len(stage.running())
    at = stage.eyes.now()
    do()
    over = stage.eyes.now()
    after = stage.eyes.look()
    taken = hits(before) & after.pending.keys()
    hit = frozenset(taken - after.held.keys())
    return Struck(at, over, hit, running, len(taken) - len(hit))


# --- Redis loses its data --------------------------------------------------------------------------


def _flush(stage: Stage) -> Struck:
    """Flush as a person does: nothing that runs is touched, and nothing that a row would not bring back may go."""
    _fill_queues(stage)
    who = identity()
    means = Means.of(stage.rows.engines, who)
    done: list[Flushed] = []

    def do() -> None:
        plan = survey(means, Selection(everything=True))
        done.append(flush(plan, means, By(who=who, reason="reconciler drill")))

    try:
        struck = _damage(stage, do, _waiting)
    except WouldLose as error:
        raise NoMoment(str(error)) from None
    note = f"{done[0].jobs} jobs removed in {done[0].seconds:.1f} s"
    return replace(struck, over=struck.at, note=note)  # rows are told again while it still goes on


def _queued(stage: Stage) -> Struck:
    _fill_queues(stage)
    return _damage(stage, stage.scratch.wipe)


def _running(stage: Stage) -> Struck:
    """Empty Redis under long runs, and at once push edges for them: their locks are gone, and must come back first."""
    ids = stage.load.burst(Shape.LONG, _FEW)
    stage.until(lambda _: len(stage.running()) >= _LEAST, f"{_LEAST} running jobs")

    def do() -> None:
        stage.scratch.wipe()
        stage.load.push_again(ids)

    return _damage(stage, do)


def _retrying(stage: Stage) -> Struck:
    stage.load.burst(Shape.FAILING, _FEW)
    stage.until(
        lambda seen: seen.census.count(Place.RETRYING) >= _SOME, "jobs that wait for a retry"
    )
    return _damage(stage, stage.scratch.wipe)


def _scheduled(stage: Stage) -> Struck:
    stage.load.burst(Shape.SCHEDULED, _FEW)
    stage.until(lambda seen: seen.census.count(Place.SCHEDULED) >= _SOME, "scheduled jobs")
    return _damage(stage, stage.scratch.wipe)


def _pages(stage: Stage) -> Struck:
    """Empty Redis in the middle of a pass, which is run here to know when it is there."""
    unit = stage.rows.units()[0]
    stage.load.burst(Shape.UNTOLD, _PAGES * unit.batch_size)
    struck: list[Struck] = []
    asked = 0

    def standing() -> Stop | None:
        nonlocal asked
        asked += 1
        if asked == 3 and not struck:  # noqa: PLR2004 - before the first page, before its push, and then
            struck.append(_damage(stage, stage.scratch.wipe))
        return None

    rows = stage.rows
    tools = Tools.of(rows.seam, rows.engines, identity())
    report = Pass(unit, tools, 0, standing).run()
    if not struck:
        raise NoMoment("a pass had one page: there was nothing between two")
    (one,) = struck
    note = f"the pass under way ended {report.outcome} on page {report.pages}"
    return replace(one, note=note)


def _lists(stage: Stage) -> Struck:
    _fill_queues(stage)
    return _damage(stage, stage.scratch.drop_lists, _queued_only)


def _locks(stage: Stage) -> Struck:
    _fill_queues(stage)
    return _damage(stage, stage.scratch.drop_locks)


def _rollback(stage: Stage) -> Struck:
    """Let jobs end and others come, then put Redis back to where it was before."""
    _fill_queues(stage)
    before = stage.eyes.look()
    snapshot = stage.scratch.snapshot()
    kept = _keys(stage.scratch.census().alive)

    def moved(seen: Sight) -> bool:
        return len(before.pending.keys() - seen.pending.keys()) >= _ENOUGH

    stage.until(moved, f"{_ENOUGH} rows to be done after the snapshot")
    stage.load.burst(Shape.PLAIN, _FEW)
    age = stage.eyes.now() - before.at
    struck = _damage(stage, lambda: stage.scratch.restore(snapshot), lambda seen: seen.told - kept)
    return replace(struck, note=f"the snapshot was {age:.1f} s old")


def _full(stage: Stage) -> Struck:
    """Leave no memory for a while: pushes are refused, and workers go on."""
    _fill_queues(stage)
    at, running, before = stage.eyes.now(), len(stage.running()), stage.load.edges.refused
    pending = stage.eyes.look().pending.keys()
    try:
        limit = stage.scratch.limit(1)
    except StoreError as error:
        raise NoMoment(f"this Redis does not let its memory be limited: {error}") from None
    try:
        stage.load.burst(Shape.PLAIN, _FEW)
        stage.eyes.wait(lambda _: False, _FULL)
        seen = stage.eyes.look()
    finally:
        stage.scratch.limit(limit)
    refused = stage.load.edges.refused - before
    worked = len(pending - seen.pending.keys())
    note = f"for {_FULL:g} s: {worked} rows done meanwhile, {refused} pushes refused"
    if not worked and pending:
        raise NoMoment("nothing was worked off while Redis was full")
    return Struck(at, stage.eyes.now(), frozenset(seen.owed), running, note=note)


def _fill_queues(stage: Stage) -> None:
    stage.load.burst(Shape.PLAIN, _BURST)
    stage.until(lambda seen: seen.census.count(*_WAITING) >= _ENOUGH, "jobs that wait")


# --- processes die ---------------------------------------------------------------------------------


def _child(stage: Stage) -> Struck:
    _, child = _victim(stage)
    at = stage.eyes.now()
    os.kill(child, signal.SIGKILL)
    stage.dead.add(child)
    return _cut(stage, child, at)


def _freeze(stage: Stage) -> Struck:
    """Stop a worker, parent and child, until others have taken its jobs over; then let it go on."""
    worker, child = _victim(stage)
    both = (worker.pid, child)
    _signal(both, signal.SIGSTOP)
    struck = _cut(stage, child, stage.eyes.now())
    seconds = stage.lease + _BEYOND * stage.heartbeat
    try:
        stage.eyes.wait(lambda _: False, seconds)
    finally:
        _signal(both, signal.SIGCONT)
    note = f"for {seconds:g} s; what it ran was taken over"
    return replace(struck, note=note)


def _cut(stage: Stage, child: int, at: float) -> Struck:
    stage.cuts.append(Cut(child, at))
    pending = stage.eyes.look().pending
    runs = [run for run in stage.runs.under_way(child) if run.started <= at]
    hit = {run.key for run in runs} & pending.keys()
    return Struck(at, at, frozenset(hit), len(runs), by_run=True)


def _victim(stage: Stage) -> tuple[Process, int]:
    """Return a worker that has jobs running, and the pid of its child."""
    stage.load.burst(Shape.LONG, _FEW)
    stage.until(lambda _: bool(_busy(stage)), f"a worker with {_LEAST} jobs running")
    return _busy(stage)[0]


def _busy(stage: Stage) -> list[tuple[Process, int]]:
    found: dict[int, int] = defaultdict(int)
    for run in stage.running():
        found[run.pid] += 1
    workers = {process.pid: process for process in stage.workers}
    return [
        (workers[parent], pid)
        for pid, count in found.items()
        if count >= _LEAST and (parent := stage.runs.parents.get(pid, 0)) in workers
    ]


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


_STRIKES: Final[Mapping[Kind, Callable[[Stage], Struck]]] = {
    Kind.FLUSH: _flush,
    Kind.QUEUED: _queued,
    Kind.RUNNING: _running,
    Kind.PAGES: _pages,
    Kind.RETRYING: _retrying,
    Kind.SCHEDULED: _scheduled,
    Kind.LISTS: _lists,
    Kind.LOCKS: _locks,
    Kind.ROLLBACK: _rollback,
    Kind.FULL: _full,
    Kind.CHILD: _child,
    Kind.FREEZE: _freeze,
}
