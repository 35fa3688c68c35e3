"""How a job may say what becomes of it: returned from `perform`, or raised anywhere inside it.

    def perform(self, invoice_id: int) -> None | RetryIn:
        if bank.is_closed():
            return RetryIn(timedelta(hours=1))

A job that says nothing has ended well.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from qik_core.errors import ArgumentError, QikError

_LONGEST: Final = 10 * 365 * 86_400.0


class Outcome(QikError):
    """What becomes of a job, by its own word."""


class RetryIn(Outcome):
    """It failed: run it again after this long, as one more of its retries. A timedelta or seconds."""

    def __init__(self, delay: timedelta | float, reason: str = "") -> None:
        self.seconds = _seconds(delay, "RetryIn")
        super().__init__(reason or f"asked to be retried in {self.seconds:g} s")


class RequeueAfter(Outcome):
    """Nothing failed: run it again after this long, with all its retries left. A timedelta or seconds."""

    def __init__(self, delay: timedelta | float = 0.0) -> None:
        self.seconds = _seconds(delay, "RequeueAfter")
        super().__init__(f"asked to run again in {self.seconds:g} s")


class Discard(Outcome):
    """It is over and not wanted: dropped, its lock freed, counted as discarded."""

    def __init__(self, reason: str) -> None:
        super().__init__(_reason(reason, "Discard"))


class Terminal(Outcome):
    """It can never succeed: dead at once, whatever its retries."""

    def __init__(self, reason: str) -> None:
        super().__init__(_reason(reason, "Terminal"))


def _seconds(delay: object, name: str) -> float:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ArgumentError(f"{name}({delay!r:.80}): use a timedelta or a number of seconds")
    if not (math.isfinite(seconds) and 0 <= seconds <= _LONGEST):
        raise ArgumentError(f"{name}({seconds}): use 0 seconds to 10 years")
    return float(seconds)


def _reason(reason: object, name: str) -> str:
    if type(reason) is not str or not reason.strip():
        raise ArgumentError(f"{name}({reason!r:.80}): say why, in a few words")
    return reason
