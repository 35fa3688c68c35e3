"""Pushing: how fast, and how much of Redis's memory a job takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from redis import Redis

from benchmarks.bench import Bench, wait_for
from benchmarks.drains import Runner
from benchmarks.limits import LIST, SCHEDULE
from benchmarks.names import CaseName, Figure
from benchmarks.report import LIMIT, Measure, rate
from benchmarks.workers import System

PAYLOAD: Final = 170
"""Bytes of one of our payloads without a lock; the limits move as many."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a push is run: what pushes, the raw operation that it is compared with, and what must be there at the end."""

    kind: str
    limit: str
    locked: bool = False
    later: bool = False


MANNERS: Final = {
    CaseName.PUSH: Manner("push", "limit_push"),
    CaseName.PUSH_UNIQUE: Manner("push_unique", "limit_push", locked=True),
    CaseName.BULK: Manner("bulk", "limit_bulk"),
    CaseName.BULK_UNIQUE: Manner("bulk_unique", "limit_bulk", locked=True),
    CaseName.BULK_JITTERED: Manner("bulk_jittered", "limit_later", locked=True, later=True),
    CaseName.BYTES: Manner("bulk", "limit_bulk"),
    CaseName.BYTES_UNIQUE: Manner("bulk_unique", "limit_bulk", locked=True),
}


def runner(case: CaseName, system: System) -> Runner:
    """Return what pushes by this system."""
    manner = MANNERS[case]

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        n = system.share(n)
        system.fresh(bench)
        seconds = float(system.push(bench, manner.kind, n)["seconds"])
        if manner.later:
            wrong = _all_there(bench.redis.zcard(SCHEDULE), n)
        else:
            wrong = system.pushed(bench, n, n if manner.locked else 0)
        return rate(case, system.name, n, seconds, wrong)

    return run


def weigher(case: CaseName, system: System) -> Runner:
    """Return what weighs the jobs of this system."""
    manner = MANNERS[case]

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        system.fresh(bench)
        before = used(bench.redis)
        system.push(bench, manner.kind, n)
        each = (used(bench.redis) - before) / n
        wrong = system.pushed(bench, n, n if manner.locked else 0)
        return [Measure(case, system.name, n, each, wrong, Figure.BYTES)]

    return run


def limit(case: CaseName) -> Runner:
    """Return what does the raw operation of a case."""
    manner = MANNERS[case]
    return raw(case, manner.limit, later=manner.later)


def limit_weight(case: CaseName) -> Runner:
    """Return what weighs the bytes of a payload alone, in a list."""

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        bench.fresh()
        before = used(bench.redis)
        bench.side("limit_bulk", n, PAYLOAD)
        return [Measure(case, LIMIT, n, (used(bench.redis) - before) / n, (), Figure.BYTES)]

    return run


def raw(case: CaseName, kind: str, *, later: bool = False) -> Runner:
    """Return what moves as many bytes as n payloads into a list, or into a sorted set."""

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        bench.fresh()
        seconds = float(bench.side(kind, n, PAYLOAD)["seconds"])
        found = bench.redis.zcard(SCHEDULE) if later else bench.redis.llen(LIST)
        return rate(case, LIMIT, n, seconds, _all_there(found, n))

    return run


def _all_there(found: object, n: int) -> tuple[str, ...]:
    return () if found == n else (f"jobs: {found}, not {n}",)


def used(redis: Redis) -> int:
    """Return the bytes that Redis uses, without the buffers of clients that have just left."""
    wait_for(
        lambda: redis.info("clients")["connected_clients"] == 1, "other clients to leave", 10.0
    )
    return int(cast("dict[str, int]", redis.info("memory"))["used_memory"])
