"""What is measured, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import checks, passes, sidekiq
from benchmarks.bench import Bench
from benchmarks.jobs import QUEUE
from benchmarks.report import LIMIT, OURS, Measure
from benchmarks.workers import Qik, System, drain

_PAYLOAD = 190
"""Bytes of one of our payloads without a lock; the limits move as many."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case: how many jobs, and how each system does it. A runner takes (bench, n, round)."""

    name: str
    n: int
    systems: dict[str, Callable[[Bench, int, int], Measure]]


def _ours(case: str, kind: str, *, locked: bool = False) -> Callable[[Bench, int, int], Measure]:
    def run(bench: Bench, n: int, _round: int) -> Measure:
        bench.fresh()
        seconds = bench.side(kind, n)
        wrong = checks.pushed(bench.redis, n, locks=n if locked else 0)
        return Measure(case, OURS, n, seconds, wrong)

    return run


def _limit(case: str, kind: str, *, later: bool = False) -> Callable[[Bench, int, int], Measure]:
    def run(bench: Bench, n: int, _round: int) -> Measure:
        bench.fresh()
        seconds = bench.side(kind, n, _PAYLOAD)
        found = (
            bench.redis.zcard(f"qik:later:{QUEUE}") if later else bench.redis.llen(f"queue:{QUEUE}")
        )
        wrong = () if found == n else (f"jobs: {found}, not {n}",)
        return Measure(case, LIMIT, n, seconds, wrong)

    return run


def _drain_limit(bench: Bench, n: int, _round: int) -> Measure:
    bench.fresh()
    bench.side("limit_bulk", n, _PAYLOAD)
    seconds = bench.side("limit_drain", n)
    left = bench.redis.llen(f"queue:{QUEUE}")
    return Measure("drain", LIMIT, n, seconds, (f"queued: {left}, not 0",) if left else ())


def _sidekiq(case: str, kind: str) -> Callable[[Bench, int, int], Measure]:
    def run(bench: Bench, n: int, _round: int) -> Measure:
        bench.fresh()
        seconds = sidekiq.push(bench, kind, n)
        return Measure(case, sidekiq.NAME, n, seconds, checks.pushed(bench.redis, n))

    return run


def _drain(system: System) -> Callable[[Bench, int, int], Measure]:
    def run(bench: Bench, n: int, round_: int) -> Measure:
        seconds, wrong = drain(system, bench, n, round_)
        return Measure("drain", system.name, n, seconds, wrong)

    return run


def cases(*, peer: bool) -> Sequence[Case]:
    """Return every case; without the peer where it is not installed."""
    theirs = {
        "push": _sidekiq("push", "push"),
        "bulk": _sidekiq("bulk", "bulk"),
        "drain": _drain(sidekiq.Sidekiq()),
    }
    found = [
        Case("push", 20_000, {OURS: _ours("push", "push"), LIMIT: _limit("push", "limit_push")}),
        Case("push-unique", 20_000, {
            OURS: _ours("push-unique", "push_unique", locked=True),
            LIMIT: _limit("push-unique", "limit_push"),
        }),
        Case("bulk", 200_000, {OURS: _ours("bulk", "bulk"), LIMIT: _limit("bulk", "limit_bulk")}),
        Case("bulk-unique", 200_000, {
            OURS: _ours("bulk-unique", "bulk_unique", locked=True),
            LIMIT: _limit("bulk-unique", "limit_bulk"),
        }),
        Case("drain", 100_000, {OURS: _drain(Qik()), LIMIT: _drain_limit}),
        Case("pass-new", 100_000, {OURS: passes.new, LIMIT: _limit("pass-new", "limit_bulk")}),
        Case("pass-jittered", 100_000, {
            OURS: passes.jittered,
            LIMIT: _limit("pass-jittered", "limit_later", later=True),
        }),
        Case("pass-told", 100_000, {OURS: passes.told, LIMIT: passes.reading}),
    ]  # fmt: skip
    for case in found:
        if peer and case.name in theirs:
            case.systems[sidekiq.NAME] = theirs[case.name]
    return found
