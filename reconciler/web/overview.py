"""What the overview says of reconcilers: rows pending, drift, the oldest untold, time to whole, losses noticed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from qik_core.web.tabs import Card, Tone
from reconciler import audit
from reconciler.audit import Action
from reconciler.engines import Engines
from reconciler.sql import read_clock
from reconciler.status import Last, Standing, counted, standings, time_to_whole
from reconciler.words import span

DAYS: Final = 7
"""So far back losses are counted."""
MOST: Final = 99
"""Losses that are counted."""
KEPT: Final = 5.0
"""Seconds for which what SQL said stands: to find the newest pass of each reconciler reads much of a long ledger."""
_TAB: Final = "/reconcilers"


@dataclass(frozen=True, slots=True)
class Known:
    """What SQL knows of all reconcilers."""

    rows: Sequence[Standing]
    losses: int
    """At most one more than `MOST`."""


class Asking:
    """Asks SQL again and again."""

    def __init__(self) -> None:
        self._known: Known | None = None
        self._until = 0.0

    def ask(self, engines: Engines) -> Known:
        """Return what SQL knows, or knew a moment ago if it answers still.

        Raises:
            SqlUnavailable: the database does not answer.
            NotMigrated: it has no tables of ours.
        """
        home = engines.home()
        now = read_clock(home)
        known = self._known
        if known is None or monotonic() >= self._until:
            since = now - DAYS * 86_400
            losses = audit.read(home, since, actions=[Action.REDIS_LOST], most=MOST + 1)
            known = self._known = Known(standings(home), len(losses))
            self._until = monotonic() + KEPT
        return known


def cards(known: Known) -> list[Card]:
    """Return what the overview says."""
    return [*_of_rows(known.rows), _losses(known.losses)]


def _of_rows(rows: Sequence[Standing]) -> list[Card]:
    if not rows:
        return [Card("Reconcilers", "none has ever run", _TAB)]
    ended = [each.last for each in rows if each.last is not None]
    return [_pending(rows, ended), _drift(ended), _untold(ended), _whole(rows)]


def _pending(rows: Sequence[Standing], ended: Sequence[Last]) -> Card:
    counts = [int(count) for each in ended if (count := each.details.get("pending")) is not None]
    if not counts:
        return Card("Rows pending", "not known", _TAB, Tone.WARN)
    more = " and more" if len(counts) < len(rows) else ""
    return Card("Rows pending", f"{sum(counts):,}{more}", _TAB)


def _drift(ended: Sequence[Last]) -> Card:
    drift: Counter[str] = Counter()
    for each in ended:
        drift.update(each.drift)
    if not drift.total():
        return Card("Drift", "none", _TAB)
    return Card("Drift", f"{drift.total():,} ({counted(drift)})", _TAB, Tone.WARN)


def _untold(ended: Sequence[Last]) -> Card:
    oldest = max((each.untold_for for each in ended if each.untold_for is not None), default=None)
    return Card("Oldest untold", "none" if oldest is None else span(oldest), _TAB)


def _whole(rows: Sequence[Standing]) -> Card:
    seconds = time_to_whole(rows)
    if seconds is None:
        return Card("Time to whole", "not known", _TAB, Tone.WARN)
    return Card("Time to whole", span(seconds), _TAB)


def _losses(count: int) -> Card:
    said = f"more than {MOST}" if count > MOST else f"{count:,}" if count else "none"
    path = f"/incident?since={DAYS}d"
    return Card(f"Losses in {DAYS} days", said, path, Tone.WARN if count else Tone.PLAIN)
