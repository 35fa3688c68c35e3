"""What is asked of a rebuild, how far it is, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

RATE: Final = 500.0
"""Rows a second, unless another rate is asked for."""


class State(StrEnum):
    """How far the rebuild of a unit is; and how a whole rebuild ended."""

    READY = "ready"
    COMPLETED = "completed"
    SWITCHED_OFF = "switched_off"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked of a rebuild."""

    rate: float | None = RATE
    """Rows a second, over all reconcilers together; None: as fast as it goes."""
    jitter: float | None = None
    """Seconds over which jobs are spread; None: each reconciler's own, where that is longer than the rebuild takes."""
    override: bool = False
    """Tell what a reconciler's switch stops."""
    fresh: bool = False
    """Begin with the first row, also where a rebuild was cut off."""
    who: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a rebuild is."""

    scanned: int
    total: int | None
    """Rows that were pending at the beginning; None where nobody could count them."""
    enqueued: int
    seconds: float
    rate: float
    """Rows a second, of the last seconds."""
    eta: float | None
    """Seconds until all is told; None while nobody knows."""
    waits: str = ""
    """Why nothing is told now; empty while it goes on."""
    notes: tuple[str, ...] = ()
    """What has to be said, once each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one unit."""

    unit: str
    state: State
    reason: str
    scanned: int
    total: int | None
    codes: Mapping[str, int]
    resumed: bool
    """It went on where a rebuild before was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """How a rebuild ended."""

    state: State
    seconds: float
    rate: float | None
    parts: tuple[Done, ...]
    overridden: tuple[str, ...] = ()
    """The switches that were overridden."""
    notes: tuple[str, ...] = ()
    error: Exception | None = None

    @property
    def scanned(self) -> int:
        """Rows that were looked at."""
        return sum(each.scanned for each in self.parts)

    @property
    def codes(self) -> dict[str, int]:
        """How many rows had each code, as a pass counts them."""
        total: dict[str, int] = {}
        for part in self.parts:
            for code, count in part.codes.items():
                total[code] = total.get(code, 0) + count
        return {code: count for code, count in sorted(total.items()) if count}

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "state": str(self.state),
            "seconds": round(self.seconds, 3),
            "rate": self.rate,
            "scanned": self.scanned,
            "rows_per_second": round(self.scanned / self.seconds, 1) if self.seconds else 0.0,
            "codes": self.codes,
            "overridden": list(self.overridden),
            "notes": list(self.notes),
            "parts": [{**asdict(each), "state": str(each.state)} for each in self.parts],
            "error": None if self.error is None else str(self.error),
        }
