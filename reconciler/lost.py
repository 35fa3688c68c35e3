"""What it means that Redis is not as it was: which kind of loss, what is gone, and whom the application wants told. Pure.

    @on_redis_loss
    def page(loss: RedisLoss) -> None: ...

One process of reconcilers tells of each loss, once; a function that raises is logged and hinders nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from qik_core.errors import DefinitionError
from qik_core.passes import Witness, lineage

log: Final = logging.getLogger("reconciler")


class LossKind(StrEnum):
    """What was lost, as far as it can be told."""

    EMPTIED = "emptied"  # everything, by FLUSHALL or FLUSHDB: the server goes on
    CAME_EMPTY = "came_empty"  # everything: the server started anew, or is another one
    WENT_BACK = "went_back"  # an old copy is there: a snapshot, or a replica that lagged
    LOCKS = "locks"  # the epoch or the locks; the jobs are there
    JOBS = "jobs"  # some jobs, deleted from their lists under their locks
    HELD = "held"  # what worker processes held


_TEXTS: Final = {
    LossKind.EMPTIED: "Redis was emptied, as by FLUSHALL: the server did not restart",
    LossKind.CAME_EMPTY: "Redis came back empty: the server restarted, or it is another one",
    LossKind.WENT_BACK: "Redis went back{ago}: an old snapshot was loaded, or a replica that lagged took over",
    LossKind.LOCKS: "the epoch or the locks were deleted; the jobs are there",
    LossKind.JOBS: "{jobs:,} jobs were deleted by hand under their locks",
    LossKind.HELD: "{jobs:,} exchanges were lost: what worker processes held was deleted, or an old copy of it came back",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one process knew of Redis."""

    loss: str
    birth_ms: int
    number: int
    """What it left there last: milliseconds."""
    life: str = ""
    """Which start of the server it was; empty where that may not be asked."""
    lost_exchanges: int = 0
    deleted: int = 0

    @classmethod
    def of(cls, witness: Witness, life: str) -> Seen:
        """Return what a look has found."""
        return cls(
            loss=witness.epoch.loss,
            birth_ms=witness.epoch.birth_ms,
            number=witness.now,
            life=life,
            lost_exchanges=witness.lost_exchanges,
            deleted=witness.deleted,
        )

    @classmethod
    def kept(cls, known: Any) -> Seen | None:
        """Return what another process has kept of its own; None where that is of a release that knew other things."""
        try:
            return cls(
                loss=str(known["loss"]),
                birth_ms=int(known["birth_ms"]),
                number=int(known["number"]),
                life=str(known["life"]),
                lost_exchanges=int(known["lost_exchanges"]),
                deleted=int(known["deleted"]),
            )
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """A loss, as one process has noticed it."""

    kind: LossKind
    at: float
    """Epoch seconds by the clock of Redis."""
    loss: str
    """The loss id now."""
    back: float | None = None
    """By how many seconds the data went back, where that is known."""
    jobs: int | None = None
    """Jobs that were deleted, or exchanges that were lost."""
    on_purpose: bool = False
    """Everything was flushed with `reconciler flush`, and nothing was lost."""

    @property
    def text(self) -> str:
        """What happened, for people."""
        if self.on_purpose:
            return "everything was flushed on purpose"
        ago = "" if self.back is None else f" by {self.back:.1f} s"
        return _TEXTS[self.kind].format(ago=ago, jobs=self.jobs or 0)

    @property
    def whole(self) -> bool:
        """Whether all data was lost: counts of before mean nothing any more."""
        return self.kind not in (LossKind.JOBS, LossKind.HELD) and not self.on_purpose


def judge(before: Seen, now: Witness, life: str) -> Noticed | None:
    """Return what was lost between two looks of one process; None when nothing was. `life` is that of the server now."""
    kind = _of_all(before, now, life)
    if kind is not None:
        went_back = kind is LossKind.WENT_BACK and now.before is not None
        back = (before.number - (now.before or 0)) / 1000 if went_back else None
        same = lineage(now.epoch.loss) == lineage(before.loss)
        flushed = same and kind is not LossKind.WENT_BACK
        return Noticed(kind=kind, at=now.time, loss=now.epoch.loss, back=back, on_purpose=flushed)
    for part, count in (
        (LossKind.JOBS, now.deleted - before.deleted),
        (LossKind.HELD, now.lost_exchanges - before.lost_exchanges),
    ):
        if count > 0:
            return Noticed(kind=part, at=now.time, loss=now.epoch.loss, jobs=count)
    return None


def _of_all(before: Seen, now: Witness, life: str) -> LossKind | None:
    other_life = "" in (life, before.life) or life != before.life
    born = now.epoch.birth_ms
    own = born and now.epoch.loss != before.loss and (now.before or 0) >= born
    if (
        now.before is not None and not own
    ):  # else it was left since, and says nothing of what was there before
        if now.before < before.number or now.epoch.birth_ms < before.birth_ms:
            return LossKind.WENT_BACK
        return LossKind.LOCKS if now.epoch.loss != before.loss else None
    if (
        now.epoch.loss == before.loss
    ):  # a mark that is gone under the same server was deleted by hand
        return LossKind.WENT_BACK if other_life else None
    if now.epoch.birth_ms < before.birth_ms:
        return LossKind.WENT_BACK
    return LossKind.CAME_EMPTY if life != before.life else LossKind.EMPTIED


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisLoss:
    """What `on_redis_loss` tells. Times are epoch seconds."""

    kind: LossKind
    text: str
    """What happened, for people."""
    at: float
    """When it was noticed, by the clock of Redis."""
    loss: str
    """The loss id now."""
    back: float | None = None
    """By how many seconds the data went back, where that is known."""
    jobs: int | None = None
    """Jobs that were deleted, or exchanges that were lost."""
    unreconciled: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Job class that no reconciler tells again → where its jobs were → how many, as last counted."""
    counted_ago: float | None = None
    """How many seconds before they were counted; None: they never were."""
    exact: bool = True
    """False: lists were too long to be counted whole."""

    @property
    def gone(self) -> int:
        """How many jobs nobody tells again, as last counted."""
        return sum(sum(each.values()) for each in self.unreconciled.values())

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**asdict(self), "kind": str(self.kind), "gone": self.gone}


H = TypeVar("H", bound=Callable[[RedisLoss], object])
_handlers: list[Callable[[RedisLoss], object]] = []


def on_redis_loss(handler: H) -> H:
    """Call the function with every loss of data in Redis that this process tells of.

    Raises:
        DefinitionError: not callable.
    """
    if not callable(handler):
        raise DefinitionError(f"{handler!r:.80} is no function: write one below @on_redis_loss")
    if handler not in _handlers:
        _handlers.append(handler)
    return handler


def tell(loss: RedisLoss) -> None:
    """Tell the application. Never raises."""
    for handler in tuple(_handlers):
        try:
            handler(loss)
        except BaseException:
            log.exception("a function for losses of Redis raised")


def clear() -> None:
    """Forget all functions, for tests."""
    _handlers.clear()
