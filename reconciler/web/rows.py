"""Reconcilers and their passes as pages show them: plain data, bounded texts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from qik_core.web.showing import cut
from reconciler.definition import Definition
from reconciler.report import Outcome
from reconciler.status import Last, Standing, counted, remarks
from reconciler.words import span

MOST: Final = 500
"""Reconcilers on a page."""
TEXT: Final = 500
"""Characters of a text that is shown beside others."""
_NAME: Final = 200
_EARLY: Final[Mapping[str, str]] = {
    Outcome.FAILED: "soon: the last one failed, so it is tried again before its time",
    Outcome.GATED: "as soon as what refuses its jobs lets them in",
}


def row_of(one: Standing, definition: Definition | None) -> dict[str, Any]:
    """Return a reconciler as pages show it."""
    return {
        "unit": cut(one.unit, _NAME),
        "reconciler": one.reconciler,
        "shard": one.shard,
        "job": one.job and cut(one.job, _NAME),
        "holder": one.holder and cut(one.holder, _NAME),
        "term": one.term,
        "running_for": one.running_for,
        "next": next_pass(one, definition, datetime.now(UTC)),
        "last": None if one.last is None else last_of(one.last),
    }


def last_of(last: Last) -> dict[str, Any]:
    """Return how a pass ended as pages show it."""
    return {
        "outcome": last.outcome,
        "age": last.age,
        "seconds": last.seconds,
        "scanned": last.scanned,
        "codes": cut(counted(last.codes), TEXT),
        "pending": last.details.get("pending"),
        "oldest_pending_age": last.details.get("oldest_pending_age"),
        "untold_for": last.untold_for,
        "held": last.held,
        "drift": dict(last.drift),
        "time_to_whole": last.whole,
        "remarks": [cut(each, TEXT) for each in remarks(last)],
    }


def next_pass(one: Standing, definition: Definition | None, now: datetime) -> str:
    """Say when the next pass begins, as far as SQL and the declaration tell it."""
    if one.holder is None:
        return "nobody runs it: start `reconciler run`"
    if one.running_for is not None:
        return f"under way for {span(one.running_for)}"
    if one.last is None:
        return "soon"
    if one.last.outcome in _EARLY:
        return _EARLY[one.last.outcome]
    if definition is None:
        return "not known: this dashboard runs without its application"
    return _by_time(one.last, definition, now)


def _by_time(last: Last, definition: Definition, now: datetime) -> str:
    if definition.cron is not None:
        left = (definition.cron.after(now) - now).total_seconds()
    else:
        left = definition.every - last.age - last.seconds
    return f"in {span(left)}" if left > 0 else "now"
