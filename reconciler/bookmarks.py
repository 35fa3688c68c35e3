"""Where the rebuild of each unit stands, in SQL: one that was cut off goes on from there, whoever begins it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any, Final

from sqlalchemy import Engine

from reconciler.notes import Kind, Note, Notes

FRESH: Final = 3_600.0
"""Seconds after which nobody goes on from a bookmark: too many rows behind it may have become pending since."""
ALIVE: Final = 5.0
"""Seconds without a word after which a rebuild counts as cut off."""
_EVERY: Final = 1.0
_QUIET: Final = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookmark:
    """Where the rebuild of one unit stands."""

    epoch: str
    """The life of Redis that it tells; after a loss it counts for nothing."""
    holder: str
    """The process that wrote it."""
    began: float
    """Epoch seconds by the database's clock."""
    cursor: str | None = None
    """The position of the last row that is done; None: before the first one."""
    scanned: int = 0
    enqueued: int = 0
    total: int | None = None
    """Rows that were pending when it began; None where that was not counted."""
    ended: str = ""
    """How it ended; empty while it goes on, or was cut off."""
    age: float = 0.0
    """Seconds since it was written."""

    @property
    def under_way(self) -> bool:
        """Whether somebody is at it."""
        return not self.ended and self.age < ALIVE

    def goes_on(self, epoch: str) -> bool:
        """Whether a rebuild that begins in this life of Redis can go on from here."""
        return self.cursor is not None and self._counts(epoch)

    def begins_again(self, epoch: str) -> bool:
        """Whether one that begins in this life of Redis has to do again what was done, since rows of it may want a job."""
        return self.cursor is None and self.scanned > 0 and self._counts(epoch)

    def _counts(self, epoch: str) -> bool:
        cut_off = self.ended in ("", "stopped", "failed", "switched_off")
        return cut_off and self.epoch == epoch and self.age < FRESH


class Bookmarks:
    """The bookmarks of all rebuilds. `read` raises SqlUnavailable and NotMigrated; `keep` does when it is asked to be sure."""

    def __init__(self, home: Engine, now: Callable[[], float] = monotonic) -> None:
        self._notes = Notes(home)
        self._now = now
        self._written = float("-inf")
        self._last: dict[str, tuple[float, Bookmark]] = {}

    def read(self) -> dict[str, Bookmark]:
        """Return the bookmarks, by unit."""
        found = {unit: _bookmark(each) for unit, each in self._notes.read(Kind.REBUILD).items()}
        return {unit: each for unit, each in found.items() if each is not None}

    def keep(self, marks: Iterable[tuple[str, Bookmark]], *, sure: bool = False) -> None:
        """Write what has changed, once a second at most; `sure` writes all of it now."""
        now = self._now()
        if not sure and now - self._written < _EVERY:
            return
        self._written = now
        new = {unit: mark for unit, mark in marks if self._is_news(unit, mark, now)}
        self._notes.put(Kind.REBUILD, {unit: _value(each) for unit, each in new.items()})
        self._last.update((unit, (now, mark)) for unit, mark in new.items())

    def _is_news(self, unit: str, mark: Bookmark, now: float) -> bool:
        """Whether it has changed; or has not for so long that it would look cut off."""
        at, last = self._last.get(unit, (float("-inf"), None))
        return mark != last or (not mark.ended and now - at >= _QUIET)


def _value(mark: Bookmark) -> dict[str, Any]:
    value = asdict(mark)
    del value["age"]
    return value


def _bookmark(note: Note) -> Bookmark | None:
    """Return a bookmark as it was written; None for one of another release."""
    try:
        return Bookmark(**note.value, age=note.age)
    except TypeError:
        return None
