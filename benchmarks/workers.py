"""A drain: a worker is up and idle, then it is let at n jobs, and the last of them says when it was done."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks import checks
from benchmarks.bench import Bench, MeasurementFailed, appears, wait_for
from benchmarks.jobs import QUEUE, Noop
from benchmarks.report import OURS
from qik_core import configure
from qik_core.store import Store

CONCURRENCY = 10


class System(Protocol):
    """A system that can work off the jobs of the benchmark."""

    @property
    def name(self) -> str:
        """What it is called in the results."""

    def fill(self, bench: Bench, n: int) -> None:
        """Put n jobs where the worker does not get at them."""

    def command(self) -> Sequence[str]:
        """Return the command of a worker."""

    def ready(self, bench: Bench, files: Files) -> bool:
        """Return whether the worker is up and idle."""

    def release(self, bench: Bench) -> None:
        """Let the worker at the jobs."""

    def ask(self, bench: Bench, file: Path) -> None:
        """Push the job that writes down what the worker has counted."""


class Files:
    """The files by which a worker reports, in a folder of one round."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.ready, self.done, self.count = (folder / name for name in ("ready", "done", "count"))
        self.log = folder / "worker.log"


def drain(system: System, bench: Bench, n: int, round_: int) -> tuple[float, tuple[str, ...]]:
    """Return the seconds from the release of n jobs to the end of the last, and what makes the round void."""
    bench.fresh()
    files = Files(bench.folder / f"drain-{system.name}-{round_}")
    system.fill(bench, n)
    with worker(system, bench, n, files):
        wait_for(lambda: system.ready(bench, files), f"{system.name}'s worker: see {files.log}")
        began = time.monotonic()
        system.release(bench)
        done = appears(files.done, f"{system.name}'s last job: see {files.log}")
        system.ask(bench, files.count)
        counted = appears(files.count, f"{system.name}'s count: see {files.log}")
        with contextlib.suppress(MeasurementFailed):  # what is left is told by the check
            wait_for(lambda: not checks.drained(bench.redis, n, counted), "a settled end", 5.0)
        return done["at"] - began, checks.drained(bench.redis, n, counted)


@contextlib.contextmanager
def worker(system: System, bench: Bench, n: int, files: Files) -> Iterator[None]:
    """Run a worker of this system that counts to n, until the block ends."""
    environment = bench.environment(
        BENCH_N=str(n), BENCH_DONE=str(files.done), BENCH_READY=str(files.ready)
    )
    with files.log.open("ab") as log:
        worker = subprocess.Popen(
            system.command(), env=environment, cwd=bench.folder, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(40)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


class Qik:
    """Ours: `qik work` with one process. The queue is paused while it boots."""

    name = OURS

    def __init__(self) -> None:
        self.last = 0
        """The job that is pushed when the worker is released."""

    def fill(self, bench: Bench, n: int) -> None:
        """Put all jobs but the last into a paused queue."""
        Store(bench.redis_url, birth_ms=0).look()  # nothing is held back, as it is after a loss
        bench.redis.sadd("paused", QUEUE)
        bench.side("bulk", n - 1)
        self.last = n - 1
        configure(redis=bench.redis_url)

    def command(self) -> Sequence[str]:
        """Return the command that users run, with one line per job off."""
        work = [sys.executable, "-m", "qik_core.cli", "work", "benchmarks.jobs"]
        return [*work, "-p", "1", "-c", str(CONCURRENCY), "-q", QUEUE]

    def ready(self, bench: Bench, files: Files) -> bool:
        """Return whether the worker sleeps until somebody pushes."""
        del files
        return bool(bench.redis.exists(f"qik:idle:{QUEUE}"))

    def release(self, bench: Bench) -> None:
        """Take the pause away and push the last job, which wakes the worker."""
        bench.redis.srem("paused", QUEUE)
        Noop.perform_async(self.last)

    def ask(self, bench: Bench, file: Path) -> None:
        """Push the job that writes down what the worker has counted."""
        bench.side("count", 0, file)
