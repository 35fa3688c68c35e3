"""How three kinds of database are spoken to: their clock, a page's transaction, our own writes, what an error means.

| | PostgreSQL | MariaDB, MySQL | SQLite |
|---|---|---|---|
| clock | `clock_timestamp()` | `UTC_TIMESTAMP(6)` | `julianday('now')` |
| read-only page | READ ONLY transaction | `START TRANSACTION READ ONLY` | one SELECT, autocommitted |
| statement timeout | `statement_timeout`, local | `max_statement_time`, `max_execution_time` | interrupted by a timer |
| our own writes | READ COMMITTED | READ COMMITTED | BEGIN IMMEDIATE |
| standing idle | ended by the server | ended by the server (MariaDB) | holds nothing while it reads |

Connections may come from an application's engine, whatever its isolation level: each one is told what it needs, and
SQLAlchemy puts it back when it returns to the pool. A deferred SQLite transaction that upgrades to a write fails at
once instead of waiting for its turn; therefore BEGIN IMMEDIATE. MariaDB knows no limits of one transaction, only of a
session: what the session had is kept in a variable of the session meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from threading import Timer
from time import sleep
from typing import Any, Final, TypeVar

from sqlalchemy import (
    Connection,
    Double,
    Engine,
    Executable,
    Table,
    event,
    exc,
    literal_column,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from reconciler.errors import Conflict, NotMigrated, SqlUnavailable, StatementTimeout
from reconciler.silence import answering

WRITE_TIMEOUT: Final = 10.0
"""Seconds that one of our own statements may take: they touch a handful of rows."""

_READ_ONLY: Final = ", set_config('transaction_read_only', 'on', true)"
"""Said to the transaction alone: a driver that is told so keeps asking for READ WRITE afterwards, which no standby grants."""

CLOCK_TIMEOUT: Final = 3.0
"""Seconds that the question for the time may take: a pass begins with it, and so learns soon that nobody answers."""

IDLE: Final = 5.0
"""Seconds that a transaction of ours may wait for its next statement: there is nothing between them."""

MYSQL: Final = frozenset({"mysql", "mariadb"})
"""What SQLAlchemy calls them, after the URL: a MariaDB may be spoken to by either name."""

_CLOCKS: Final = {
    "postgresql": "extract(epoch from clock_timestamp())::float8",
    "mysql": "timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1e6",
    "mariadb": "timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1e6",
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
}
T = TypeVar("T")

TRIES: Final = 5
_PAUSE: Final = 0.02
"""Seconds, at most and for each try so far, before a transaction that lost to another begins again."""

_TIMED_OUT: Final = {"57014", 1969, 3024}  # query_canceled, MariaDB's and MySQL's ER_*_TIMEOUT
_CONFLICTS: Final = {
    "40001",
    "40P01",
    1020,
    1213,
}  # serialisation, deadlock, ER_CHECKREAD, ER_LOCK_DEADLOCK
_GRACE: Final = 5.0
"""Seconds between the server's limit of a statement and the driver's."""
_NO_TABLE: Final = {"42P01", 1146}
_COLLATIONS: Final = {
    1267,
    1270,
    1271,
}  # a character that the other side of a comparison does not have
_MISTAKE: Final = {1, 1052, 1054, 1064, 1142, 1143, 1146, 1227, 1305, 1792} | _COLLATIONS
"""Mistakes in a statement that drivers report as if the database were at fault: SQLITE_ERROR, unknown columns, no right
to a table or column, a write in a read-only transaction."""


def clock(dialect: str) -> ColumnElement[float]:
    """Return the database's clock as an expression: epoch seconds, as a float.

    Raises:
        SqlUnavailable: a database this package does not know.
    """
    if dialect not in _CLOCKS:
        raise SqlUnavailable(
            f"databases of the kind {dialect!r} are not supported: use {', '.join(sorted(_CLOCKS))}"
        )
    return literal_column(_CLOCKS[dialect], Double)


def read_clock(engine: Engine) -> float:
    """Return the database's time in epoch seconds.

    Raises:
        SqlUnavailable: the database does not answer.
    """
    with reading(engine, CLOCK_TIMEOUT) as connection:
        return float(connection.execute(select(clock(engine.dialect.name))).scalar_one())


@contextmanager
def reading(engine: Engine, timeout: float) -> Iterator[Connection]:
    """Yield a connection in a short read-only transaction whose statements may take `timeout` seconds.

    Raises:
        StatementTimeout: a statement took longer.
        Conflict: the database ended the transaction in favour of another.
        SqlUnavailable: the database cannot be reached.
        NotMigrated: a table is missing.
    """
    read = {"postgresql": _read_postgresql, "sqlite": _read_sqlite}.get(
        engine.dialect.name, _read_mysql
    )
    with (
        translated(engine),
        engine.connect() as connection,
        answering(connection, timeout, where(engine)),
        read(connection, timeout),
    ):
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction of ours, committed at the end, rolled back on an error.

    Raises:
        SqlUnavailable: the database cannot be reached, or is locked for too long.
        StatementTimeout: a statement waited too long for others.
        Conflict: the database ended the transaction in favour of another.
        NotMigrated: our tables are missing.
    """
    write = {"postgresql": _write_postgresql, "sqlite": _write_sqlite}.get(
        engine.dialect.name, _write_mysql
    )
    with (
        translated(engine),
        engine.connect() as connection,
        answering(connection, WRITE_TIMEOUT, where(engine)),
        write(connection) as ready,
    ):
        yield ready


def missing_rows(dialect: str, table: Table, rows: Sequence[Mapping[str, Any]]) -> Executable:
    """Return the INSERT of those rows whose key is not there yet: another process may be faster at any of them."""
    if dialect in MYSQL:
        made = mysql.insert(table).values(rows)
        key = next(iter(table.primary_key))
        return made.on_duplicate_key_update({key.name: key})
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).values(rows).on_conflict_do_nothing()


def again(
    work: Callable[[], T],
    wait: Callable[[float], object] = sleep,
    dice: Callable[[], float] = random.random,
) -> T:
    """Return what `work` returns; where the database ended it in favour of another, begin it again, a few times.

    Raises:
        Conflict: each time.
    """
    for tried in range(1, TRIES):
        try:
            return work()
        except Conflict:
            wait(_PAUSE * tried * dice())
    return work()


@contextmanager
def _write_sqlite(connection: Connection) -> Iterator[Connection]:
    ready = immediate(connection)
    with ready.begin():
        yield ready


@contextmanager
def _write_postgresql(connection: Connection) -> Iterator[Connection]:
    ready = connection.execution_options(isolation_level="READ COMMITTED")
    with ready.begin():
        _limit(ready, WRITE_TIMEOUT)
        yield ready


@contextmanager
def _write_mysql(connection: Connection) -> Iterator[Connection]:
    ready = connection.execution_options(isolation_level="READ COMMITTED")
    with ready.begin(), _limited(ready, WRITE_TIMEOUT):
        yield ready


def immediate(connection: Connection) -> Connection:
    """Return the SQLite connection with each transaction beginning as BEGIN IMMEDIATE.

    The driver's own transactions begin at the first write and not at all for DDL, so it is told to leave them alone.
    """
    ready = connection.execution_options(isolation_level="AUTOCOMMIT")
    event.listen(ready, "begin", _begin_immediate)
    event.listen(ready, "before_cursor_execute", _begun_already, retval=True)
    return ready


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begun_already(
    connection: Connection, _cursor: object, statement: str, parameters: Any, *_: object
) -> tuple[str, Any]:
    """Leave out the BEGIN of an application whose engine follows SQLAlchemy's recipe for SQLite: ours comes first."""
    raw: Any = connection.connection.driver_connection
    begun = statement[:5].upper() == "BEGIN" and raw.in_transaction
    return "SELECT 1" if begun else statement, parameters


@contextmanager
def _read_postgresql(connection: Connection, timeout: float) -> Iterator[None]:
    ready = connection.execution_options(isolation_level="READ COMMITTED")
    with ready.begin():
        _limit(ready, timeout, _READ_ONLY)
        yield


def _limit(connection: Connection, seconds: float, more: str = "") -> None:
    """Limit the statements of this PostgreSQL transaction, and how long it may stand idle.

    A process that was frozen inside of it must not hold its locks, nor vacuum, for as long as it is frozen.
    """
    statement, idle = max(1, int(seconds * 1000)), int(IDLE * 1000)
    connection.exec_driver_sql(
        f"SELECT set_config('statement_timeout', '{statement}', true), "
        f"set_config('idle_in_transaction_session_timeout', '{idle}', true){more}"
    )


@contextmanager
def _read_sqlite(connection: Connection, timeout: float) -> Iterator[None]:
    ready = connection.execution_options(isolation_level="AUTOCOMMIT")
    raw: Any = ready.connection.driver_connection
    timer = Timer(timeout, raw.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # an interrupt that is late must not hit the next user of this connection


@contextmanager
def _read_mysql(connection: Connection, timeout: float) -> Iterator[None]:
    ready = connection.execution_options(isolation_level="READ COMMITTED")
    with ready.begin(), _limited(ready, timeout):
        ready.exec_driver_sql("START TRANSACTION READ ONLY")
        yield


@contextmanager
def _limited(connection: Connection, seconds: float) -> Iterator[None]:
    """Limit the statements of this MariaDB session, and how long its transaction may stand idle; then put both back.

    The first error is the one to tell: on a connection that it has broken, putting back fails as well.
    """
    limits = _limits(connection, seconds)
    kept = ", ".join(f"@qik__{name} = @@SESSION.{name}" for name in limits)
    new = ", ".join(f"SESSION {name} = {value}" for name, value in limits.items())
    old = ", ".join(f"SESSION {name} = @qik__{name}" for name in limits)
    connection.exec_driver_sql(f"SET {kept}, {new}")
    try:
        with _patient(connection, seconds):
            yield
    except BaseException:
        with suppress(exc.SQLAlchemyError):
            _put_back(connection, old)
        raise
    _put_back(connection, old)


def _limits(connection: Connection, seconds: float) -> dict[str, float]:
    if not getattr(connection.dialect, "is_mariadb", False):
        return {"max_execution_time": max(1, int(seconds * 1000))}
    return {"max_statement_time": seconds, "idle_transaction_timeout": ceil(IDLE)}


def _put_back(connection: Connection, old: str) -> None:
    try:
        connection.exec_driver_sql(f"SET {old}")
    except exc.SQLAlchemyError:  # nobody else may get this session with our limits
        connection.invalidate()
        raise


@contextmanager
def _patient(connection: Connection, seconds: float) -> Iterator[None]:
    """Let PyMySQL wait for an answer a little longer than the server may take for it: else it takes slow for dead.

    It has no public way to say so for a connection that is open.
    """
    raw: Any = connection.connection.driver_connection
    before = getattr(raw, "_read_timeout", None)
    if before is None or before > seconds + _GRACE:
        yield
        return
    raw._read_timeout = seconds + _GRACE  # noqa: SLF001
    try:
        yield
    finally:
        raw._read_timeout = before  # noqa: SLF001


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into ours; errors in a statement itself (a renamed column) stay what they are."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _meaning(engine, error) from error
    except exc.TimeoutError as error:
        raise SqlUnavailable(
            f"{where(engine)}: no connection became free in the pool: {error}"
        ) from error


def _meaning(engine: Engine, error: exc.DBAPIError) -> Exception:
    code = _code(error.orig)
    text = " ".join(str(error.orig).split()) or type(error.orig).__name__
    if code in _TIMED_OUT or text == "interrupted":
        return StatementTimeout(f"{where(engine)}: the statement took too long: {text}")
    if code in _CONFLICTS:
        return Conflict(f"{where(engine)}: {text:.300}")
    if (code in _NO_TABLE or "no such table" in text) and "reconciler_" in text:
        return NotMigrated(f"{where(engine)}: {text}. Run `reconciler upgrade`.")
    away = isinstance(error, (exc.OperationalError, exc.InterfaceError)) and code not in _MISTAKE
    if away or error.connection_invalidated:
        return SqlUnavailable(f"{where(engine)}: {text:.300}")
    return error


def is_of_a_value(error: Exception) -> bool:
    """Return whether it is a value that is wrong: refused by the database, by its driver, or by the column's type."""
    if not isinstance(error, exc.DBAPIError):
        return True
    return isinstance(error, exc.DataError) or _code(error.orig) in _COLLATIONS


def _code(error: object) -> object:
    """Return the driver's own code: PostgreSQL's SQLSTATE, SQLite's and MariaDB's numbers."""
    first = next(iter(getattr(error, "args", None) or ()), None)
    if isinstance(first, int):  # MariaDB has a SQLSTATE as well, one for many numbers
        return first
    for name in ("sqlstate", "sqlite_errorcode"):
        if (code := getattr(error, name, None)) is not None:
            return code
    return first


def where(engine: Engine) -> str:
    """Return the engine's address for a message, without its password."""
    return engine.url.render_as_string(hide_password=True)
