"""Kill switches in Redis: the snapshot that reconcilers publish, what it has stopped, who has seen it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from qik_core.errors import StoreError
from qik_core.store import keys
from qik_core.store.counts import count_of
from qik_core.store.link import Arg, Links

Run = Callable[[str, Sequence[bytes], Sequence[Arg]], Any]
"""`Link.run` or `Links.run`."""

FIELD = "switches"
"""Of the heartbeat's hash: the version of the snapshot that the process goes by."""


def read(run: Run, version: int, counts: Mapping[str, int]) -> bytes:
    """Return the snapshot as it is written, if it is newer; `counts` are added to what flags have stopped. Raises StoreError."""
    pairs: list[Arg] = [each for pair in counts.items() for each in pair]
    raw: bytes = run("switches", (), (version, *pairs))
    return raw


def publish(links: Links, version: int, raw: bytes, *, known: bool) -> int:
    """Write a snapshot, unless a newer one is there; returns the version that stands now. Raises StoreError."""
    return int(links.run("publish", (), (version, "1" if known else "0", raw)))


def seen(links: Links) -> dict[str, int]:
    """Return identity → version for every living worker process of ours, as of its last beat. Raises StoreError."""
    found = {}
    for identity in links.call("ZRANGE", keys.ALIVE, 0, -1):
        name = identity.decode("utf-8", "replace")
        beat, version = _beat(links, name)
        if beat is not None:
            with suppress(ValueError):
                found[name] = int(version or 0)
    return found


def stopped(links: Links) -> dict[str, int]:
    """Return flag → how many jobs it has stopped since it was last asked to forget. Raises StoreError."""
    pairs = links.call("HGETALL", keys.SWITCHED)
    found = zip(pairs[::2], map(count_of, pairs[1::2]), strict=True)
    return {flag.decode("utf-8", "replace"): count for flag, count in found if count}


def take_stopped(links: Links, flag: str) -> int:
    """Return how many jobs a flag has stopped, and begin anew; of many callers one is told. Raises StoreError."""
    return int(links.run("switched", (), (flag,)))


def _beat(links: Links, identity: str) -> tuple[bytes | None, bytes | None]:
    """Return when a process beat last, and its version; nothing where somebody made its key another type."""
    try:
        beat, version = links.call("HMGET", keys.process(identity), "beat", FIELD)
    except StoreError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return None, None
    return beat, version
