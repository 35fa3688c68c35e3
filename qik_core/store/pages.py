"""One page of a list or a sorted set, from a place that somebody's browser remembers; nothing is kept between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from qik_core.store.link import Links
from qik_core.store.push import MOST
from qik_core.store.windows import Entry, typed

_OVERLAP = 50  # entries looked at twice: others fetch and delete meanwhile


def list_page(links: Links, key: bytes, at: int, count: int) -> list[Entry]:
    """Return up to `count` entries of a list, at most 500, from an index at the push end. Raises StoreError, WrongType."""
    with typed(key):
        raws = links.call("LRANGE", key, at, at + min(count, MOST) - 1)
    return [Entry(raw) for raw in raws]


def sorted_page(
    links: Links, key: bytes, start: tuple[float, int] | None, count: int, *, newest: bool
) -> list[Entry]:
    """Return up to `count` members of a sorted set, at most 500, in the order of their scores.

    `start` is a score, and how many members of exactly that score to pass over; None: from the first, or with `newest`
    the last. Raises StoreError, WrongType.
    """
    command, first, last = (
        ("ZREVRANGEBYSCORE", "+inf", "-inf") if newest else ("ZRANGEBYSCORE", "-inf", "+inf")
    )
    score, skip = (first, 0) if start is None else (repr(start[0]), start[1])
    with typed(key):
        rows: Sequence[bytes] = links.call(
            command, key, score, last, "WITHSCORES", "LIMIT", skip, min(count, MOST)
        )
    return [Entry(raw, float(each)) for raw, each in zip(rows[::2], rows[1::2], strict=True)]


def search(
    links: Links,
    key: bytes,
    text: str,
    *,
    until: float,
    now: Callable[[], float] = time.monotonic,
) -> list[tuple[int, bytes]]:
    """Return what a list has with this text: about where, and the bytes. The server looks until that moment.

    Ends with the first window that has some. Raises StoreError, WrongType.
    """
    at, read = 0, MOST
    while read == MOST and now() < until:
        with typed(key):
            read, *raws = links.run("find", (key,), (at, MOST, text))
        if raws:
            return [(at, raw) for raw in raws]
        at += MOST - _OVERLAP
    return []
