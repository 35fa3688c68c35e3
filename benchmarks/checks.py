"""What makes a round count: all of the work was done, once, and nothing is left behind."""

from __future__ import annotations

import json
from typing import Any, cast

from redis import Redis

from benchmarks.jobs import QUEUE

_LIST = f"queue:{QUEUE}"
_MARKS = (b"#", b"@")


def pushed(redis: Redis, n: int, *, locks: int = 0) -> tuple[str, ...]:
    """Return what is wrong after n jobs were pushed: n jobs, n jids, each number once, so many locks."""
    jobs = [json.loads(raw) for raw in cast("list[bytes]", redis.lrange(_LIST, 0, -1))]
    return _wrong(
        jobs=(len(jobs), n),
        jids=(len({job["jid"] for job in jobs}), n),
        arguments=(sum(job["args"][0] for job in jobs), _sum(n)),
        locks=(_locks(redis), locks),
    )


def drained(redis: Redis, n: int, counted: dict[str, Any]) -> tuple[str, ...]:
    """Return what is wrong after n jobs were worked off, by what the worker has counted and what is left in Redis."""
    return _wrong(
        calls=(counted["calls"], n),
        jids=(counted["distinct"], n),
        arguments=(counted["sum"], _sum(n)),
        queued=(redis.llen(_LIST), 0),
        working=(_working(redis), 0),
        locks=(_locks(redis), 0),
        retrying=(redis.zcard("retry"), 0),
        dead=(redis.zcard("dead"), 0),
    )


def _sum(n: int) -> int:
    return n * (n - 1) // 2


def _wrong(**pairs: tuple[object, object]) -> tuple[str, ...]:
    return tuple(
        f"{name}: {found}, not {wanted}"
        for name, (found, wanted) in pairs.items()
        if found != wanted
    )


def _locks(redis: Redis) -> int:
    return _fields(redis, "qik:unique:*")


def _working(redis: Redis) -> int:
    return _fields(redis, "qik:working:*")


def _fields(redis: Redis, pattern: str) -> int:
    """Return the fields of all hashes of this pattern, without the marks (`#`, `@`) that each of them has."""
    hashes = [cast("list[bytes]", redis.hkeys(key)) for key in redis.scan_iter(match=pattern)]
    return sum(name not in _MARKS for names in hashes for name in names)
