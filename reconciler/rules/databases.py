"""Questions to databases: how they would read the pages, whether they would ever give up waiting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine

from qik_core.errors import QikError, SettingsError
from qik_core.findings import Severity
from reconciler.advice import index_for
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.explain import BIG, Explained, explain
from reconciler.occurrences import source_of
from reconciler.options import GuardKind
from reconciler.rules.found import Check, Finding, ordered
from reconciler.sql import MYSQL, read_clock, reading, where
from reconciler.units import place_of
from reconciler.words import cause

_CONNECT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What databases answered: findings, and why some did not answer."""

    findings: list[Finding]
    errors: list[QikError]


def ask(
    reconcilers: Sequence[Definition],
    engines: Engines,
    gone: Mapping[str, Exception],
    *,
    big: int = BIG,
) -> Answers:
    """Look at the databases of reconcilers and at the statement of each; `gone` are those that do not answer."""
    found: list[Finding] = []
    errors: list[QikError] = []
    for name, one in sorted({place_of(each): each for each in reconcilers}.items()):
        error = gone.get(name)
        if isinstance(error, SqlUnavailable):
            errors.append(error)
        elif error is not None:
            remedy = "Correct the setting, or the database= of its reconcilers"
            found.append(Finding(Check.DATABASE, Severity.ERROR, name, str(error), remedy))
        else:
            found += _timeouts(name, engines.of(one))
    found += _replicas(reconcilers, engines)
    for each in reconcilers:
        if place_of(each) not in gone:
            try:
                engine = engines.of(each)
                found += [*_guarded(each, engine), *statement(each, engine, big=big)]
            except QikError as error:
                errors.append(error)
    return Answers(ordered(found), errors)


def _replicas(reconcilers: Sequence[Definition], engines: Engines) -> Iterator[Finding]:
    """A replica that is named is there; whether it is fresh is asked by each pass."""
    for each in reconcilers:
        if each.freshness is not None:
            try:
                engines.engine(each.freshness.replica)
            except SettingsError as error:
                remedy = "Correct the setting, or the replica= of its Freshness"
                yield Finding(Check.DATABASE, Severity.ERROR, each.name, str(error), remedy)


def _guarded(definition: Definition, engine: Engine) -> Iterator[Finding]:
    """A guard is one that this database has."""
    guard = definition.guard
    if guard is not None and guard.kind is not GuardKind.CLAIM and engine.dialect.name == "sqlite":
        yield Finding(
            Check.GUARD_UNSUPPORTED,
            Severity.ERROR,
            definition.name,
            f"its guard is {guard.kind}, and SQLite locks whole files, not rows: no job of it would run",
            "Use Guard.claim(Invoice.claimed_until), or another database",
        )


def statement(definition: Definition, engine: Engine, *, big: int = BIG) -> Iterator[Finding]:
    """Yield what is wrong with the statement of a reconciler's pages, by EXPLAIN.

    Raises:
        SqlUnavailable: the database does not answer.
    """
    try:
        first = source_of(definition, engine, read_clock(engine)).first
        values = {"qik__limit": definition.batch_size}
        seen = explain(engine, first, values, definition.statement_timeout, big=big)
    except QikError:
        raise
    except Exception as error:  # noqa: BLE001 - a statement that fails is what is looked for
        remedy = "Correct the query, or bring the table up to date"
        what = f"{cause(error):.300}"
        yield Finding(Check.STATEMENT, Severity.ERROR, definition.name, what, remedy)
        return
    yield from _scans(definition, engine, seen)


def _scans(definition: Definition, engine: Engine, seen: Explained) -> Iterator[Finding]:
    for scan in seen.scans:
        ddl = index_for(definition.shape, scan.source, engine.dialect)
        yield Finding(
            Check.SCAN,
            Severity.WARNING,
            definition.name,
            f"every page is a {scan}",
            ddl or "Compare a column that has an index, for equality, in its WHERE",
        )
        if seen.sorts and scan is seen.scans[0]:
            yield Finding(
                Check.SORT,
                Severity.NOTE,
                definition.name,
                "every page sorts all pending rows anew: no index has their order",
                "Use an index that ends with the columns of order_by and of the key",
            )


def _timeouts(name: str, engine: Engine) -> Iterator[Finding]:
    """Look at a live connection: what an application gave to `create_engine` can be seen nowhere else."""
    with reading(engine, _CONNECT) as connection:
        missing = missing_timeouts(engine.dialect.name, connection.connection.driver_connection)
    if missing:
        arguments = ", ".join(f"{each!r}: {_TIMEOUTS[each]}" for each in missing)
        yield Finding(
            Check.NO_TIMEOUT,
            Severity.WARNING,
            name,
            f"connections to {where(engine)} have no {' and no '.join(missing)}: a host that goes silent holds a pass up",
            f"create_engine(..., connect_args={{{arguments}}})",
        )


_TIMEOUTS: Final = {
    "connect_timeout": 3,
    "tcp_user_timeout": 30_000,
    "read_timeout": 30,
    "write_timeout": 30,
}


def missing_timeouts(dialect: str, raw: Any) -> list[str]:
    """Return which timeouts a driver's connection lacks; none where the driver is not known, or the server is local."""
    if dialect == "postgresql" and hasattr(raw, "info") and hasattr(raw.info, "get_parameters"):
        given = raw.info.get_parameters()
        if str(given.get("host", "/")).startswith("/"):
            return []
        return [each for each in ("connect_timeout", "tcp_user_timeout") if not given.get(each)]
    if dialect in MYSQL and hasattr(raw, "_read_timeout"):
        if getattr(raw, "unix_socket", None):
            return []
        found = {"read_timeout": raw._read_timeout, "write_timeout": raw._write_timeout}  # noqa: SLF001 - nowhere else
        return [name for name, value in found.items() if not value]
    return []
