"""One piece of work by a peer, in the peer's own environment: `python -m benchmarks.peers.side PEER KIND N`.

Prints the seconds that it took, as JSON, like `benchmarks.side`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import sys
import time
from types import ModuleType
from typing import Final

_BATCH: Final = 1000
_PAUSE: Final = 0.01


def _values(kind: str, n: int) -> list[list[int]]:
    """Return the numbers of the jobs, in batches where the peer has a call for many."""
    if kind == "bulk":
        return [list(range(start, min(n, start + _BATCH))) for start in range(0, n, _BATCH)]
    return [[number] for number in range(n)]


def plain(peer: ModuleType, kind: str, n: int) -> float:
    """Do it in plain code; return the seconds."""
    batches, began = _values(kind, n), time.perf_counter()
    if kind == "bulk":
        for batch in batches:
            peer.many(batch)
    elif kind == "latency":
        for _ in batches:
            peer.one("stamp", time.monotonic_ns())
            time.sleep(_PAUSE)
    else:
        for (number,) in batches:
            peer.one("warm" if kind == "warm" else "noop", number)
    return time.perf_counter() - began


async def awaited(peer: ModuleType, kind: str, n: int) -> float:
    """Do it in asynchronous code, one after the other; return the seconds."""
    async with peer.session():
        batches, began = _values(kind, n), time.perf_counter()
        if kind == "bulk":
            for batch in batches:
                await peer.many(batch)
        elif kind == "latency":
            for _ in batches:
                await peer.one("stamp", time.monotonic_ns())
                await asyncio.sleep(_PAUSE)
        else:
            for (number,) in batches:
                await peer.one("warm" if kind == "warm" else "noop", number)
        return time.perf_counter() - began


def main() -> None:
    """Do one piece of work."""
    name, kind, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    peer = importlib.import_module(f"benchmarks.peers.{name}")
    if inspect.iscoroutinefunction(peer.one):
        seconds = asyncio.run(awaited(peer, kind, n))
    else:
        with getattr(peer, "session", contextlib.nullcontext)():
            seconds = plain(peer, kind, n)
    sys.stdout.write(json.dumps({"seconds": seconds, "n": n}) + "\n")


if __name__ == "__main__":
    main()
