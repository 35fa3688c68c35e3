"""What a pass answers: a closed outcome and its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

TOLD: Final = "told"
"""Counted beside the push's codes: rows that were told already, so nothing was built or pushed for them."""

SHADOW: Final = "shadow"
"""Counted beside the push's codes: rows that a pass in shadow would have told."""

LATE: Final = "late"
"""Counted beside the push's codes: rows that were due too long ago, of a reconciler that says `late="skip"`."""

GONE: Final = "gone"
"""Counted beside the push's codes: rows that matched no more when they were about to be told."""

OVER_SHARE: Final = "over_share"
"""Counted beside the push's codes: rows beyond their tenant's share of a pass."""

INVALID: Final = "invalid"
"""Counted beside the push's codes: rows whose arguments cannot travel."""


class Outcome(StrEnum):
    """How a pass ended."""

    COMPLETED = (
        "completed"  # the last page was short and ended without error: every pending row is told
    )
    FAILED = "failed"  # an error; `reason` has it, the next try comes soon
    GATED = "gated"  # something refuses jobs of this class for now: a switch, a full Redis, a water mark
    DEPOSED = "deposed"  # the lease is gone or the process was asked to stop
    RESTARTED = "restarted"  # Redis lost its data on the way; the pass begins again from the bottom
    BUDGET = "budget"  # its time was up; the only outcome that keeps a cursor


@dataclass(slots=True)
class Progress:
    """What a pass has done so far. Changed in place by the one thread that runs the pass."""

    scanned: int = 0
    pages: int = 0
    page_size: int = 0
    """Rows asked for by the last page: smaller than the reconciler's when the database was slow."""
    codes: Counter[str] = field(default_factory=Counter)
    cursor: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """One pass, ended."""

    reconciler: str
    outcome: Outcome
    reason: str
    """Why it ended so; empty for a pass that completed without remark."""
    seconds: float
    scanned: int
    pages: int
    page_size: int
    codes: Mapping[str, int]
    """How many rows had each code, and `told` and `invalid`."""
    cursor: str | None = None
    pass_id: int | None = None
    """The row of the ledger, None when it could not be written."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the pass measured, as JSON values: see `gauges.py`."""
    error: Exception | None = None
    """What it failed of."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "reconciler": self.reconciler,
            "outcome": str(self.outcome),
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "scanned": self.scanned,
            "pages": self.pages,
            "page_size": self.page_size,
            "codes": dict(self.codes),
            "details": dict(self.details),
            "pass": self.pass_id,
        }
