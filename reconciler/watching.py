"""How many rows no job stands for now, as far as SQL and the epoch say: looked at again and again while a loss heals.

Nobody counts untold rows just for that: a pass says what it has scanned on its way, and how many of those were told
before. What is left of the rows that the last whole pass saw is taken to be like them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, Engine, Row, func, select

from qik_core import Code
from reconciler.bookmarks import Bookmark, Bookmarks
from reconciler.ledger import codes
from reconciler.pacing import Speed
from reconciler.report import TOLD, Outcome
from reconciler.sql import clock, reading
from reconciler.tables import passes

_QUERY: Final = 2.0
_WINDOW: Final = 86_400.0
"""Seconds behind which passes are not looked for."""

Unit: TypeAlias = tuple[str, str]
Passes: TypeAlias = Mapping[Unit, Row[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """One reconciler, or one shard of it."""

    unit: str
    pending: int | None
    """Rows that the last whole pass saw; None where none has been."""
    untold: int | None
    """Rows without a job, about; None where nobody knows."""
    doing: str
    """What is done about it, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One look at all of them."""

    units: tuple[Untold, ...]
    rate: float
    """Untold rows a second fewer, of the last seconds."""
    eta: float | None
    """Seconds until every row is told; None while nobody knows."""

    @property
    def untold(self) -> int:
        """Rows without a job, of those of whom that is known."""
        return sum(each.untold or 0 for each in self.units)

    @property
    def pending(self) -> int:
        """Rows that wait, as the last whole passes saw them."""
        return sum(each.pending or 0 for each in self.units)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Reconcilers of which nobody knows how many rows are untold."""
        return tuple(each.unit for each in self.units if each.untold is None)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "untold": self.untold,
            "pending": self.pending,
            "unknown": list(self.unknown),
            "rate": round(self.rate, 1),
            "eta": None if self.eta is None else round(self.eta, 1),
            "units": [asdict(each) for each in self.units],
        }


class Watching:
    """Looks again and again, and says how fast it heals. `now` is in monotonic seconds."""

    def __init__(self, home: Engine, now: Callable[[], float] = monotonic) -> None:
        self._home = home
        self._bookmarks = Bookmarks(home)
        self._speed = Speed(now)

    def look(self, loss: str | None) -> View:
        """Return how it stands; `loss` is the loss id of Redis, None where that is not known.

        Raises:
            SqlUnavailable: the home database does not answer.
            NotMigrated: it has no tables of ours.
        """
        units = look(self._home, self._bookmarks.read(), loss)
        left = sum(each.untold or 0 for each in units)
        self._speed.saw(-left)
        return View(units=tuple(units), rate=self._speed.rate, eta=self._speed.eta(left))


@dataclass(frozen=True, slots=True)
class _Known:
    """What SQL knows of one unit: passes, and its rebuild."""

    newest: Row[Any]
    ended: Row[Any] | None
    completed: Row[Any] | None
    mark: Bookmark | None

    @property
    def pending(self) -> int | None:
        """Rows that the last whole pass saw."""
        return None if self.completed is None else codes(self.completed.details).get("pending")

    def lost(self, loss: str | None) -> bool:
        """Whether Redis has lost its data since the last pass."""
        before = "" if self.ended is None else self.ended.epoch
        return bool(loss) and bool(before) and before != loss


def look(home: Engine, marks: Mapping[str, Bookmark], loss: str | None) -> list[Untold]:
    """Return every reconciler that ran in the last day, by name. Raises SqlUnavailable, NotMigrated."""
    with reading(home, _QUERY) as connection:
        recent = passes.c.started_at > clock(home.dialect.name) - _WINDOW
        newest = _newest(connection, recent)
        ended = _newest(connection, recent, passes.c.outcome.is_not(None))
        completed = _newest(connection, recent, passes.c.outcome == str(Outcome.COMPLETED))
    names = {unit: f"{unit[0]}/{unit[1]}" if unit[1] else unit[0] for unit in newest}
    return [
        _untold(
            name, _Known(newest[unit], ended.get(unit), completed.get(unit), marks.get(name)), loss
        )
        for unit, name in sorted(names.items())
    ]


def _newest(connection: Connection, *wanted: ColumnElement[bool]) -> Passes:
    ids = select(func.max(passes.c.id)).where(*wanted).group_by(passes.c.reconciler, passes.c.shard)
    found = connection.execute(select(passes).where(passes.c.id.in_(ids)))
    return {(row.reconciler, row.shard): row for row in found}


def _untold(name: str, known: _Known, loss: str | None) -> Untold:
    row, mark, pending, lost = known.newest, known.mark, known.pending, known.lost(loss)
    if mark is not None and mark.under_way and mark.total is not None:
        left = max(0, mark.total - mark.scanned)
        return Untold(unit=name, pending=mark.total, untold=left, doing="is rebuilt")
    if row.outcome is None:
        untold, doing = _under_way(row, pending, lost=lost), "pass under way"
    elif lost:
        untold, doing = pending, "waits for its pass"
    else:
        untold, doing = _after(row, pending), _doing(row)
    return Untold(unit=name, pending=pending, untold=untold, doing=doing)


def _under_way(row: Row[Any], pending: int | None, *, lost: bool) -> int | None:
    """Return what a pass has before it: its rows, as many of them as were untold among those that it has scanned."""
    if pending is None:
        return None
    scanned: int = row.scanned
    left = max(0, pending - scanned)
    if not scanned:
        return left if lost else 0
    told: int = min(scanned, codes(row.codes).get(TOLD, 0))
    return round(left * (1 - told / scanned))


def _after(row: Row[Any], pending: int | None) -> int | None:
    """Return what a pass that has ended has left: nothing if it completed."""
    if row.outcome == Outcome.COMPLETED:
        return 0
    seen = codes(row.details).get("pending", pending)
    if seen is None:
        return None
    counted = codes(row.codes)
    done: int = sum(count for code, count in counted.items() if code != Code.REFUSED)
    return max(0, int(seen) - done)


def _doing(row: Row[Any]) -> str:
    if row.outcome == Outcome.COMPLETED:
        return "told"
    return f"{row.outcome}: {row.reason}" if row.reason else str(row.outcome)


def ordered(units: Iterable[Untold]) -> Sequence[Untold]:
    """Return those first of which most is untold."""
    return sorted(units, key=lambda each: (-(each.untold or 0), each.unit))
