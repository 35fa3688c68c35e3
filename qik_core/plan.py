"""When, and as what, the jobs of one call go to Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from qik_core import options
from qik_core.arguments import RowError
from qik_core.errors import ArgumentError
from qik_core.store import Origin

_OPTIONS: Final = frozenset({"wait", "wait_until", "jitter", "jid"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When, and as what, the jobs of one call go to Redis. Seconds; what is due, in epoch seconds."""

    delay: float = 0.0
    due: float | None = None
    jitter: float = 0.0
    jid: str | None = None
    delays: Sequence[float] | None = None
    """One per item, instead of `delay` and `jitter`."""
    dues: Sequence[float] | None = None
    """One per item, instead of `due`."""
    jids: Sequence[bytes] | None = None
    """One per item, all of one length, instead of `jid` or of fresh ones."""
    versions: Sequence[bytes] | None = None
    digests: list[bytes] | None = None
    """The keys of the items, where they are known already."""
    origin: Origin = Origin.EDGE

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str) -> Plan:
        """Return the plan in the options of a call.

        Raises:
            ArgumentError: a delay, a moment or a jid that cannot work, or two times at once.
        """
        if not _OPTIONS & given.keys():
            return PLAIN
        if "wait" in given and "wait_until" in given:
            raise ArgumentError(f"{where}: wait and wait_until are two times: give one")
        return cls(
            delay=options.duration(given["wait"], f"{where}: wait") if "wait" in given else 0.0,
            due=options.moment(given["wait_until"], f"{where}: wait_until")
            if "wait_until" in given
            else None,
            jitter=options.duration(given["jitter"], f"{where}: jitter")
            if "jitter" in given
            else 0.0,
            jid=options.jid(given["jid"], where) if "jid" in given else None,
        )

    def at(self, where: str, *, delay: float = 0.0, due: float | None = None) -> Plan:
        """Return this plan with the time of `perform_in` or `perform_at`."""
        self._must_be_free(where)
        return replace(self, delay=delay, due=due)

    def each_at(self, where: str, moments: Sequence[object]) -> Plan:
        """Return this plan with a moment per item.

        Raises:
            ArgumentError: one that cannot work, by its place; or a time was set already.
        """
        self._must_be_free(where)
        dues = [
            options.moment(moment, f"{where}: at[{place}]") for place, moment in enumerate(moments)
        ]
        return replace(self, dues=dues)

    def part(self, start: int, count: int) -> Plan:
        """Return what this plan says of `count` items from `start` on.

        Raises:
            RowError: there is no moment for one of them.
        """
        if self.dues is None and self.jids is None:
            return self
        end = start + count
        dues = None if self.dues is None else self.dues[start:end]
        jids = None if self.jids is None else self.jids[start:end]
        if dues is not None and len(dues) < count:
            raise RowError(len(dues), f"there is no time for it: at has {start + len(dues):,}")
        return replace(self, dues=dues, jids=jids)

    def given_jids(self) -> list[bytes] | None:
        """Return the jids that the items have already, None for fresh ones."""
        if self.jid is not None:
            return [self.jid.encode()]
        return None if self.jids is None else list(self.jids)

    def times(
        self, count: int, dice: Callable[[], float]
    ) -> tuple[list[float] | None, list[float] | None]:
        """Return (delays, due times) of `count` items, rising, which is how Redis takes them fastest."""
        if self.delays is not None:
            return list(self.delays), None
        spread = (
            sorted(dice() * self.jitter for _ in range(count)) if self.jitter else [0.0] * count
        )
        if self.dues is not None:
            return None, [due + each for due, each in zip(self.dues, spread, strict=True)]
        if self.due is not None:
            return None, [self.due + each for each in spread]
        if self.jitter or self.delay:
            return [self.delay + each for each in spread], None
        return None, None

    def _must_be_free(self, where: str) -> None:
        if self.delay or self.due is not None:
            raise ArgumentError(f"{where}: wait or wait_until was set already: give one time")


PLAIN: Final = Plan()
"""A job of the application, now."""
