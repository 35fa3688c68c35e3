"""A read of the locks that changes nothing: for a dry run, which must not even make an epoch.

Two or three plain commands instead of a script: a roll or a loss between them makes an answer that is wrong for once,
which a dry run may give and a pass may not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qik_core.store import keys
from qik_core.store.epoch import Epoch
from qik_core.store.link import Links

MOST: Final = 500
_MARK: Final = b"#"
_ANY: Final = b"------"


def glance(
    links: Links, digests: Sequence[bytes], versions: Sequence[bytes] | None = None
) -> list[bool]:
    """Say for each key whether a job exists for it, as the script `told` does; writes nothing. Raises StoreError."""
    text = links.call("GET", keys.EPOCH)
    if text is None:
        return [False] * len(digests)
    epoch = Epoch.parse(text)
    tags = versions or [_ANY] * len(digests)
    told: list[bool] = []
    for start in range(0, len(digests), MOST):
        part = slice(start, start + MOST)
        records = records_of(links, epoch, digests[part])
        told += [_stands(each, tag) for each, tag in zip(records, tags[part], strict=True)]
    return told


def records_of(links: Links, epoch: Epoch, digests: Sequence[bytes]) -> list[bytes | None]:
    """Return the locks of the generation, and of the one that a roll is leaving; none of a hash that has lost its mark."""
    generations = [each for each in (epoch.generation, epoch.previous) if each is not None]
    found = [
        links.call("HMGET", keys.UNIQUE + each.encode(), _MARK, *digests) for each in generations
    ]
    if any(hashed[0] is None for hashed in found):
        return [None] * len(digests)
    return [next((each for each in several if each), None) for several in zip(*found, strict=True)][
        1:
    ]


def _stands(record: bytes | None, tag: bytes) -> bool:
    """Return whether a job stands behind a lock; a running job of an older row version does not count."""
    if record is None:
        return False
    older = record[:1] == b"r" and _ANY not in (tag, record[2:8]) and tag != record[2:8]
    return not older
