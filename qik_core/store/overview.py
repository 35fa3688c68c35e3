"""A look at everything, for people: sizes, processes, the epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from qik_core.store import held, keys
from qik_core.store.link import Links
from qik_core.store.numbers import numbers
from qik_core.store.recovery import tally

_SAMPLES: Final = 50  # parts of a long list that are weighed; the rest is taken to be like them


def later_of(links: Links, queues: Iterable[str]) -> dict[str, int]:
    """Return how many jobs of passes wait for each queue. Raises StoreError."""
    return {name: links.call("ZCARD", keys.later(name)) for name in queues}


def bytes_of(links: Links, queues: Iterable[str]) -> dict[str, int]:
    """Return how much memory each queue takes, about. Raises StoreError."""
    asked = {
        name: links.call("MEMORY", "USAGE", keys.queue(name), "SAMPLES", _SAMPLES)
        for name in queues
    }
    return {name: size or 0 for name, size in asked.items()}


def overview(links: Links) -> dict[str, Any]:
    """Return queue sizes, the sorted sets, processes with their last beat, totals and the epoch; writes nothing."""
    seen = numbers(links)
    later = later_of(links, [each.name for each in seen.queues])
    alive = links.call("ZRANGE", keys.ALIVE, 0, -1, "WITHSCORES")
    epoch = links.call("GET", keys.EPOCH)
    return {
        "queues": {
            each.name: {
                "queued": each.size,
                "later": later[each.name],
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
