"""A drain: a worker is up and idle, then it is let at n jobs, and the last of them says when it was done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks import checks
from benchmarks.bench import Bench, MeasurementFailed, wait_for
from benchmarks.names import CaseName
from benchmarks.report import Measure, rate
from benchmarks.workers import CORES, Site, System, worker

Runner = Callable[[Bench, int, int], list[Measure]]
"""Runs one round: takes the bench, how many jobs, and the number of the round."""
_SETTLED: Final = 5.0


@dataclass(frozen=True, slots=True)
class Manner:
    """How a drain is run."""

    kind: str = "bulk"
    """How the jobs are pushed, which says what they do."""
    processes: int = 1
    log: bool = False
    """With the lines that the system writes for each job, into a file."""


MANNERS: Final = {
    CaseName.DRAIN: Manner(),
    CaseName.DRAIN_ALL_CORES: Manner(processes=CORES),
    CaseName.DRAIN_1MS: Manner("bulk_naps"),
    CaseName.DRAIN_USERS: Manner("bulk_unique", log=True),
}


def runner(case: CaseName, system: System) -> Runner:
    """Return what runs a drain by this system."""

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        n = system.share(n)
        seconds, wrong = drain(system, bench, n, MANNERS[case])
        return rate(case, system.name, n, seconds, wrong)

    return run


def drain(
    system: System, bench: Bench, n: int, manner: Manner = MANNERS[CaseName.DRAIN]
) -> tuple[float, tuple[str, ...]]:
    """Return the seconds from the release of n jobs to the end of the last, and what makes the round void."""
    system.fresh(bench)
    site = Site(bench, f"drain-{system.name}")
    system.hold(bench, manner.kind, n)
    log = {"BENCH_LOG": "1"} if manner.log else {}
    with worker(system, bench, site, manner.processes, **log):
        began = time.monotonic()
        held = system.release(bench)
        site.counted(n, system.name)
        settle(system, bench)
    tally = site.tally()  # as it stands after the end, runs too many included
    wrong = checks.counted(n, tally) + system.left(bench)
    return tally.last - (began if held else tally.first), wrong


def settle(system: System, bench: Bench) -> None:
    """Wait for a settled end; what is left even then is told by the check."""
    with contextlib.suppress(MeasurementFailed):
        wait_for(lambda: not system.left(bench), "a settled end", _SETTLED)
