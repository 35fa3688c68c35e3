"""Workers of any system: started, watched while they boot, let at jobs, and ended; and what they have counted."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from benchmarks import checks
from benchmarks.bench import Bench, wait_for
from benchmarks.names import QUEUE, CaseName
from benchmarks.report import OURS
from qik_core.api import Queue
from qik_core.store import Store

CONCURRENCY: Final = 10
CORES: Final = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)

_SLOWEST: Final = 50
"""Jobs a second: who is slower has failed."""
_rounds: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class Tally:
    """What all processes of a worker have counted."""

    calls: int = 0
    distinct: int = 0
    sum: int = 0
    waits: tuple[int, ...] = ()
    """Nanoseconds from each push to the beginning of its run."""
    first: float = 0.0
    """When the first job began, by the monotonic clock."""
    last: float = 0.0


class Site:
    """The folder of one run of a worker: its log, and the files by which its processes report."""

    def __init__(self, bench: Bench, what: str) -> None:
        self.folder = bench.folder / f"{what}-{next(_rounds)}"
        self.folder.mkdir(parents=True)
        self.log = self.folder / "worker.log"
        self.end = self.folder / "end"

    def tally(self) -> Tally:
        """Return what has been counted, as far as it is written."""
        found = [json.loads(file.read_text()) for file in self.folder.glob("*.json")]
        marked = sum(each["distinct"] for each in found if not each["jids"])
        return Tally(
            sum(each["calls"] for each in found),
            len({jid for each in found for jid in each["jids"]}) + marked,
            sum(each["sum"] for each in found),
            tuple(wait for each in found for wait in each["waits"]),
            min((each["first"] for each in found), default=0.0),
            max((each["last"] for each in found), default=0.0),
        )

    def counted(self, n: int, who: str) -> Tally:
        """Wait until n calls are counted, or more. Raises MeasurementFailed."""
        what = f"{n} jobs of {who}: see {self.log}"
        patience = 60.0 + n / _SLOWEST
        wait_for(lambda: self.tally().calls >= n, what, patience, every=0.1)  # reading costs, too
        return self.tally()

    def environment(self) -> Mapping[str, str]:
        """Return what its processes need to know."""
        return {"BENCH_TALLY": str(self.folder), "BENCH_END": str(self.end)}


class System(Protocol):
    """A system that can do the work of the benchmark, or some of it."""

    @property
    def name(self) -> str:
        """What it is called in the results."""

    @property
    def cases(self) -> frozenset[CaseName]:
        """What it can do."""

    def fresh(self, bench: Bench) -> None:
        """Empty the server, and whatever else it keeps jobs in."""

    def push(self, bench: Bench, kind: str, n: int, argument: object = "") -> Mapping[str, Any]:
        """Push n jobs in a process of its own; return at least the seconds that it took."""

    def share(self, n: int) -> int:
        """Return how many of n jobs it is given, so that a slow one's rounds end."""

    def hold(self, bench: Bench, kind: str, n: int) -> None:
        """Put n jobs where no worker gets at them."""

    def commands(self, processes: int) -> Sequence[Sequence[str]]:
        """Return the commands that make a worker of so many processes."""

    def ready(self, bench: Bench, site: Site, processes: int) -> bool:
        """Return whether all processes of the worker are up and idle."""

    def release(self, bench: Bench) -> bool:
        """Let the worker at the jobs; False: it has begun already, since its jobs cannot be held."""

    def pushed(self, bench: Bench, n: int, locks: int) -> tuple[str, ...]:
        """Return what is wrong after n jobs were pushed."""

    def left(self, bench: Bench) -> tuple[str, ...]:
        """Return what is left behind after all jobs were worked off."""


@contextlib.contextmanager
def worker(
    system: System, bench: Bench, site: Site, processes: int = 1, **more: str
) -> Iterator[list[int]]:
    """Run a worker of this system, idle when the block begins, until it ends; yields the pids that were started."""
    environment = bench.environment(**site.environment(), **more)
    with site.log.open("ab") as log:
        started = [
            subprocess.Popen(command, env=environment, cwd=site.folder, stdout=log, stderr=log)
            for command in system.commands(processes)
        ]
    try:
        wait_for(
            lambda: system.ready(bench, site, processes), f"{system.name}'s worker: see {site.log}"
        )
        yield [each.pid for each in started]
    finally:
        site.end.touch()
        _end(started)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for each in started:
        each.send_signal(signal.SIGTERM)
    for each in started:
        try:
            each.wait(40)
        except subprocess.TimeoutExpired:
            each.kill()
            each.wait()


class Qik:
    """Ours: `qik work`. The queue is paused while it boots."""

    name = OURS
    cases = frozenset(CaseName)

    def fresh(self, bench: Bench) -> None:
        """Empty the server."""
        bench.fresh()

    def push(self, bench: Bench, kind: str, n: int, argument: object = "") -> Mapping[str, Any]:
        """Push by `side.py`."""
        return bench.side(kind, n, argument)

    def share(self, n: int) -> int:
        """Return all of them."""
        return n

    def hold(self, bench: Bench, kind: str, n: int) -> None:
        """Put the jobs into a paused queue."""
        store = Store(bench.redis_url, birth_ms=0)
        store.look()  # nothing is held back, as it is after a loss
        Queue(QUEUE, store).pause()
        store.close()
        if n:
            self.push(bench, kind, n)

    def commands(self, processes: int) -> Sequence[Sequence[str]]:
        """Return the command that users run."""
        work = [sys.executable, "-m", "qik_core.cli", "work", "benchmarks.jobs"]
        return [[*work, "-p", str(processes), "-c", str(CONCURRENCY), "-q", QUEUE]]

    def ready(self, bench: Bench, site: Site, processes: int) -> bool:
        """Return whether all processes sleep until somebody pushes."""
        del site
        return bench.redis.scard(f"qik:idle:{QUEUE}") == processes

    def release(self, bench: Bench) -> bool:
        """Take the pause away, which wakes the worker."""
        store = Store(bench.redis_url)
        resumed = Queue(QUEUE, store).resume()
        store.close()
        return resumed

    def pushed(self, bench: Bench, n: int, locks: int) -> tuple[str, ...]:
        """Return what is wrong with the queue and the locks."""
        return checks.pushed(bench.redis, n, locks=locks)

    def left(self, bench: Bench) -> tuple[str, ...]:
        """Return what is in queues, sets and working hashes, and which locks are held."""
        return checks.left(bench.redis)
