"""What SQL knows of every reconciler: who runs it, and how its last pass ended. Needs no application code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select

from reconciler.lease import PROCESS
from reconciler.ledger import codes
from reconciler.report import SHADOW
from reconciler.sql import clock, reading
from reconciler.tables import lease, passes
from reconciler.words import span

_QUERY = 2.0
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Last:
    """The newest pass that has ended."""

    outcome: str
    reason: str
    age: float
    """Seconds since it ended, by the database's clock."""
    seconds: float
    scanned: int
    codes: Mapping[str, Any]
    details: Mapping[str, Any]
    """What it measured: see `gauges.py`."""

    @property
    def untold_for(self) -> float | None:
        """Seconds since when the oldest row was untold; None where there was none, or rows have no age."""
        found: float | None = self.details.get("oldest_untold_age")
        return found

    @property
    def held(self) -> int:
        """How many rows were held back."""
        return int(self.details.get("waiting", 0) + self.details.get("quarantined", 0))

    @property
    def drift(self) -> Mapping[str, int]:
        """How many rows that it told had lost their job, by cause."""
        found: Mapping[str, int] = self.details.get("drift") or {}
        return found

    @property
    def whole(self) -> float | None:
        """Seconds within which every row would be told again if Redis lost its data; None where it did not see all."""
        found: float | None = self.details.get("time_to_whole")
        return found


@dataclass(frozen=True, slots=True)
class Turn:
    """One pass of the ledger. A moment is in epoch seconds by the database's clock."""

    number: int
    holder: str
    term: int
    """0 for a pass by hand."""
    began: float
    scanned: int
    """So far, for a pass under way."""
    end: Last | None
    """None for a pass under way, or of a process that died in it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One reconciler, as SQL has it."""

    reconciler: str
    shard: str
    """Empty for a reconciler without shards."""
    job: str | None
    holder: str | None
    """Who holds the lease; None when nobody does, or it has expired."""
    term: int
    expires_in: float | None
    running_for: float | None
    """Seconds since the pass under way began, None outside of a pass."""
    last: Last | None

    @property
    def unit(self) -> str:
        """The name, with the shard behind it where there is one."""
        return f"{self.reconciler}/{self.shard}" if self.shard else self.reconciler

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def standings(home: Engine) -> list[Standing]:
    """Return every reconciler that ever held a lease or ran, by name.

    Raises:
        SqlUnavailable: the database cannot be reached.
        NotMigrated: it has no tables of ours.
    """
    with reading(home, _QUERY) as connection:
        now = float(connection.execute(select(clock(home.dialect.name))).scalar_one())
        ours = select(lease).where(lease.c.reconciler.not_like(f"{PROCESS}%"))
        leases = {_unit(row): row for row in connection.execute(ours)}
        ids = select(func.max(passes.c.id)).group_by(passes.c.reconciler, passes.c.shard)
        under_way = _passes(connection, [row[0] for row in connection.execute(ids)])
        last = {unit: row for unit, row in under_way.items() if row.outcome is not None}
        last |= _passes(connection, _ended_before(connection, under_way.values()))
    units = sorted({*leases, *under_way})
    return [
        _standing(unit, leases.get(unit), last.get(unit), under_way.get(unit), now)
        for unit in units
    ]


def _passes(connection: Connection, ids: Sequence[int]) -> dict[tuple[str, str], Row[Any]]:
    """Return these passes by unit."""
    return {
        _unit(row): row
        for at in range(0, len(ids), _CHUNK)
        for row in connection.execute(select(passes).where(passes.c.id.in_(ids[at : at + _CHUNK])))
    }


def _ended_before(connection: Connection, newest: Iterable[Row[Any]]) -> list[int]:
    """Return the ids of the newest passes that have ended, of units whose newest has not.

    Each is looked up by the index from its end: whether a pass has ended is in no index, so to group by it reads all of them.
    """
    going, before = passes.alias(), passes.alias()
    last = (
        select(before.c.id)
        .where(before.c.reconciler == going.c.reconciler, before.c.shard == going.c.shard)
        .where(before.c.outcome.is_not(None))
        .order_by(before.c.id.desc())
        .limit(1)
        .correlate(going)
        .scalar_subquery()
    )
    ids = [row.id for row in newest if row.outcome is None]
    return [
        row[0]
        for at in range(0, len(ids), _CHUNK)
        for row in connection.execute(select(last).where(going.c.id.in_(ids[at : at + _CHUNK])))
        if row[0] is not None
    ]


def turns(home: Engine, reconciler: str, shard: str, most: int) -> list[Turn]:
    """Return the last passes of a reconciler or one shard of it, the newest first, at most so many.

    Raises:
        SqlUnavailable: the database cannot be reached.
        NotMigrated: it has no tables of ours.
    """
    ours = passes.c.reconciler == reconciler, passes.c.shard == shard
    newest = select(passes).where(*ours).order_by(passes.c.id.desc()).limit(most)
    with reading(home, _QUERY) as connection:
        now = float(connection.execute(select(clock(home.dialect.name))).scalar_one())
        rows = connection.execute(newest).fetchall()
    return [_turn(row, now) for row in rows]


def _turn(row: Row[Any], now: float) -> Turn:
    return Turn(
        number=row.id,
        holder=row.holder,
        term=row.term,
        began=row.started_at,
        scanned=row.scanned,
        end=None if row.outcome is None else _last(row, now),
    )


def _unit(row: Row[Any]) -> tuple[str, str]:
    return row.reconciler, row.shard


def _standing(
    unit: tuple[str, str],
    held: Row[Any] | None,
    last: Row[Any] | None,
    newest: Row[Any] | None,
    now: float,
) -> Standing:
    led = held is not None and held.holder is not None and held.expires_at > now
    running = newest is not None and newest.outcome is None and led
    return Standing(
        reconciler=unit[0],
        shard=unit[1],
        job=None if newest is None else newest.job_class,
        holder=held.holder if held is not None and led else None,
        term=0 if held is None else held.term,
        expires_in=round(held.expires_at - now, 3) if held is not None and led else None,
        running_for=round(now - newest.started_at, 3) if newest is not None and running else None,
        last=None if last is None else _last(last, now),
    )


def _last(row: Row[Any], now: float) -> Last:
    return Last(
        outcome=row.outcome,
        reason=row.reason or "",
        age=round(now - row.ended_at, 3),
        seconds=round(row.ended_at - row.started_at, 3),
        scanned=row.scanned,
        codes=codes(row.codes),
        details=codes(row.details),
    )


def time_to_whole(standings: Sequence[Standing]) -> float | None:
    """Return the seconds within which every row would be told again if Redis lost its data now: the slowest reconciler's.

    None while nobody knows: see `doubt`.
    """
    if not standings or doubt(standings):
        return None
    return max(one.last.whole or 0.0 for one in standings if one.last is not None)


def doubt(standings: Sequence[Standing]) -> str:
    """Return why nobody knows within which time every row would be told again; empty when that is known."""
    reasons = ((one.unit, _doubt(one)) for one in standings)
    return "; ".join(f"{unit} {reason}" for unit, reason in reasons if reason)


def _doubt(one: Standing) -> str:
    if one.holder is None:
        return "is run by nobody"
    if one.last is None:
        return "has not ended a pass yet"
    if one.last.codes.get(SHADOW):
        return "is in shadow and tells nothing"
    if switch := one.last.details.get("switched_off"):
        return f"is switched off by {switch.get('flag')}"
    if one.last.details.get("time_to_whole") is None:
        return f"did not see all rows in its last pass ({one.last.outcome})"
    return ""


# --- for people -----------------------------------------------------------------------------------


def remarks(last: Last) -> Iterator[str]:
    """Yield what there is to say of a pass beside its numbers."""
    if last.reason:
        yield f"{last.outcome}: {last.reason}"
    if last.drift:
        yield f"the last pass told rows whose job was lost: {counted(last.drift)}"


def whole(rows: Sequence[Standing], *, answers: bool) -> str:
    """Say how long a loss of Redis would take to heal, or why nobody knows. `answers`: Redis does."""
    seconds = time_to_whole(rows) if answers else None
    if seconds is not None:
        return f"if Redis lost its data now, every row would be told again within {span(seconds)}"
    why = doubt(rows) if answers else "Redis does not answer, so no row is told"
    return f"how soon every row would be told again if Redis lost its data is not known: {why}"


def counted(counts: Mapping[str, int]) -> str:
    """Return counts by name, in one line."""
    return " ".join(f"{name}:{count:,}" for name, count in sorted(counts.items()))
