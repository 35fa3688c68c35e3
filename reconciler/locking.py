"""One upgrade of our tables at a time, however many processes start at once.

PostgreSQL: an advisory lock of the transaction. MariaDB: GET_LOCK, since its DDL commits by itself. SQLite: the
transaction is the lock, once it begins with BEGIN IMMEDIATE.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from sqlalchemy import Connection, text

from reconciler.errors import SqlUnavailable
from reconciler.sql import MYSQL, immediate

PATIENCE: Final = 60
"""Seconds to wait for another upgrade."""
_WAIT: Final = 5
"""Seconds to wait for it in one statement: a driver takes a server that is silent for much longer for dead."""
_LOCK: Final = 0x71696B5F7570  # any number that nobody else uses: "qik_up"
_TAKE: Final = text("SELECT GET_LOCK(:name, :wait)")


def prepared(connection: Connection) -> Connection:
    """Return the connection ready for DDL in one transaction; leave one alone that is in a transaction already."""
    if connection.dialect.name == "sqlite" and not connection.in_transaction():
        return immediate(connection)
    return connection


@contextmanager
def one_at_a_time(connection: Connection) -> Iterator[None]:
    """Hold the lock of upgrades. Call it inside of the transaction that upgrades.

    Raises:
        SqlUnavailable: another upgrade held the lock for too long.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE}s'")
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield
    elif connection.dialect.name in MYSQL:
        with _named_lock(connection):
            yield
    else:
        yield


@contextmanager
def _named_lock(connection: Connection) -> Iterator[None]:
    name = f"qik_upgrade_{_LOCK}"
    deadline = monotonic() + PATIENCE
    while connection.execute(_TAKE, {"name": name, "wait": _WAIT}).scalar() != 1:
        if monotonic() > deadline:
            raise SqlUnavailable(
                f"another `reconciler upgrade` has held its lock for {PATIENCE} s: end it, then repeat"
            )
    try:
        yield
    finally:
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
