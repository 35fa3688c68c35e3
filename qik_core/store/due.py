"""Jobs whose time has come: from a sorted set to their queues, many in one script."""

from __future__ import annotations

from typing import Final, NamedTuple

from qik_core.store import keys
from qik_core.store.link import Link

_AT_ONCE: Final = 200


class Moved(NamedTuple):
    """What one call of `promote.lua` did."""

    jobs: int
    malformed: int
    """Set aside in the dead set, raw."""
    next_due: float | None
    """Epoch seconds of the next one that waits; None when the set is empty."""


def sources(queues: list[str]) -> list[bytes]:
    """Return the sorted sets that a process serving these queues looks at."""
    return [keys.RETRY, keys.SCHEDULE, *(keys.later(name) for name in queues)]


def promote(link: Link, source: bytes, *, milliseconds: bool = False) -> Moved:
    """Move up to 200 due jobs; raises StoreError."""
    moved, aside, score = link.run("promote", (source,), (_AT_ONCE, "1" if milliseconds else ""))
    return Moved(moved, aside, float(score) if score else None)
