"""How much waits, how full the server is, and what rolls have found: what a pass asks before it pushes and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from qik_core.store import keys
from qik_core.store.link import Links
from qik_core.store.push import MOST
from qik_core.store.windows import typed


class QueueLoad(NamedTuple):
    """What one script saw."""

    time: float
    """The server's clock, epoch seconds."""
    queued: int
    later: int
    oldest: bytes
    """`enqueued_at` of the job that is fetched next, or, behind `=`, that whole job."""
    used: int
    """Bytes."""
    limit: int
    """Bytes; 0 without a limit, or where this user may not ask."""


def load_of(links: Links, queue: str) -> QueueLoad:
    """Return what waits for a queue. Raises StoreError; WrongType where a key of it is something else."""
    names = (keys.queue(queue), keys.later(queue))
    with typed(names[0]):
        time, queued, later, oldest, used, limit = links.run("pressure", names)
    return QueueLoad(float(time), queued, later, oldest, int(used), int(limit))


def orphans(links: Links, digests: Sequence[bytes], *, forget: bool) -> list[bool]:
    """Say for each key whether a roll of the last hour found its lock without a job. Raises StoreError."""
    found: list[bool] = []
    for start in range(0, len(digests), MOST):
        part = b"".join(digests[start : start + MOST])
        flags = links.run("orphans", (), (part, "1" if forget else "0"))
        found += [flag == ord("1") for flag in flags]
    return found
