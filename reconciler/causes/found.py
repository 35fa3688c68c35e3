"""What a rule has found: one of a closed set of reasons, in words, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from reconciler.words import plain


class Reason(StrEnum):
    """Everything that may stand in a row's way."""

    BROKEN = "broken"  # the select itself fails: no pass can read any row
    NO_ROW = "no-row"  # there is no such row
    NOT_MATCHING = "not-matching"  # the reconciler's select does not find it
    INVALID = "invalid"  # its arguments cannot travel
    RUNNING = "running"
    RETRYING = "retrying"
    SCHEDULED = "scheduled"
    PAUSED = "paused"  # its job is on a queue that is paused
    UNSERVED = "unserved"  # its job is on a queue from which no process fetches
    QUEUED = "queued"
    ORPHAN = "lock-without-job"  # somebody deleted its job under its lock
    LATE = "late"  # it was due too long ago to be told
    NOT_DUE = "not-due"  # it is due too far ahead to be told
    TOO_YOUNG = "too-young"  # it is left to its own push
    QUARANTINED = "quarantined"
    WAITING = "waiting"  # its job ended badly, and is told again later
    DEAD = "dead"
    SWITCHED_OFF = "switched-off"  # a kill switch keeps it back
    GATED = "back-pressure"  # passes wait
    SHADOW = "shadow"  # passes of its reconciler tell nothing
    NO_PROCESS = "deposed"  # nobody runs its reconciler
    PASS_FAILED = "pass-failed"
    OVER_SHARE = "over-share"  # its tenant has more rows than a pass tells of one
    LOST = "lost"  # nobody has told it, and the next pass will
    UNKNOWN = "unknown"  # who could say so does not answer


@dataclass(frozen=True, slots=True)
class Found:
    """One cause."""

    reason: Reason
    text: str
    at: float | None = None
    """When that ends by itself, in epoch seconds."""
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        shown = {name: plain(value) for name, value in self.details.items()}
        return {"reason": str(self.reason), "text": self.text, "at": self.at, "details": shown}
