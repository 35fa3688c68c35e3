"""What makes a round count: all of the work was done, once, and nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, Protocol, cast

from redis import Redis

from benchmarks.names import QUEUE

_LIST = f"queue:{QUEUE}"
_MARKS = (b"#", b"@")
_PAGE: Final = 10_000


class Counts(Protocol):
    """What workers have counted."""

    @property
    def calls(self) -> int:
        """How many jobs ran."""

    @property
    def distinct(self) -> int:
        """How many different jids they had."""

    @property
    def sum(self) -> int:
        """The sum of their numbers."""


def pushed(redis: Redis, n: int, *, locks: int = 0) -> tuple[str, ...]:
    """Return what is wrong after n jobs were pushed: n jobs, n jids, each number once, so many locks."""
    count, total, jids = 0, 0, set[str]()
    for job in _queued(redis):
        count += 1
        total += job["args"][0]
        jids.add(job["jid"])
    return _wrong(
        jobs=(count, n),
        jids=(len(jids), n),
        arguments=(total, _sum(n)),
        locks=(_locks(redis), locks),
    )


def counted(n: int, tally: Counts) -> tuple[str, ...]:
    """Return what is wrong with what workers have counted of n jobs: n calls, n jids, each number once."""
    return _wrong(calls=(tally.calls, n), jids=(tally.distinct, n), arguments=(tally.sum, _sum(n)))


def waited(n: int, tally: Counts) -> tuple[str, ...]:
    """The same of jobs that were given a moment instead of a number."""
    return _wrong(calls=(tally.calls, n), jids=(tally.distinct, n))


def left(redis: Redis) -> tuple[str, ...]:
    """Return what Redis still has of jobs that were all worked off."""
    return unsettled(redis) + _wrong(
        queued=(redis.llen(_LIST), 0),
        locks=(_locks(redis), 0),
        retrying=(redis.zcard("retry"), 0),
        dead=(redis.zcard("dead"), 0),
    )


def unsettled(redis: Redis) -> tuple[str, ...]:
    """Return what processes hold."""
    return _wrong(working=(_working(redis), 0))


def _queued(redis: Redis) -> Iterator[Any]:
    """Yield the jobs on the queue, a page at a time: ten million of them in one reply would be gigabytes."""
    for start in range(0, redis.llen(_LIST), _PAGE):
        page = cast("list[bytes]", redis.lrange(_LIST, start, start + _PAGE - 1))
        yield from map(json.loads, page)


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
    return _fields(redis, "qik:working:*") + _fields(redis, "qik:recovering:*")


def _fields(redis: Redis, pattern: str) -> int:
    """Return the fields of all hashes of this pattern, without the marks (`#`, `@`) that each of them has."""
    hashes = [cast("list[bytes]", redis.hkeys(key)) for key in redis.scan_iter(match=pattern)]
    return sum(name not in _MARKS for names in hashes for name in names)
