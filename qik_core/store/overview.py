"""A look at everything, for people: sizes, processes, the epoch."""

from __future__ import annotations

from typing import Any

from qik_core.store import keys
from qik_core.store.cursors import members
from qik_core.store.link import Link
from qik_core.store.recovery import tally


def overview(link: Link) -> dict[str, Any]:
    """Return queue sizes, the sorted sets, processes with their last beat, totals and the epoch; writes nothing."""
    queues = {name: _queue(link, name) for name in members(link.call, keys.QUEUES)}
    alive = link.call("ZRANGE", keys.ALIVE, 0, -1, "WITHSCORES")
    epoch = link.call("GET", keys.EPOCH)
    return {
        "queues": queues,
        "scheduled": link.call("ZCARD", keys.SCHEDULE),
        "retries": link.call("ZCARD", keys.RETRY),
        "dead": link.call("ZCARD", keys.DEAD),
        "processed": int(link.call("GET", keys.stat("processed")) or 0),
        "failed": int(link.call("GET", keys.stat("failed")) or 0),
        "processes": [
            {
                "identity": identity.decode(),
                "beat": float(beat),
                "working": _held(link, identity.decode()),
            }
            for identity, beat in zip(alive[::2], alive[1::2], strict=True)
        ],
        "counts": dict(tally(link)),
        "epoch": epoch.decode() if epoch else None,
    }


def _queue(link: Link, name: str) -> dict[str, int]:
    return {
        "queued": link.call("LLEN", keys.queue(name)),
        "later": link.call("ZCARD", keys.later(name)),
    }


def _held(link: Link, identity: str) -> int:
    fields = link.call("HKEYS", keys.working(identity))
    return sum(1 for name in fields if name not in (b"#", b"@"))
