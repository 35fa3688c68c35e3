"""What the demo does to the running system, and how it sees that it has healed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlalchemy import Engine, insert

from examples.indexer.evidence import Fault
from examples.indexer.files import Input
from examples.indexer.jobs import IndexFile
from examples.indexer.models import Document, Status
from examples.indexer.services import Service, Surroundings, worker
from examples.indexer.watch import QUEUES, Copies, Open, Watch

_LEAST_RUNNING = 2


class NoMoment(Exception):
    """The system never was in the state that a fault needs, and so could not be hit."""


@dataclass(slots=True)
class Stage:
    """What faults act upon."""

    around: Surroundings
    engine: Engine
    watch: Watch
    services: list[Service]
    large: list[Input]
    dice: random.Random
    wait: Callable[[Callable[[], bool]], bool]
    """Goes on showing the demo until a condition holds; False if it did not hold in time."""
    dead: set[int] = field(default_factory=set)
    """Processes that were ended with SIGKILL."""

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition.

        Raises:
            NoMoment: it did not come true in time.
        """
        if not self.wait(condition):
            raise NoMoment(f"waited in vain for {what}")


@dataclass(slots=True)
class Healing:
    """A fault that has happened, and what is known of its end."""

    fault: Fault
    by_run: bool
    """A row has healed when it runs again; otherwise when it is told again."""
    healed: set[int] = field(default_factory=set)

    def look(self, now: float, copies: Copies, done: set[int], started: set[int]) -> bool:
        """Take in what is seen now; return whether everything has healed."""
        again = started if self.by_run else copies.told
        self.healed |= set(self.fault.hit) & (again | done)
        if self.healed and self.fault.first is None:
            self.fault = replace(self.fault, first=now)
        if len(self.healed) == len(set(self.fault.hit)) and self.fault.healed is None:
            self.fault = replace(self.fault, healed=now)
        return self.fault.healed is not None


def strike(kind: str, stage: Stage) -> Healing:
    """Do one fault to the running system.

    Raises:
        NoMoment: there was nothing in flight that it could hit.
    """
    return _STRIKES[kind](stage)


def _flush(stage: Stage) -> Healing:
    """Empty Redis while rows are queued and long ones run, and at once push edges for all that run."""
    _large_files_arrive(stage)
    before, running = stage.watch.copies(), _runs(stage)
    at = time.monotonic()
    stage.watch.redis.flushall()
    under_way = {run.document_id for run in running}
    for document_id in under_way:
        IndexFile.set(queue="urgent").perform_async(document_id)
    hit = set(before.queued) - under_way - stage.watch.done()
    return Healing(_fault("flush", at, hit, len(running)), by_run=False)


def _large_files_arrive(stage: Stage) -> None:
    """Insert the large files and push their edges, and wait until they run: a flush must find long runs."""
    rows = [
        {"id": item.id, "path": item.path, "rate": item.rate, "status": Status.PENDING}
        for item in stage.large
    ]
    with stage.engine.begin() as connection:
        connection.execute(insert(Document), rows)
    for item in stage.large:
        IndexFile.set(queue="urgent").perform_async(item.id)
    ids = {item.id for item in stage.large}
    stage.until(
        lambda: len(ids & {run.document_id for run in _runs(stage)}) >= _LEAST_RUNNING,
        "two large files being read",
    )


def _lists(stage: Stage) -> Healing:
    """Delete the lists; the locks of what was in them stay."""
    stage.until(lambda: bool(stage.watch.listed()), "a queue that is not empty")
    before = stage.watch.copies()
    at = time.monotonic()
    stage.watch.redis.delete(*(f"queue:{name}" for name in QUEUES))
    after, running = stage.watch.copies(), _runs(stage)
    under_way = {run.document_id for run in running}
    hit = before.told - after.told - under_way - stage.watch.done()
    return Healing(_fault("lists", at, hit, len(running)), by_run=False)


def _child(stage: Stage) -> Healing:
    """End one child with SIGKILL; its parent lives."""
    _, child = _victim(stage)
    os.kill(child, signal.SIGKILL)
    return _death("child", stage, time.monotonic(), child)


def _host(stage: Stage) -> Healing:
    """End a parent and its child with SIGKILL, as the loss of a host would, and start another worker."""
    service, child = _victim(stage)
    os.kill(service.pid, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    healing = _death("host", stage, time.monotonic(), child)
    service.close()
    stage.services.remove(service)
    fresh = worker(len(stage.services) + 1, stage.around)
    stage.services.append(fresh)
    fresh.start()
    return healing


def _commit(stage: Stage) -> Healing:
    """Let a child end itself with SIGKILL after the commit of a job and before that is settled."""
    _, child = _victim(stage)
    crash = stage.around.crash
    crash.with_suffix(".new").write_text(str(child))
    crash.with_suffix(".new").rename(crash)
    done = crash.with_suffix(".done")
    stage.until(done.exists, f"process {child} to die after a commit")
    told = json.loads(done.read_text())
    healing = _death("commit", stage, told["at"], child)
    healing.fault = replace(healing.fault, hit=(*healing.fault.hit, told["document_id"]))
    return healing


def _victim(stage: Stage) -> tuple[Service, int]:
    """Return a worker that has jobs running, and the pid of its child."""

    def busy() -> list[tuple[Service, int]]:
        found: dict[int, list[Open]] = {}
        for run in _runs(stage):
            found.setdefault(run.parent, []).append(run)
        return [
            (service, runs[-1].pid)
            for service in stage.services
            if len(runs := found.get(service.pid, [])) >= _LEAST_RUNNING
        ]

    stage.until(lambda: bool(busy()), "a worker with two jobs running")
    return stage.dice.choice(busy())


def _runs(stage: Stage) -> list[Open]:
    """Return the runs of pending rows that are under way in processes that live, in the order of their start."""
    done = stage.watch.done()
    runs = (
        run
        for run in stage.watch.open_runs()
        if run.pid not in stage.dead and run.document_id not in done
    )
    return sorted(runs, key=lambda run: run.started)


def _death(kind: str, stage: Stage, at: float, child: int) -> Healing:
    """Note the death of a child. A row that was done already cannot be lost, so it does not count as hit."""
    hit = {run.document_id for run in _runs(stage) if run.pid == child}
    stage.dead.add(child)
    return Healing(replace(_fault(kind, at, hit, len(hit)), dead=(child,)), by_run=True)


def _fault(kind: str, at: float, hit: set[int], running: int) -> Fault:
    return Fault(kind, at, tuple(sorted(hit)), running, dead=(), first=None, healed=None)


_STRIKES: dict[str, Callable[[Stage], Healing]] = {
    "flush": _flush,
    "lists": _lists,
    "child": _child,
    "commit": _commit,
    "host": _host,
}
