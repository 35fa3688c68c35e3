"""For the tests of applications: `flush_drill` proves of your own reconcilers that a flush loses nothing.

    def test_a_flush_loses_nothing(database):
        insert_open_invoices(12)
        flush_drill(OpenInvoices)

A private Redis is emptied at the worst moments: while the rows' jobs are queued, scheduled, running, ended and not yet
settled, waiting for a retry, and in the middle of a pass. Your own jobs run, on your own database, in a real worker.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import ceil
from time import monotonic
from typing import Any, Final

from qik_core import EmbeddedWorker, Next, Payload, settings
from qik_core.drilling import Place, Scratch
from qik_core.embedded import Embedded
from qik_core.passes import Passes
from reconciler import migrate
from reconciler.definition import Definition
from reconciler.drill.evidence import Run
from reconciler.drill.rows import FOR_GOOD, Rows
from reconciler.drill.verdict import overlapping
from reconciler.engines import Engines
from reconciler.lease import identity
from reconciler.passes import Pass, Stop, Tools
from reconciler.report import Outcome, Report

__all__ = ["FlushDrill", "FlushDrillFailed", "Point", "flush_drill"]

_HEARTBEAT: Final = 0.2
_LEASE: Final = 2.0
_THREADS: Final = 2
_TRIES: Final = 20
"""Passes that may end `restarted` one after the other."""
_PAGES: Final = 3
_LOOK: Final = 0.05
_LATER: Final = 3600.0
_LINGER: Final = 2.5
"""Seconds that a job goes on under which Redis was emptied: a second run of its row may not start before 1 s is over, and
would not be seen beside a job of milliseconds."""
_LARGEST: Final = 1_000
_SHOWN: Final = 5


class Point(StrEnum):
    """A moment at which Redis loses something."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    PAGES = "pages"
    LISTS = "lists"  # the lists of the queues alone; locks stay
    LOCKS = "locks"  # the locks alone; jobs stay
    RUNNING = "running"
    ENDED = "ended"  # the job has ended, and nobody was told
    RETRYING = "retrying"


_AT_WORK: Final = (Point.RUNNING, Point.ENDED, Point.RETRYING)


class FlushDrillFailed(AssertionError):
    """Something was lost, or ran twice at once. The message says what, and at which point."""


class PlannedFailure(Exception):
    """Raised in place of a job, once, so that it waits for a retry."""


@dataclass(frozen=True, slots=True)
class FlushDrill:
    """What a drill has done."""

    rows: int
    """Rows that were pending, and that passes tell."""
    points: tuple[Point, ...]
    """The moments that were met, in order: Redis has lost something just then."""
    runs: int
    repeats: int
    """Runs that ended well after another one of the same row had: what a guard has to make harmless."""
    seconds: float
    held: int = 0
    """Rows that were pending, too, and that passes leave out on purpose: quarantined, in shadow, too late."""


def flush_drill(
    *reconcilers: Any, points: Sequence[Point | str] = tuple(Point), timeout: float = 60.0
) -> FlushDrill:
    """Empty a private Redis at these moments while the rows of these reconcilers are worked off.

    The rows are those that are pending in the databases of the settings: insert and commit some before, at least three.
    Their jobs run for real. Our own tables are made in `default` if they are missing. Must not be used inside `fake()`,
    `inline()` or `real()`. `timeout` in seconds is for all.

    Raises:
        FlushDrillFailed: rows were lost, or two runs of one row were under way at once.
        ValueError: too few rows are pending, or there is no such point.
        NoServer: no Redis is installed; the message says how to get one.
    """
    wanted = [Point(each) for each in points]
    definitions = [replace(each.definition, min_age=0.0, jitter=0.0) for each in reconcilers]
    before = settings.current()
    with ExitStack() as stack:
        server = stack.enter_context(Embedded())
        stack.callback(settings.use, before)
        drill = _Drill(server.url, definitions, monotonic() + timeout)
        stack.callback(drill.close)
        return drill.run(wanted)


@dataclass(slots=True)
class _Meddler:
    """Server middleware: notes each run, and springs one trap after the other, each on the job of another row.

    A trap that did not spring, since its job raised first, say, waits for the next job.
    """

    spring: Callable[[], None]
    met: set[Point]
    traps: deque[Point] = field(default_factory=deque)
    rows: frozenset[str] = frozenset()
    """The keys of the jobs that are drilled."""
    runs: list[Run] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, job: Payload, call_next: Next[None]) -> None:
        """Run the job, with what is planned for it."""
        key = "" if job.unique is None else job.unique.digest
        trap = self._trap(job) if key in self.rows else None
        if trap is Point.RETRYING:
            raise PlannedFailure("flush_drill lets this job fail once: it waits for a retry then")
        try:
            self._run(job, key, call_next, trap)
            if trap is Point.ENDED:
                self._spring(trap)
        finally:
            if trap is not None and trap not in self.met:
                self.traps.append(trap)

    def _run(self, job: Payload, key: str, call_next: Next[None], trap: Point | None) -> None:
        began, outcome = monotonic(), ""
        try:
            if trap is Point.RUNNING:
                self._spring(trap)
                threading.Event().wait(_LINGER)
            call_next(job)
            outcome = "ok"
        except Exception as error:
            outcome = type(error).__name__
            self.errors[f"{job.class_name}: {outcome}: {error}"] += 1
            raise
        finally:
            self.runs.append(Run(key, job.jid, 0, began, monotonic(), outcome))

    def _spring(self, trap: Point) -> None:
        self.spring()
        self.met.add(trap)

    def _trap(self, job: Payload) -> Point | None:
        with self._lock:
            trap = self.traps.popleft() if self.traps else None
        if trap is Point.RETRYING and not job.get("retry"):
            self.traps.append(trap)  # this job would be dead
            return None
        return trap


class _Drill:
    """One drill on one private server."""

    def __init__(self, url: str, definitions: Sequence[Definition], until: float) -> None:
        self._began = monotonic()
        self._until = until
        self._met: set[Point] = set()
        self._meddler = _Meddler(self._wipe_and_tell, self._met)
        now = settings.current()
        queues = dict.fromkeys(name for each in definitions for name in each.queues)
        settings.use(
            replace(
                now,
                redis=url,
                queues=tuple((name, 1) for name in queues),
                capsules={},
                heartbeat=_HEARTBEAT,
                lease=_LEASE,
                poll=_LOOK,
                server_middleware=(self._meddler, *now.server_middleware),
            )
        )
        self._scratch = Scratch(url)
        self._engines = Engines(now.databases)
        self._rows = Rows(definitions, self._engines, Passes())
        self._pause = threading.Event()

    def run(self, points: Sequence[Point]) -> FlushDrill:
        """Do all of it."""
        migrate.upgrade(self._engines.home())
        back = {key for key, why in self._rows.held().items() if why in FOR_GOOD}
        pending = {key: row.name for key, row in self._rows.pending().items() if key not in back}
        if len(pending) < _PAGES:
            beside = f" beside {len(back)} that are held back on purpose" if back else ""
            raise ValueError(
                f"{len(pending)} rows are pending{beside}, and a drill needs {_PAGES} at least: "
                "insert and commit some before"
            )
        self._meddler.rows = frozenset(pending)
        self._tell()
        self._check("before the drill")
        for point in points:
            if point not in _AT_WORK:
                self._break(point)
        self._meddler.traps.extend(point for point in points if point in _AT_WORK)
        self._work(pending)
        return replace(self._result(len(pending), points), held=len(back))

    def close(self) -> None:
        """Drop the connections."""
        self._scratch.close()
        self._engines.dispose()

    # --- while nothing runs ----------------------------------------------------------------------

    def _break(self, point: Point) -> None:
        """Damage Redis at this point, let passes tell again, and hold that every row is told."""
        if self._damage(point):
            self._met.add(point)
        self._tell()
        self._check(f"after the point {point}")

    def _damage(self, point: Point) -> bool:
        """Bring Redis to this point and damage it; return whether there was something to lose."""
        if point is Point.PAGES:
            self._scratch.wipe()
            cut = [self._cut(unit) for unit in self._rows.units()]  # each of them
            return any(cut)
        if point is Point.LISTS:
            return self._scratch.drop_lists() > 0
        if point is Point.LOCKS:
            return self._scratch.drop_locks() > 0
        if point is Point.SCHEDULED:
            self._scratch.wipe()
            for unit in self._rows.units():
                self._pass(replace(unit, jitter=_LATER))
        return self._wipe(Place.SCHEDULED if point is Point.SCHEDULED else Place.QUEUED)

    def _wipe(self, place: Place) -> bool:
        """Empty Redis; return whether jobs of the drilled rows were at this place."""
        there = {key.decode() for key in self._scratch.census().at(place)}
        self._scratch.wipe()
        return bool(there & self._meddler.rows)

    def _cut(self, unit: Definition) -> bool:
        """Wipe Redis between two pages of a pass; return whether that has ended the pass."""
        asked = 0

        def standing() -> Stop | None:
            nonlocal asked
            asked += 1
            if asked == _PAGES:
                self._scratch.wipe()
            return None

        count = len(Rows([unit], self._engines, self._rows.seam).pending())
        size = min(_LARGEST, max(1, ceil(count / _PAGES)))
        return self._pass(replace(unit, batch_size=size), standing).outcome is Outcome.RESTARTED

    def _check(self, when: str) -> None:
        pending = self._rows.pending()
        alive = [key.decode() for key in self._scratch.census().alive]
        fine = self._rows.told(alive) & set(alive) | self._rows.held().keys()
        lost = [row.name for key, row in pending.items() if key not in fine]
        if lost:
            raise FlushDrillFailed(
                f"{len(lost)} of {len(pending)} rows are lost {when}: no job stands for {_some(lost)}."
                " If none is told at all, pushes do not reach the private server: leave qik_fake out"
            )

    # --- while jobs run --------------------------------------------------------------------------

    def _work(self, pending: dict[str, str]) -> None:
        """Let a real worker run the jobs, with passes beside it, until no row is pending."""
        worker = EmbeddedWorker(settings.current(), concurrency=_THREADS)
        with worker:
            while left := self._rows.pending().keys() & pending.keys():
                if monotonic() > self._until:
                    raise FlushDrillFailed(self._unfinished([pending[key] for key in left]))
                if self._scratch.census().count(Place.RETRYING) and self._wipe(Place.RETRYING):
                    self._met.add(Point.RETRYING)
                self._tell()
                self._pause.wait(_LOOK)

    def _unfinished(self, left: Sequence[str]) -> str:
        errors = "; ".join(f"{text} ({count}×)" for text, count in self._meddler.errors.items())
        said = f" Jobs raised: {errors}" if errors else ""
        return f"{len(left)} rows are still pending when the time is up: {_some(left)}.{said}"

    def _wipe_and_tell(self) -> None:
        """Empty Redis under a job that runs, and let a pass come before anybody has noticed."""
        self._scratch.wipe()
        self._tell()

    def _result(self, rows: int, points: Sequence[Point]) -> FlushDrill:
        runs = self._meddler.runs
        pairs = overlapping(runs, ())
        if pairs:
            raise FlushDrillFailed(
                f"{len(pairs)} times two runs of one row were under way at once, {pairs[0][0].jid} and {pairs[0][1].jid}"
            )
        ended = Counter(run.key for run in runs if run.key and run.outcome == "ok")
        return FlushDrill(
            rows,
            tuple(point for point in points if point in self._met),
            len(runs),
            sum(count - 1 for count in ended.values()),
            monotonic() - self._began,
        )

    # --- passes ----------------------------------------------------------------------------------

    def _tell(self) -> None:
        for unit in self._rows.units():
            report = self._pass(unit)
            for _ in range(_TRIES):
                if report.outcome is not Outcome.RESTARTED:
                    break
                report = self._pass(unit)
            if report.outcome is not Outcome.COMPLETED:
                raise FlushDrillFailed(f"a pass of {unit.unit} {report.outcome}: {report.reason}")

    def _pass(self, unit: Definition, standing: Callable[[], Stop | None] = lambda: None) -> Report:
        tools = Tools.of(self._rows.seam, self._engines, identity())
        return Pass(unit, tools, 0, standing).run()


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(sorted(names)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
