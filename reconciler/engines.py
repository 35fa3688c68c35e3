"""The databases of one process: engines by name, made on first use with timeouts, or the application's own.

`default` is *home*: our own tables live there. A reconciler reads its rows from `database=`, which is `default` too
unless it says otherwise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from threading import Lock
from time import monotonic, sleep
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, exc, make_url

from qik_core.errors import SettingsError

HOME: Final = "default"
CONNECT_TIMEOUT: Final = 3
"""Seconds to reach a database server."""
_SILENCE: Final = 30
"""Seconds after which a connection whose peer has gone silent is given up."""
_BUSY: Final = 30.0
"""Seconds that SQLite waits for another writer."""


class Engines:
    """The engines of one process, by the names of `databases` in the settings. Thread-safe.

    A value is a URL, an `Engine`, or a `sessionmaker` bound to one.
    """

    def __init__(self, databases: Mapping[str, object]) -> None:
        self._databases = dict(databases)
        self._made: dict[str, Engine] = {}
        self._lock = Lock()

    @classmethod
    def from_settings(cls) -> Engines:
        """Return the engines that the settings name."""
        from qik_core import settings

        return cls(settings.current().databases)

    def home(self) -> Engine:
        """Return the engine of the database with our own tables.

        Raises:
            SettingsError: no database is called `default`.
        """
        return self.engine(HOME)

    def engine(self, name: str) -> Engine:
        """Return the engine of a name, the same one each time.

        Raises:
            SettingsError: no such database, an URL that cannot work, or an engine for asyncio.
        """
        with self._lock:
            if name not in self._made:
                self._made[name] = _engine(name, self._given(name))
            return self._made[name]

    def _given(self, name: str) -> object:
        if name in self._databases:
            return self._databases[name]
        variable = "DATABASE_URL" if name == HOME else f"DATABASE_URL_{name.upper()}"
        known = ", ".join(sorted(self._databases)) or "none"
        raise SettingsError(
            f"no database is called {name!r} (known: {known}): set {variable}, "
            f"`databases.{name}` in [tool.qik], or configure(databases={{{name!r}: engine}})"
        )

    def dispose(self) -> None:
        """Close the pools of the engines that were made here; the application's own stay."""
        with self._lock:
            for name, engine in self._made.items():
                if isinstance(self._databases.get(name), (str, URL)):
                    engine.dispose()
            self._made.clear()


def _engine(name: str, given: object) -> Engine:
    if isinstance(given, Engine):
        return given
    if isinstance(given, (str, URL)):
        return make(given, name)
    if type(given).__module__.startswith("sqlalchemy.ext.asyncio"):
        raise SettingsError(
            f"databases.{name} is {type(given).__name__}: passes read with a synchronous engine. "
            f"Give a URL, `create_engine(...)`, or your async engine's `.sync_engine` made with a synchronous driver"
        )
    bind = getattr(given, "kw", {}).get("bind")  # a sessionmaker
    if isinstance(bind, Engine):
        return bind
    raise SettingsError(
        f"databases.{name} is {type(given).__name__}: give a URL, an Engine, or a sessionmaker bound to an Engine"
    )


def make(url: str | URL, name: str = HOME) -> Engine:
    """Return a new engine with timeouts on everything that waits.

    Raises:
        SettingsError: the URL cannot be read, its driver is missing, or is one for asyncio.
    """
    try:
        parsed = make_url(url)
        dialect = parsed.get_dialect()
        if dialect.is_async:
            raise SettingsError(
                f"databases.{name}: {parsed.drivername} is a driver for asyncio, passes read with a synchronous one: "
                f"use {_SYNCHRONOUS.get(parsed.get_backend_name(), parsed.get_backend_name())}://…"
            )
        engine = create_engine(parsed, **_options(parsed))
    except (exc.ArgumentError, ImportError) as error:
        raise SettingsError(f"databases.{name} cannot be used: {error}") from error
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


_SYNCHRONOUS: Final = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _BUSY}}
    # One connection for each thread that asks: threads are as many as reconcilers, so the pool need not limit them.
    pool: dict[str, Any] = {"pool_pre_ping": True, "max_overflow": -1, "pool_recycle": 1800}
    if url.get_backend_name() == "postgresql":
        pool["connect_args"] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "tcp_user_timeout": _SILENCE * 1000,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "application_name": "reconciler",
        }
    elif url.get_driver_name() == "pymysql":
        pool["connect_args"] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": _SILENCE,
            "write_timeout": _SILENCE,
        }
    return pool


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Turn a file's journal to WAL, in which readers and one writer do not wait for each other.

    The switch needs the file for itself and does not wait for it, so it is tried again while others come and go.
    """
    deadline = monotonic() + CONNECT_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if monotonic() > deadline:
                raise
            sleep(0.05)
        else:
            return
