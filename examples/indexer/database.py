"""The service's database: one engine per process, SQLite, PostgreSQL or MariaDB."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

_BUSY = 30.0


def connect(url: str) -> Engine:
    """Return an engine. On SQLite: WAL, and a transaction takes the write lock when it begins.

    A deferred transaction that wants to write after another has written fails at once, whatever the busy timeout.
    What only reads says so with `reading()` and waits for nobody.
    """
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_size=20, connect_args={"connect_timeout": 5})
    engine = create_engine(url, pool_size=20, connect_args={"timeout": _BUSY})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def reading(engine: Engine) -> Engine:
    """Return the same engine for transactions that write nothing."""
    return engine.execution_options(reads=True)


@cache
def engine() -> Engine:
    """Return this process's engine, for `DATABASE_URL`.

    Raises:
        KeyError: the variable is not set.
    """
    return connect(os.environ["DATABASE_URL"])
