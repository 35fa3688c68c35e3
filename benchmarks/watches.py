"""A worker that is watched: how long one job waits, what an idle worker costs, what memory it holds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import checks, limits
from benchmarks.bench import Bench
from benchmarks.drains import MANNERS, Runner, drain, settle
from benchmarks.names import CaseName, Figure
from benchmarks.report import LIMIT, Measure
from benchmarks.workers import Site, System, worker

_TICK: Final = os.sysconf("SC_CLK_TCK")
_CAPACITY: Final = 5_000
_BARE: Final = (
    "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')))"
)


def latency(system: System) -> Runner:
    """Return what measures how long each of n single jobs waits for an idle worker."""

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        site = _waiting(system, bench)
        with worker(system, bench, site):
            system.release(bench)
            system.push(bench, "latency", n)
            site.counted(n, system.name)
            settle(system, bench)
        tally = site.tally()
        wrong = checks.waited(n, tally) + system.left(bench)
        return _waits(CaseName.LATENCY, system.name, tally.waits, wrong)

    return run


def half_load(system: System) -> Runner:
    """Return the same among jobs of a millisecond, half as many as one process has just worked off in a second."""

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        case = CaseName.LATENCY_HALF_LOAD
        seconds, wrong = drain(system, bench, _CAPACITY, MANNERS[CaseName.DRAIN_1MS])
        site = _waiting(system, bench)
        with worker(system, bench, site):
            system.release(bench)
            naps = int(system.push(bench, "load", n, _CAPACITY / seconds / 2)["naps"])
            site.counted(n + naps, system.name)
            settle(system, bench)
        tally = site.tally()
        wrong += checks.waited(n + naps, tally) + system.left(bench)
        return _waits(case, system.name, tally.waits, wrong)

    return run


def trips(case: CaseName) -> Runner:
    """Return what measures the round trips of nothing."""

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        return _waits(case, LIMIT, bench.side("limit_trips", n)["waits"], ())

    return run


def idle_cpu(system: System) -> Runner:
    """Return what measures the CPU of an idle worker, all of its processes together, for n seconds."""

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        site = _waiting(system, bench)
        with worker(system, bench, site) as pids:
            system.release(bench)
            time.sleep(1.0)
            before = cpu(pids)
            time.sleep(n)
            value = 100 * (cpu(pids) - before) / n
        wrong = system.left(bench)
        return [Measure(CaseName.IDLE_CPU, system.name, n, value, wrong, Figure.CPU)]

    return run


def limit_idle_cpu(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Measure the CPU of a client that blocks and is never answered."""
    value = 100 * float(bench.side("limit_idle", n)["cpu"]) / n
    return [Measure(CaseName.IDLE_CPU, LIMIT, n, value, (), Figure.CPU)]


def rss(system: System) -> Runner:
    """Return what measures the memory of an idle worker's parent and child, and of the child after n jobs."""

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        system.fresh(bench)
        site = Site(bench, f"rss-{system.name}")
        system.hold(bench, "bulk_marks", n)
        with worker(system, bench, site, BENCH_MARKS=str(n)) as pids:
            parent, *children = family(pids[:1])
            child = children[0] if children else parent
            found = {Figure.CHILD: limits.memory(child)}
            if children:
                found[Figure.PARENT] = limits.memory(parent)
            system.release(bench)
            site.counted(n, system.name)
            settle(system, bench)
            found[Figure.AFTER] = limits.memory(child)
        wrong = checks.counted(n, site.tally()) + system.left(bench)
        return [
            Measure(CaseName.RSS, system.name, n, value, wrong, figure)
            for figure, value in found.items()
        ]

    return run


def limit_rss(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Measure the memory of a bare interpreter, and of one with a Redis client."""
    bare = subprocess.run(
        [sys.executable, "-S", "-c", _BARE], capture_output=True, text=True, check=True
    )
    child = float(bench.side("limit_remember", n)["resident"])
    found = {
        Figure.PARENT: int(bare.stdout) / 1024,
        Figure.CHILD: child,
        Figure.AFTER: child,
    }
    return [Measure(CaseName.RSS, LIMIT, n, value, (), figure) for figure, value in found.items()]


def family(pids: Sequence[int]) -> list[int]:
    """Return these processes and all that descend from them, the eldest first."""
    found = list(pids)
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(word) for word in task.read_text().split()]
    return found


def _waiting(system: System, bench: Bench) -> Site:
    """Empty the server for a worker that has nothing to do yet."""
    system.fresh(bench)
    system.hold(bench, "bulk", 0)
    return Site(bench, f"watch-{system.name}")


def _waits(
    case: CaseName, system: str, nanoseconds: Sequence[int], wrong: tuple[str, ...]
) -> list[Measure]:
    waits = sorted(wait / 1e6 for wait in nanoseconds)
    at: Callable[[float], float] = lambda part: waits[min(int(part * len(waits)), len(waits) - 1)]  # noqa: E731
    return [
        Measure(case, system, len(waits), at(part), wrong, figure)
        for figure, part in ((Figure.P50, 0.5), (Figure.P99, 0.99))
    ]


def cpu(pids: Sequence[int]) -> float:
    """Return the CPU seconds of these processes and their descendants."""
    fields = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in family(pids)
    ]
    return sum(int(each[11]) + int(each[12]) for each in fields) / _TICK
