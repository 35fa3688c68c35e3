"""A look at everything, for people: sizes, processes, the epoch."""

from __future__ import annotations

from typing import Any

from qik_core.store import held, keys
from qik_core.store.link import Links
from qik_core.store.numbers import numbers
from qik_core.store.recovery import tally


def overview(links: Links) -> dict[str, Any]:
    """Return queue sizes, the sorted sets, processes with their last beat, totals and the epoch; writes nothing."""
    seen = numbers(links)
    alive = links.call("ZRANGE", keys.ALIVE, 0, -1, "WITHSCORES")
    epoch = links.call("GET", keys.EPOCH)
    return {
        "queues": {
            each.name: {
                "queued": each.size,
                "later": links.call("ZCARD", keys.later(each.name)),
                "suspects": links.call("LLEN", keys.suspect(each.name)),
                "paused": each.paused,
            }
            for each in seen.queues
        },
        "held": {
            each.name: {"jobs": each.jobs, "bytes": each.bytes} for each in held.held(links.call)
        },
        "scheduled": seen.scheduled,
        "retries": seen.retries,
        "dead": seen.dead,
        "processed": seen.processed,
        "failed": seen.failed,
        "processes": [
            {
                "identity": identity.decode(),
                "beat": float(beat),
                "working": _working(links, identity.decode()),
            }
            for identity, beat in zip(alive[::2], alive[1::2], strict=True)
        ],
        "counts": dict(tally(links)),
        "epoch": epoch.decode() if epoch else None,
    }


def _working(links: Links, identity: str) -> int:
    fields = links.call("HKEYS", keys.working(identity))
    return sum(1 for name in fields if name not in (b"#", b"@"))
