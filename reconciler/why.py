"""Why has this row not run? The first true cause, in the order in which things stand in a row's way; then all the rest.

    is it there? → does it match? → can it travel? → is its job somewhere? → is it time? → is it held back? → do passes run?

A job that exists runs whatever holds passes up, so where it is comes before what a pass would say. Decides and asks
nothing: `inquiry` has asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from reconciler.causes import job, row, turn
from reconciler.causes.found import Found, Reason
from reconciler.inquiry import Ended, Known
from reconciler.words import plain


@dataclass(frozen=True, slots=True)
class Answer:
    """Why a row has not run."""

    known: Known
    found: tuple[Found, ...]
    """Never empty; the first is the cause."""

    @property
    def cause(self) -> Found:
        """The first true cause."""
        return self.found[0]

    @property
    def next_at(self) -> float | None:
        """When it is tried next, in epoch seconds; None where that is not known, or never happens by itself."""
        return self.cause.at

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        known, definition = self.known, self.known.definition
        args = None if known.row is None or known.row.args is None else known.row.args
        passes = () if known.home is None else known.home.passes
        return {
            "reconciler": definition.name,
            "shard": definition.shard,
            "job": definition.facts.name,
            "key": [plain(each) for each in known.key],
            "args": None if args is None else [plain(each) for each in args],
            "digest": known.digest,
            "jid": known.trace.jid if known.trace is not None else "",
            "cause": self.cause.as_json(),
            "also": [each.as_json() for each in self.found[1:]],
            "next_at": self.next_at,
            "passes": [_pass(each) for each in passes],
            "errors": [str(each) for each in known.errors],
        }


def why(known: Known) -> Answer:
    """Return the causes of what is known, the first true one first."""
    found = [each for rule in _RULES if (each := rule(known)) is not None]
    if any(each.reason in _HOLDING for each in found):  # then no pass tells it, lost or not
        found = [each for each in found if each.reason is not Reason.LOST]
    return Answer(
        known, tuple(found) or (Found(Reason.UNKNOWN, "nothing that could be asked says why"),)
    )


def _pass(each: Ended) -> dict[str, Any]:
    return {
        "outcome": each.outcome,
        "reason": each.reason,
        "started_at": each.started_at,
        "ended_at": each.ended_at,
        "scanned": each.scanned,
        "codes": each.codes,
    }


_HOLDING: Final = frozenset(
    {
        Reason.LATE,
        Reason.NOT_DUE,
        Reason.TOO_YOUNG,
        Reason.QUARANTINED,
        Reason.WAITING,
        Reason.SWITCHED_OFF,
        Reason.GATED,
        Reason.SHADOW,
        Reason.NO_PROCESS,
        Reason.PASS_FAILED,
        Reason.OVER_SHARE,
    }
)
"""What keeps the next pass from telling a row."""
_RULES: Final[tuple[Callable[[Known], Found | None], ...]] = (
    row.broken,
    row.no_row,
    row.not_matching,
    row.invalid,
    job.running,
    job.retrying,
    job.scheduled,
    job.orphan,
    job.paused,
    job.queued,
    job.unserved,
    row.late,
    row.not_due,
    row.too_young,
    row.quarantined,
    row.waiting,
    job.dead,
    turn.unknown,
    turn.switched_off,
    turn.gated,
    turn.shadow,
    turn.no_process,
    turn.pass_failed,
    turn.over_share,
    turn.lost,
    job.dead_before,
)
