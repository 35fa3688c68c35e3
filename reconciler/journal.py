"""What a rebuild says of itself: how far it is, what has to be noted, where it stands, and the audit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from qik_core.errors import QikError
from reconciler import audit
from reconciler.audit import Action
from reconciler.bookmarks import Bookmark, Bookmarks
from reconciler.lease import identity
from reconciler.pacing import Speed
from reconciler.passes import Tools
from reconciler.rebuilding import Part
from reconciler.rebuilt import Done, Order, Progress, Rebuilt, State
from reconciler.sql import read_clock
from reconciler.words import span

log: Final = logging.getLogger("reconciler")

_SHOWN: Final = 0.25
"""Seconds between two reports of how far it is."""
_NAMED: Final = 20
_ASKED: Final = 5


class Journal:
    """The journal of one rebuild; `tell` hears how far it is.

    Raises:
        SqlUnavailable: the home database does not say what time it is.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        tools: Tools,
        order: Order,
        tell: Callable[[Progress], object],
    ) -> None:
        self.notes: list[str] = []
        self.overridden: list[str] = []
        self.waits = ""
        """Why nothing is told now."""
        self._parts = parts
        self._order = order
        self._tell = tell
        self._home = tools.engines.home()
        self._holder = identity()
        self._bookmarks = Bookmarks(self._home)
        self._speed = Speed()
        self._began = monotonic()
        self._began_at = read_clock(self._home)
        self._told_at = 0.0

    def bookmarks(self) -> dict[str, Bookmark]:
        """Return where rebuilds of all units stood last. Raises SqlUnavailable."""
        return self._bookmarks.read()

    def keep(self, epoch: str, *, sure: bool = False) -> None:
        """Write down where the parts stand."""
        marks = [
            (part.unit, part.bookmark(epoch, self._holder, self._began_at)) for part in self._parts
        ]
        try:
            self._bookmarks.keep(marks, sure=sure)
        except QikError as error:
            self.note(f"where it stands cannot be written down: {error}")

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)
            log.info("rebuild: %s", text)

    def total(self) -> int | None:
        """Return how many rows were pending at the beginning; None where they were not all counted."""
        totals = [part.total for part in self._parts if part.state is not State.FAILED]
        return None if None in totals else sum(each or 0 for each in totals)

    def show(self, *, sure: bool = False) -> None:
        """Tell how far it is, a few times a second at most."""
        now = monotonic()
        if now - self._told_at < _SHOWN and not sure:
            return
        self._told_at = now
        scanned, total = sum(part.progress for part in self._parts), self.total()
        self._speed.saw(scanned)
        self._tell(
            Progress(
                scanned=scanned,
                total=None if total is None else max(total, scanned),
                enqueued=sum(part.enqueued for part in self._parts),
                seconds=now - self._began,
                rate=self._speed.rate,
                eta=None if total is None else self._speed.eta(total - scanned),
                waits=self.waits,
                notes=tuple(self.notes),
            )
        )

    def begin(self) -> None:
        """Put into the audit that it begins. Raises SqlUnavailable, NotMigrated."""
        self._record({"state": "began"})

    def end(self, error: Exception | None) -> Rebuilt:
        """Put into the audit how it ended; returns that."""
        done = Rebuilt(
            state=_whole([part.state for part in self._parts]),
            seconds=monotonic() - self._began,
            rate=self._order.rate,
            parts=tuple(part.done() for part in self._parts),
            overridden=tuple(self.overridden),
            notes=tuple(self.notes),
            error=error,
        )
        details = {"seconds": round(done.seconds, 1), "scanned": done.scanned, "codes": done.codes}
        try:
            self._record({"state": str(done.state), "overridden": self.overridden, **details})
        except QikError as failed:
            log.warning("the rebuild is not in the audit", extra={"error": str(failed)})
        self.show(sure=True)
        return done

    def _record(self, details: dict[str, Any]) -> None:
        names = [part.unit for part in self._parts]
        subject = names[0] if len(names) == 1 else f"{len(names)} reconcilers"
        said = {**details, "rate": self._order.rate, "units": names[:_NAMED]}
        who = self._order.who or self._holder
        audit.record(self._home, Action.REBUILT, subject, who, self._order.reason, said)


def _whole(states: Sequence[State]) -> State:
    """Return how a rebuild ended whose parts ended so: the worst of them; switched off only if all are."""
    for each in (State.FAILED, State.STOPPED):
        if each in states:
            return each
    return State.SWITCHED_OFF if states and set(states) == {State.SWITCHED_OFF} else State.COMPLETED


# --- for people ----------------------------------------------------------------------------------


def question(names: Sequence[str], order: Order) -> str:
    """Return what a rebuild of these reconcilers does, for a person to confirm."""
    named = ", ".join(names[:_ASKED])
    if len(names) > _ASKED:
        named += f" and {len(names) - _ASKED} more"
    speed = "as fast as it goes" if order.rate is None else f"{order.rate:g} rows a second"
    return f"tell every pending row without a job of {named}, {speed}"


def told(seen: Progress) -> str:
    """Return how far a rebuild is, in one line."""
    of = "" if seen.total is None else f" of {seen.total:,} ({_share(seen.scanned, seen.total)})"
    eta = "" if seen.eta is None else f", {span(seen.eta)} left"
    waits = f", waits: {seen.waits}" if seen.waits else ""
    return f"{seen.scanned:,}{of} rows, {seen.enqueued:,} told now, {seen.rate:,.0f} rows/s{eta}{waits}"


def ended(done: Rebuilt) -> list[str]:
    """Return how a rebuild ended, in lines: one for each unit, and one for all; not its error."""
    speed = done.scanned / done.seconds if done.seconds else 0.0
    return [
        *map(_of_part, done.parts),
        f"rebuild {done.state} in {span(done.seconds)} · scanned {done.scanned:,} ({speed:,.0f} rows/s)"
        + _counts(done.codes),
    ]


def _of_part(part: Done) -> str:
    since = " since it was cut off" if part.resumed else ""
    return (
        f"{part.unit}: {part.state} · scanned {part.scanned:,}{since}"
        + _counts(part.codes)
        + (part.reason and f" · {part.reason}")
    )


def _counts(codes: Mapping[str, int]) -> str:
    return "".join(f" · {code} {count:,}" for code, count in codes.items())


def _share(scanned: int, total: int) -> str:
    return f"{scanned / total:.0%}" if total else "100%"
