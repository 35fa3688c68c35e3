"""Why a row had no job when a pass met it: the "lost jobs" that nobody else counts, by cause. Pure.

What is surest is asked first: its own state, then a lock whose job was gone, then a loss of Redis that came after the row
had been told; whatever is left was never told, or told and lost without a trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.states import Reason


class Cause(StrEnum):
    """Why a pass had to tell a row."""

    FLUSH = "flush"  # Redis lost its data, and the row had been told before
    LOCK_WITHOUT_JOB = "lock_without_job"  # somebody deleted the job and left its lock
    CRASH = "crash"  # its job ended its process; it has waited since
    DIED = "died"  # its job used up its retries; it has waited since
    NO_PROGRESS = "no_progress"  # its job ended well and left it pending; it has waited since
    UNTOLD = "untold"  # nobody had told it


_BY_REASON: Final[Mapping[Reason, Cause]] = {
    Reason.CRASHED: Cause.CRASH,
    Reason.DIED: Cause.DIED,
    Reason.TERMINAL: Cause.DIED,
    Reason.NO_PROGRESS: Cause.NO_PROGRESS,
}


@dataclass(frozen=True, slots=True)
class Loss:
    """Redis has lost its data since the last pass that told every row. Epoch seconds by the database's clock."""

    told_until: float
    """When that pass began: rows that were pending then had been told."""


def causes(
    reasons: Sequence[Reason | None],
    orphans: Sequence[bool],
    ages: Sequence[float | None] | None,
    loss: Loss | None,
) -> list[Cause]:
    """Return why each row had no job.

    Args:
        reasons: how its job ended last, as far as that is remembered.
        orphans: whether a roll found its lock without a job.
        ages: since when each row has been pending, in epoch seconds; None where nothing says so, for all or for one.
        loss: None when Redis has kept its data since the last pass that told every row, or there was none.
    """
    rows = zip(reasons, orphans, [None] * len(reasons) if ages is None else ages, strict=True)
    return [_cause(reason, age, loss, orphan=orphan) for reason, orphan, age in rows]


def _cause(reason: Reason | None, age: float | None, loss: Loss | None, *, orphan: bool) -> Cause:
    known = None if reason is None else _BY_REASON.get(reason)
    if known is not None:
        return known
    if orphan:
        return Cause.LOCK_WITHOUT_JOB
    if loss is not None and (age is None or age < loss.told_until):
        return Cause.FLUSH
    return Cause.UNTOLD
