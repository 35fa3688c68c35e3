"""What SQL knows of every reconciler: who runs it, and how its last pass ended. Needs no application code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, Row, func, select

from reconciler.lease import PROCESS
from reconciler.ledger import codes
from reconciler.report import SHADOW
from reconciler.sql import clock, reading
from reconciler.tables import lease, passes

_QUERY = 2.0


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
    ended = select(func.max(passes.c.id)).where(passes.c.outcome.is_not(None))
    newest = select(func.max(passes.c.id))
    with reading(home, _QUERY) as connection:
        now = float(connection.execute(select(clock(home.dialect.name))).scalar_one())
        ours = select(lease).where(lease.c.reconciler.not_like(f"{PROCESS}%"))
        leases = {_unit(row): row for row in connection.execute(ours)}
        last, under_way = (
            {
                _unit(row): row
                for row in connection.execute(
                    select(passes).where(
                        passes.c.id.in_(each.group_by(passes.c.reconciler, passes.c.shard))
                    )
                )
            }
            for each in (ended, newest)
        )
    units = sorted({*leases, *under_way})
    return [
        _standing(unit, leases.get(unit), last.get(unit), under_way.get(unit), now)
        for unit in units
    ]


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
    return max(
        float(one.last.details["time_to_whole"]) for one in standings if one.last is not None
    )


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
