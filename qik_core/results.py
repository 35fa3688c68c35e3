"""What a push answers: a closed set of values, never a silent None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Code(StrEnum):
    """What became of one item of a push. `perform_bulk` answers one code per item."""

    ENQUEUED = "enqueued"
    DUPLICATE_QUEUED = "duplicate_queued"
    DUPLICATE_SCHEDULED = "duplicate_scheduled"
    DUPLICATE_RUNNING = "duplicate_running"
    DUPLICATE_RETRYING = "duplicate_retrying"
    ADVANCED = "advanced"  # an edge met a scheduled duplicate, which is due now
    DIRTIED = "dirtied"  # an edge met a running duplicate, which will run once more
    REFUSED = "refused"  # by a client middleware or a kill switch
    QUARANTINED = "quarantined"  # the row is held back in SQL
    FULL = "full"  # Redis is full, or the queue is above its water mark

    @property
    def told(self) -> bool:
        """A job for this key exists."""
        return self not in (Code.REFUSED, Code.QUARANTINED, Code.FULL)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The job is in Redis."""

    jid: str
    told: bool = True

    def __bool__(self) -> bool:
        return self.told


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A job of the same key exists; `jid` is that job's, `state` says where it is."""

    jid: str
    state: Code
    told: bool = True

    def __bool__(self) -> bool:
        return self.told


@dataclass(frozen=True, slots=True)
class Advanced:
    """A scheduled job of the same key exists and was brought forward to now."""

    jid: str
    told: bool = True

    def __bool__(self) -> bool:
        return self.told


@dataclass(frozen=True, slots=True)
class Dirtied:
    """A job of the same key is running; it will run once more after it ends."""

    jid: str
    told: bool = True

    def __bool__(self) -> bool:
        return self.told


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was written; `by` names who refused, `reason` says why."""

    by: str
    reason: str
    told: bool = False

    def __bool__(self) -> bool:
        return self.told


Push: TypeAlias = Enqueued | Duplicate | Advanced | Dirtied | Refused


@dataclass(frozen=True, slots=True)
class BulkResult(Sequence[Code]):
    """One code per item, in the order of the input, and the jids that were given out."""

    codes: Sequence[Code]
    jids: Sequence[str]

    def __getitem__(self, index: int) -> Code:  # type: ignore[override]
        return self.codes[index]

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Code]:
        return iter(self.codes)

    @property
    def counts(self) -> Counter[Code]:
        """How many items had each code."""
        return Counter(self.codes)

    @property
    def told(self) -> bool:
        """Every item has a job."""
        return all(code.told for code in self.counts)
