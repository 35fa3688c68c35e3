"""May a pass read the replica? Only while it says itself that it is fresh enough.

| | how far it is behind |
|---|---|
| PostgreSQL | nothing, if it has replayed what the primary had written a moment ago; else the age of its last commit |
| MariaDB, MySQL | `Seconds_Behind_Master` of all its channels, if each of them runs |
| any | what `lag=` returns, where it is given |

What cannot say is stale: a server that replicates nothing, one whose replication has stopped, one that does not answer.
A stale answer costs work, never a row: jobs look at their row on the primary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, cast

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from qik_core.errors import QikError
from reconciler.definition import Definition
from reconciler.errors import SqlUnavailable
from reconciler.options import Freshness
from reconciler.sql import MYSQL, reading, where

TIMEOUT: Final = 5.0
"""Seconds that each question may take."""

_WRITTEN: Final = text(
    "SELECT CAST(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS text), "
    "CAST(extract(epoch FROM clock_timestamp()) AS float8)"
)
_REPLAYED: Final = text(
    "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() >= CAST(:written AS pg_lsn), "
    "CAST(extract(epoch FROM pg_last_xact_replay_timestamp()) AS float8), "
    "CAST(extract(epoch FROM clock_timestamp()) AS float8)"
)
_THREADS: Final = (
    ("Slave_IO_Running", "Slave_SQL_Running", "Seconds_Behind_Master"),
    ("Replica_IO_Running", "Replica_SQL_Running", "Seconds_Behind_Source"),
)


class Unknown(Exception):
    """How far a replica is behind cannot be known; says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a pass reads."""

    engine: Engine | None
    """None: it has to wait."""
    lag: float | None
    """Seconds that the replica is behind; None where that is unknown, or nobody asked."""
    note: str
    """Why it is not the replica; empty where it is, or there is none."""


def reader(definition: Definition, primary: Engine, engine: Callable[[str], Engine]) -> Reading:
    """Return where a pass reads. `engine` returns the engine of a name in the settings.

    Raises:
        SettingsError: no database has the replica's name.
    """
    freshness = definition.freshness
    if freshness is None:
        return Reading(primary, None, "")
    replica = engine(freshness.replica)
    try:
        lag = measure(freshness, primary, replica)
    except Unknown as unknown:
        return _stale(freshness, primary, None, f"cannot say how far it is behind: {unknown}")
    most = cast("float", freshness.max_lag)  # it is one since its class has checked it
    if lag > most:
        return _stale(freshness, primary, lag, f"is {lag:.1f} s behind, {most:g} s are allowed")
    return Reading(replica, lag, "")


def _stale(freshness: Freshness, primary: Engine, lag: float | None, why: str) -> Reading:
    note = f"replica {freshness.replica!r} {why}"
    if freshness.fallback == "skip":
        return Reading(None, lag, note)
    return Reading(primary, lag, f"{note}; the primary was read")


def measure(freshness: Freshness, primary: Engine, replica: Engine) -> float:
    """Return how many seconds a replica is behind.

    Raises:
        Unknown: it cannot say.
    """
    if freshness.lag is not None:
        return _given(freshness.lag)
    name = replica.dialect.name
    try:
        if name == "postgresql":
            return _postgresql(primary, replica)
        if name in MYSQL:
            return _mysql(replica)
    except (QikError, SQLAlchemyError) as error:
        raise Unknown(" ".join(str(error).split())[:300]) from error
    raise Unknown(f"a database of the kind {name!r} has no replicas; give Freshness(lag=...)")


def _given(lag: Callable[[], float]) -> float:
    try:
        seconds = float(lag())
    except Exception as error:
        raise Unknown(f"lag= failed: {type(error).__name__}: {error}") from error
    if not isfinite(seconds):
        raise Unknown(f"lag= returned {seconds}")
    return max(0.0, seconds)


def _postgresql(primary: Engine, replica: Engine) -> float:
    """Ask the primary first: what it had written then is what the replica must have by now."""
    written, now = _written(primary)
    with reading(replica, TIMEOUT) as connection:
        row = connection.execute(_REPLAYED, {"written": written}).one()
    recovering, all_replayed, last, own = row
    if not recovering:
        raise Unknown(f"{where(replica)} is no replica")
    if all_replayed:
        return 0.0
    if last is None:
        raise Unknown(f"{where(replica)} has replayed no commit since it started")
    return max(0.0, float(own if now is None else now) - float(last))


def _written(primary: Engine) -> tuple[str | None, float | None]:
    """Return the place in the log up to which the primary had written, and its time; None where it does not answer."""
    try:
        with reading(primary, TIMEOUT) as connection:
            written, now = connection.execute(_WRITTEN).one()
    except SqlUnavailable:
        return None, None
    return written, now


def _mysql(replica: Engine) -> float:
    several = "ALL REPLICAS" if getattr(replica.dialect, "is_mariadb", False) else "REPLICA"
    with reading(replica, TIMEOUT) as connection:
        channels = connection.execute(text(f"SHOW {several} STATUS")).mappings().all()
    if not channels:
        raise Unknown(f"{where(replica)} is no replica")
    return max(_channel(replica, dict(each), _THREADS) for each in channels)


def _channel(
    replica: Engine, status: Mapping[str, Any], names: Sequence[tuple[str, str, str]]
) -> float:
    reads, applies, behind = next((each for each in names if each[0] in status), names[0])
    if status.get(reads) != "Yes" or status.get(applies) != "Yes" or status.get(behind) is None:
        said = status.get("Last_SQL_Error") or status.get("Last_IO_Error") or "no error was noted"
        raise Unknown(f"{where(replica)} replicates nothing now: {said}")
    return float(status[behind])
