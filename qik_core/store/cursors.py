"""Reading what is too large for one answer: SCAN and its kin, a page of about 500 at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qik_core.store.link import Arg
from qik_core.store.push import MOST

Call = Callable[..., Any]
"""`Link.call` or `Links.call`."""


def pages(call: Call, *command: Arg, rest: Sequence[Arg] = ()) -> Iterator[list[bytes]]:
    """Yield the pages of `SCAN`, or of `SSCAN`, `HSCAN`, `ZSCAN` and a key; `rest` may be MATCH and a pattern.

    What is there from the first page to the last is met at least once. Raises StoreError.
    """
    cursor: bytes | str = "0"
    while True:
        cursor, found = call(*command, cursor, *rest, "COUNT", MOST)
        yield found
        if cursor == b"0":
            return


def keys_like(call: Call, pattern: bytes) -> Iterator[bytes]:
    """Yield the keys of the database that match a pattern, some of them twice. Raises StoreError."""
    for found in pages(call, "SCAN", rest=("MATCH", pattern)):
        yield from found


def members(call: Call, key: bytes, most: int | None = None) -> list[str]:
    """Return the members of a set as texts, sorted; about the first `most` of them. Raises StoreError."""
    names: set[bytes] = set()
    for found in pages(call, "SSCAN", key):
        names.update(found)
        if most is not None and len(names) >= most:
            break
    return sorted(name.decode("utf-8", "replace") for name in names)
