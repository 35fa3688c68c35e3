"""What a pass measures on its way: how much is pending, since when, how long reading and telling take, what was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from time import monotonic
from typing import Any, Final

from reconciler.definition import Definition
from reconciler.rows import Batch

NOTICED: Final = 1.0
"""Seconds within which every process of reconcilers knows that Redis has lost its data."""
_RATE: Final = 20_000.0
"""Rows a second that a pass tells, where none has told enough to know better."""
_ENOUGH: Final = 500
_DAY: Final = 86_400.0


def moment(value: object) -> float | None:
    """Return a column's value as epoch seconds: a datetime (naive: UTC), a date, or a number; None for anything else."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days * _DAY
    return float(value) if isinstance(value, (int, float)) else None


@dataclass(slots=True)
class Gauges:
    """The measures of one pass. Changed in place by the thread that runs it. Moments are epoch seconds of the database."""

    oldest_pending: float | None = None
    oldest_untold: float | None = None
    reading: float = 0.0
    """Seconds that the pass waited for pages."""
    telling: float = 0.0
    """Seconds that it asked and pushed."""
    pushed: int = 0
    rate: float | None = None
    """Rows a second that are told, by this pass if it told enough to know, else by one before."""
    drift: Counter[str] = field(default_factory=Counter)
    """Rows that had been told, or should have been, and were lost: by cause."""

    def pending(self, definition: Definition, rows: Iterable[Any]) -> None:
        """Count in the rows of a page."""
        self.oldest_pending = _older(self.oldest_pending, definition, rows)

    def untold(self, definition: Definition, new: Batch) -> None:
        """Count in those of them that nobody had told."""
        self.oldest_untold = _older(self.oldest_untold, definition, new.rows)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time that the block takes to `reading` or `telling`."""
        began = monotonic()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + monotonic() - began)

    def whole(self, scanned: int, jitter: float) -> float:
        """Return the seconds after which every row would be told again, and due, if Redis lost its data now.

        Noticed, read once more, told at the rate that this pass had; then the jitter.
        """
        return NOTICED + self.reading + scanned / (self._measured() or _RATE) + jitter

    def _measured(self) -> float | None:
        known = self.pushed >= _ENOUGH and self.telling > 0
        return self.pushed / self.telling if known else self.rate

    def details(self, now: float) -> dict[str, Any]:
        """Return the measures as JSON values, for the ledger; ages in seconds."""
        return {
            "oldest_pending_age": _age(self.oldest_pending, now),
            "oldest_untold_age": _age(self.oldest_untold, now),
            "reading": round(self.reading, 4),
            "telling": round(self.telling, 4),
            "pushed": self.pushed,
            "rate": self._measured(),
            "drift": dict(self.drift),
        }


def _older(known: float | None, definition: Definition, rows: Iterable[Any]) -> float | None:
    at = definition.shape.age_at
    if at is None:
        return known
    values = [row[at] for row in rows if row[at] is not None]
    oldest = (
        moment(min(values)) if values else None
    )  # one conversion for a page: it costs more than to compare
    return oldest if known is None else known if oldest is None else min(known, oldest)


def _age(since: float | None, now: float) -> float | None:
    return None if since is None else round(max(0.0, now - since), 3)
