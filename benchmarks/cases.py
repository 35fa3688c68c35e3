"""What is measured, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import drains, passes, pushes, repairs, watches
from benchmarks.bench import Bench
from benchmarks.drains import MANNERS, Runner
from benchmarks.names import NAP, QUEUE, CaseName
from benchmarks.pushes import PAYLOAD
from benchmarks.report import LIMIT, OURS, Measure, rate
from benchmarks.workers import Qik, System


@dataclass(frozen=True, slots=True)
class Case:
    """One case: how many jobs (a multiple of `step`), the raw operation, and who else does it."""

    name: CaseName
    n: int
    limit: Runner
    made: Callable[[System], Runner]
    """Makes what runs it by one system."""
    step: int = 1000
    fixed: bool = False
    """Its number is not scaled."""

    def systems(self, peers: Sequence[System]) -> Mapping[str, Runner]:
        """Return who does it, and how: ours, the raw operation, and of the peers those that can."""
        able = [peer for peer in peers if self.name in peer.cases]
        theirs = {peer.name: self.made(peer) for peer in able}
        return {OURS: self.made(Qik()), LIMIT: self.limit, **theirs}

    def scaled(self, scale: float) -> int:
        """Return how many jobs there are at this scale."""
        return (
            self.n if self.fixed else max(int(self.n * scale) // self.step * self.step, self.step)
        )


def _only_ours(runner: Runner) -> Callable[[System], Runner]:
    return lambda _: runner


def _drain_limit(case: CaseName, kind: str, argument: object = "") -> Runner:
    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        bench.fresh()
        bench.side("limit_bulk", n, PAYLOAD)
        processes = MANNERS[case].processes
        if processes > 1:
            seconds = bench.sides(kind, n // processes, processes)
        else:
            seconds = float(bench.side(kind, n, argument)["seconds"])
        left = bench.redis.llen(f"queue:{QUEUE}")
        return rate(case, LIMIT, n, seconds, (f"queued: {left}, not 0",) if left else ())

    return run


def _push(name: CaseName, n: int) -> Case:
    return Case(name, n, pushes.limit(name), lambda system: pushes.runner(name, system))


def _bytes(name: CaseName) -> Case:
    weigher = pushes.limit_weight(name)
    return Case(name, 100_000, weigher, lambda system: pushes.weigher(name, system), fixed=True)


def _drain(name: CaseName, n: int, kind: str = "limit_drain", argument: object = "") -> Case:
    limit = _drain_limit(name, kind, argument)
    return Case(name, n, limit, lambda system: drains.runner(name, system))


_LATENCY: Final = CaseName.LATENCY
_HALF: Final = CaseName.LATENCY_HALF_LOAD
CASES: Final = (
    _push(CaseName.PUSH, 20_000),
    _push(CaseName.PUSH_UNIQUE, 20_000),
    _push(CaseName.BULK, 200_000),
    _push(CaseName.BULK_UNIQUE, 200_000),
    _push(CaseName.BULK_JITTERED, 200_000),
    _bytes(CaseName.BYTES),
    _bytes(CaseName.BYTES_UNIQUE),
    _drain(CaseName.DRAIN, 100_000),
    _drain(CaseName.DRAIN_ALL_CORES, 100_000),
    _drain(CaseName.DRAIN_1MS, 20_000, "limit_drain_naps", NAP),
    _drain(CaseName.DRAIN_USERS, 50_000),
    Case(_LATENCY, 500, watches.trips(_LATENCY), watches.latency, step=20),
    Case(_HALF, 500, watches.trips(_HALF), watches.half_load, step=20),
    Case(CaseName.IDLE_CPU, 20, watches.limit_idle_cpu, watches.idle_cpu, step=1),
    Case(CaseName.RSS, 100_000, watches.limit_rss, watches.rss),
    Case(CaseName.PROMOTE, 100_000, repairs.limit_promote, repairs.promote),
    Case(CaseName.RECOVER, 10, repairs.limit_recover, _only_ours(repairs.recover), fixed=True),
    Case(
        CaseName.RECOVER_BACKLOG,
        10_000,
        repairs.limit_recover_backlog,
        _only_ours(repairs.recover_backlog),
    ),
    Case(CaseName.FLUSH, 100_000, repairs.limit_flush, _only_ours(repairs.flush)),
    Case(
        CaseName.PASS_NEW,
        100_000,
        pushes.raw(CaseName.PASS_NEW, "limit_bulk"),
        _only_ours(passes.new),
    ),
    Case(
        CaseName.PASS_JITTERED,
        100_000,
        pushes.raw(CaseName.PASS_JITTERED, "limit_later", later=True),
        _only_ours(passes.jittered),
    ),
    Case(CaseName.PASS_TOLD, 100_000, passes.reading, _only_ours(passes.told)),
)
