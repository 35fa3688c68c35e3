"""What became of something that a person did to jobs: a closed set of values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Act(StrEnum):
    """What became of one job."""

    DONE = "done"
    GONE = "gone"  # it had moved on, or somebody else was first: nothing was changed
    BLOCKED = "blocked"  # another job holds its unique key: nothing was changed
    NO_JOB = "no_job"  # bytes that are no job cannot go to a queue: nothing was changed


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of one job."""

    act: Act
    holder: str = ""
    """When blocked: the jid of the job that holds the key."""

    def __bool__(self) -> bool:
        return self.act is Act.DONE


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of many jobs."""

    counts: Counter[Act] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """How many were changed."""
        return self.counts[Act.DONE]

    @property
    def gone(self) -> int:
        """How many had moved on."""
        return self.counts[Act.GONE]

    @property
    def blocked(self) -> int:
        """How many stay where they are because another job holds their key."""
        return self.counts[Act.BLOCKED]

    @property
    def no_job(self) -> int:
        """How many stay where they are because they are no jobs."""
        return self.counts[Act.NO_JOB]

    def add(self, results: Iterable[Acted]) -> None:
        """Count these too."""
        self.counts.update(result.act for result in results)

    def __iter__(self) -> Iterator[tuple[Act, int]]:
        """Yield what happened, and how often."""
        return iter(self.counts.items())
