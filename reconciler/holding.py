"""Guards at work: what keeps a second run of one row out, should locks in Redis ever let one through.

| | what it holds | while the job runs |
|---|---|---|
| claim | a moment in a column of the row: taken until then | nothing in the database; free after `ttl` if the process dies |
| row lock | `SELECT … FOR UPDATE SKIP LOCKED`, in the session that the job uses | a transaction: for short jobs |
| advisory lock | PostgreSQL's of a transaction, MariaDB's GET_LOCK | a connection |

Each is taken first and the predicate looked at behind it, so that a run whose effect is committed lets nobody in again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from math import ceil
from typing import Any, Final, Protocol, assert_never

from sqlalchemy import Connection, Engine, Table, and_, bindparam, exc, or_, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from reconciler import columns, sql
from reconciler.errors import ReconcilerError, SqlUnavailable
from reconciler.guards import key_of, table_of
from reconciler.inverse import Key
from reconciler.moments import moment
from reconciler.options import Guard, GuardKind
from reconciler.question import Question
from reconciler.sessions import held
from reconciler.shape import Shape
from reconciler.silence import answering

log: Final = logging.getLogger("reconciler")


class Grip(StrEnum):
    """How a guard holds a row."""

    HELD = "held"  # this run is alone with it
    BUSY = "busy"  # another run, or another transaction, has it
    ABSENT = "absent"  # there is no such row, or it matches no more


@dataclass(frozen=True, slots=True)
class Hold:
    """One row of one reconciler, to be held."""

    owner: str
    guard: Guard
    shape: Shape
    question: Question
    checked: bool
    """Whether the row has to match; else it has to be there."""
    engine: Engine
    key: Key

    @property
    def dialect(self) -> str:
        """The kind of database."""
        return self.engine.dialect.name

    @property
    def table(self) -> Table:
        """The table that has the row."""
        found = table_of(self.shape)
        assert found is not None  # noqa: S101 - looked at when the reconciler was defined
        return found

    @property
    def here(self) -> ColumnElement[bool]:
        """The condition that finds the row in its table."""
        names = [columns.name(each) for each in key_of(self.shape)]
        return and_(
            *(
                self.table.columns[name]
                == bindparam(None, value, type_=self.table.columns[name].type)
                for name, value in zip(names, self.key, strict=True)
            )
        )

    def is_there(self, connection: Connection) -> bool:
        """Say whether the row matches, or is there at all where that is not asked."""
        if self.checked:
            return self.question.row(connection, self.key) is not None
        if table_of(self.shape) is None:
            return True
        return (
            connection.execute(select(1).select_from(self.table).where(self.here)).first()
            is not None
        )

    def missed(self, connection: Connection) -> Grip:
        """Say why the row could not be locked."""
        return Grip.BUSY if self.is_there(connection) else Grip.ABSENT


def hold(row: Hold, session: Callable[[], Session], lock: bytes) -> AbstractContextManager[Grip]:
    """Hold a row for as long as the context lasts. `session` makes the job's session; `lock` names the job's key.

    Raises:
        ReconcilerError: this kind of database has no such guard, or it cannot be reached.
    """
    match row.guard.kind:
        case GuardKind.CLAIM:
            return _claim(row)
        case GuardKind.ROW_LOCK:
            return _row_lock(row, session)
        case GuardKind.ADVISORY:
            return _advisory(row, lock)
        case _:
            assert_never(row.guard.kind)


# --- claim --------------------------------------------------------------------------------------


@contextmanager
def _claim(row: Hold) -> Iterator[Grip]:
    grip, until = sql.again(lambda: _take_claim(row))
    try:
        yield grip
    finally:
        if grip is Grip.HELD:
            _release_claim(row, until)


def _take_claim(row: Hold) -> tuple[Grip, float]:
    """Lock the row, look whether it matches, and write until when it is taken: one short transaction."""
    now = select(sql.clock(row.dialect)).select_from(row.table).where(row.here)
    with sql.writing(row.engine) as connection:
        found = connection.execute(now.with_for_update(skip_locked=True)).scalar()
        if found is None:
            return row.missed(connection), 0.0
        if not row.is_there(connection):
            return Grip.ABSENT, 0.0
        until = float(ceil(found + row.guard.ttl))
        free = _claim_column(row)
        taken = _claiming(row, until).where(
            or_(free.is_(None), free <= moment(free, found, row.dialect))
        )
        return (Grip.HELD if connection.execute(taken).rowcount else Grip.BUSY), until


def _release_claim(row: Hold, until: float) -> None:
    """Free the row, if the claim is this run's still; where that fails, the claim ends by itself."""
    column = _claim_column(row)
    mine = _claiming(row, None).where(column == moment(column, until, row.dialect))
    try:
        sql.again(lambda: _execute(row.engine, mine))
    except Exception as error:  # noqa: BLE001 - the job has ended, and its own outcome counts
        log.warning(
            "claim not freed, it ends by itself",
            extra={"reconciler": row.owner, "key": repr(row.key), "error": str(error)},
        )


def _execute(engine: Engine, statement: Any) -> None:
    with sql.writing(engine) as connection:
        connection.execute(statement)


def _claiming(row: Hold, until: float | None) -> Any:
    """Return the update of the claim; what else would change with the row stays, since its version may be among it."""
    column = _claim_column(row)
    value = None if until is None else moment(column, until, row.dialect)
    kept = {
        each: each
        for each in row.table.columns
        if each is not column and (each.onupdate is not None or each.server_onupdate is not None)
    }
    return update(row.table).where(row.here).values({**kept, column: value})


def _claim_column(row: Hold) -> Any:
    found = columns.element(row.guard.column)
    return row.table.columns[columns.name(columns.plain(found))] if found is not None else None


# --- row lock -----------------------------------------------------------------------------------


@contextmanager
def _row_lock(row: Hold, make: Callable[[], Session]) -> Iterator[Grip]:
    """Lock the row in the job's session, which is committed when the run ends well, and rolled back when it raises."""
    if row.dialect == "sqlite":
        raise _unsupported(row, "SQLite locks whole files, not rows")
    with make() as session:
        with sql.translated(row.engine):
            grip = _lock_row(row, session)
        if grip is not Grip.HELD:
            yield grip
            return
        with held(row.engine, session):
            yield grip
        session.commit()


def _lock_row(row: Hold, session: Session) -> Grip:
    lock = select(*row.table.primary_key).where(row.here).with_for_update(skip_locked=True)
    # An engine that commits by itself would let go of the row at once; what is read behind the lock has to be fresh.
    connection = session.connection(execution_options={"isolation_level": "READ COMMITTED"})
    with _answering(row, connection):
        found = session.execute(lock).first()
        if found is None:
            return row.missed(connection)
        return Grip.HELD if row.is_there(connection) else Grip.ABSENT


# --- advisory lock ------------------------------------------------------------------------------


@contextmanager
def _advisory(row: Hold, lock: bytes) -> Iterator[Grip]:
    """Hold a lock that the database knows by a name, on a connection of its own; no row of it is read there."""
    server = _SERVERS.get(row.dialect)
    if server is None:
        raise _unsupported(row, "SQLite has no advisory locks")
    with sql.translated(row.engine):
        opened = row.engine.connect()
    with opened as connection:
        with sql.translated(row.engine), _answering(row, connection):
            taken, grip = server.take(connection, lock), Grip.BUSY
        try:
            if taken:
                grip = _look_behind(row)
            yield grip
        finally:
            if taken:
                _release(row, server, connection, lock)


def _look_behind(row: Hold) -> Grip:
    with sql.reading(row.engine, sql.WRITE_TIMEOUT) as connection:
        return Grip.HELD if row.is_there(connection) else Grip.ABSENT


def _release(row: Hold, server: type[_Server], connection: Connection, lock: bytes) -> None:
    try:
        with _answering(row, connection):
            lost = not server.free(connection, lock)
    except (exc.SQLAlchemyError, SqlUnavailable):
        lost = True
    if lost:
        connection.invalidate()
        log.error(
            "the guard was lost while the job ran: the database ended the connection that held it",
            extra={"reconciler": row.owner, "key": repr(row.key)},
        )


class _Server(Protocol):
    """How one kind of database locks a name."""

    @staticmethod
    def take(connection: Connection, lock: bytes) -> bool:
        """Take the lock; False if somebody has it."""

    @staticmethod
    def free(connection: Connection, lock: bytes) -> bool:
        """Free the lock; False if it was lost before."""


class _Postgresql:
    """A lock of a transaction: safe behind PgBouncer, which lends a connection to one transaction."""

    @staticmethod
    def take(connection: Connection, lock: bytes) -> bool:
        connection = connection.execution_options(isolation_level="READ COMMITTED")
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        number = int.from_bytes(_digest(lock)[:8], signed=True)
        found = connection.execute(
            text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": number}
        )
        return bool(found.scalar())

    @staticmethod
    def free(connection: Connection, lock: bytes) -> bool:  # noqa: ARG004 - it ends with its transaction
        connection.execute(text("SELECT 1"))
        connection.rollback()
        return True


class _MariaDb:
    """A lock of a session, for all of a server: the name of the database is part of its name."""

    @staticmethod
    def take(connection: Connection, lock: bytes) -> bool:
        name = _MariaDb._name(connection, lock)
        taken = connection.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": name}).scalar() == 1
        connection.rollback()  # no snapshot is kept open while the job runs
        return taken

    @staticmethod
    def free(connection: Connection, lock: bytes) -> bool:
        name = _MariaDb._name(connection, lock)
        freed = connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name}).scalar() == 1
        connection.rollback()
        return freed

    @staticmethod
    def _name(connection: Connection, lock: bytes) -> str:
        database = str(connection.engine.url.database).encode()
        return f"qik:{_digest(database + b'/' + lock).hex()}"


_SERVERS: Final[dict[str, type[_Server]]] = {
    "postgresql": _Postgresql,
    "mysql": _MariaDb,
    "mariadb": _MariaDb,
}


def _answering(row: Hold, connection: Connection) -> AbstractContextManager[None]:
    """Give up on a server that has fallen silent: no run waits for it longer than for a write of ours."""
    return answering(connection, sql.WRITE_TIMEOUT, sql.where(row.engine))


def _digest(lock: bytes) -> bytes:
    return blake2b(lock, digest_size=16, person=b"qik guard").digest()


def _unsupported(row: Hold, why: str) -> ReconcilerError:
    return ReconcilerError(
        f"{row.owner}: guard=Guard.{row.guard.kind}() cannot hold a row here: {why}. Use Guard.claim(column, ttl)"
    )
