"""The databases of one process: engines by name and by shard, made on first use with timeouts, or the application's own.

`default` is *home*: our own tables live there. A reconciler reads its rows from `database=`, which is `default` too
unless it says otherwise; one with `shards=` from the database of each shard.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic, sleep
from typing import Any, Final, Protocol

from sqlalchemy import URL, Engine, create_engine, event, exc, make_url

from qik_core.errors import SettingsError
from reconciler.drivers import bound, remedy, synchronous
from reconciler.options import Shards
from reconciler.silence import checked

log: Final = logging.getLogger("reconciler")

HOME: Final = "default"
CONNECT_TIMEOUT: Final = 3
"""Seconds to reach a database server."""
RELOAD: Final = 60.0
"""Seconds after which the application is asked again for its shards."""
_MISSED: Final = 5.0
"""Seconds after which it is asked again for a shard that it did not name, and after it raised."""
_PATIENCE: Final = 10.0
"""Seconds that others wait while it is asked for the first time."""
_NEVER: Final = float("-inf")
_SILENCE: Final = 30
"""Seconds after which a connection whose peer has gone silent is given up."""
_BUSY: Final = 30.0
"""Seconds that SQLite waits for another writer."""
_SHARD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}", re.ASCII)


class Placed(Protocol):
    """What says where rows are: a reconciler's definition."""

    @property
    def name(self) -> str:
        """The reconciler."""

    @property
    def database(self) -> str:
        """A name in the settings."""

    @property
    def shards(self) -> Shards | None:
        """The databases over which its rows are spread."""

    @property
    def shard(self) -> str:
        """The one that is meant; empty without shards."""


@dataclass(slots=True)
class _Loaded:
    """What an application said of its shards, and when it was asked."""

    given: Mapping[str, object] = field(default_factory=dict)
    asked: float = _NEVER
    asking: Lock = field(default_factory=Lock)


class Engines:
    """The engines of one process, by the names of `databases` in the settings. Thread-safe.

    A value is a URL, an `Engine`, an `AsyncEngine`, or a session maker bound to one.
    """

    def __init__(
        self, databases: Mapping[str, object], *, now: Callable[[], float] = monotonic
    ) -> None:
        self._databases = dict(databases)
        self._now = now
        self._made: dict[URL, Engine] = {}
        self._shards: dict[Shards, _Loaded] = {}
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
            SettingsError: no such database, or one that cannot be used.
        """
        return self._engine(self._named(name), f"databases.{name}")

    def of(self, placed: Placed) -> Engine:
        """Return the engine of the database in which a reconciler's rows are; `shard` says which of several.

        Raises:
            SettingsError: no such database or shard, or one that cannot be used.
        """
        return self._engine(*self._given(placed))

    def given(self, placed: Placed) -> object:
        """Return what the application gave as the database in which a reconciler's rows are.

        Raises:
            SettingsError: no such database or shard.
        """
        return self._given(placed)[0]

    def shards(self, placed: Placed) -> list[str]:
        """Return the names of a reconciler's shards, sorted; none for a reconciler without.

        Raises:
            SettingsError: the application has never said which there are.
        """
        if placed.shards is None:
            return []
        return sorted(self._loaded(placed, placed.shards, RELOAD).given)

    def reload(self, placed: Placed) -> list[str]:
        """Ask the application for the shards of a reconciler now; return their names, sorted.

        Raises:
            SettingsError: it raised, or said what cannot be; what was known before stays in use.
        """
        if placed.shards is None:
            return []
        loaded = self._entry(placed.shards)
        with loaded.asking:
            self._ask(placed, placed.shards, loaded)
        return sorted(loaded.given)

    def dispose(self) -> None:
        """Close the pools of the engines that were made here; the application's own stay."""
        with self._lock:
            made, self._made = self._made, {}
            self._shards = {}
        for engine in made.values():
            engine.dispose()

    # --- names and URLs ------------------------------------------------------------------------

    def _given(self, placed: Placed) -> tuple[object, str]:
        """Return what was given, and what to call it in an error."""
        name = placed.database
        if placed.shards is not None:
            if not placed.shard:
                raise SettingsError(
                    f"{placed.name} reads from shards: {', '.join(self.shards(placed)) or 'none'}; say which"
                )
            given = self._shard(placed, placed.shards)
            if not isinstance(given, str) or "://" in given:
                return given, f"shard {placed.shard!r} of {placed.name}"
            name = given
        return self._named(name), f"databases.{name}"

    def _named(self, name: str) -> object:
        if name in self._databases:
            return self._databases[name]
        variable = "DATABASE_URL" if name == HOME else f"DATABASE_URL_{name.upper()}"
        known = ", ".join(sorted(self._databases)) or "none"
        raise SettingsError(
            f"no database is called {name!r} (known: {known}): set {variable}, "
            f"`databases.{name}` in [tool.qik], or configure(databases={{{name!r}: engine}})"
        )

    def _engine(self, given: object, what: str) -> Engine:
        found = bound(given, what)
        if isinstance(found, Engine):
            return found
        url = _read(found, what)
        with self._lock:
            if url not in self._made:
                self._made[url] = make(url, what)
            return self._made[url]

    # --- shards --------------------------------------------------------------------------------

    def _shard(self, placed: Placed, shards: Shards) -> object:
        loaded = self._loaded(placed, shards, RELOAD)
        if placed.shard not in loaded.given:
            loaded = self._loaded(placed, shards, _MISSED)
        if placed.shard not in loaded.given:
            known = ", ".join(sorted(loaded.given)) or "none"
            raise SettingsError(
                f"{placed.name} has no shard {placed.shard!r} (known: {known}): its Shards(load) does not return it"
            )
        return loaded.given[placed.shard]

    def _loaded(self, placed: Placed, shards: Shards, oldest: float) -> _Loaded:
        """Return what is known of the shards; where it is older than this, one thread asks and the others go on."""
        loaded = self._entry(shards)
        if self._now() - loaded.asked < oldest:
            return loaded
        never = loaded.asked == _NEVER
        if not loaded.asking.acquire(timeout=_PATIENCE if never else 0.0):
            if never:
                raise SettingsError(
                    f"the shards of {placed.name} are not known: Shards(load) has not returned yet"
                )
            return loaded
        try:
            if self._now() - loaded.asked >= oldest:
                self._ask(placed, shards, loaded)
        except SettingsError as error:
            if never:
                raise
            loaded.asked = self._now() - RELOAD + _MISSED
            log.warning("shards not loaded", extra={"reconciler": placed.name, "error": str(error)})
        finally:
            loaded.asking.release()
        return loaded

    def _entry(self, shards: Shards) -> _Loaded:
        with self._lock:
            return self._shards.setdefault(shards, _Loaded())

    def _ask(self, placed: Placed, shards: Shards, loaded: _Loaded) -> None:
        try:
            given = dict(shards.load())
        except Exception as error:
            raise SettingsError(
                f"the shards of {placed.name} cannot be loaded: Shards(load) raised {type(error).__name__}: {error}"
            ) from error
        for name in given:
            if type(name) is not str or _SHARD.fullmatch(name) is None:
                raise SettingsError(
                    f"{placed.name}: {name!r:.80} cannot be the name of a shard: "
                    "use up to 100 of A-Z a-z 0-9 _ . : - with a letter or digit first"
                )
        loaded.given, loaded.asked = given, self._now()
        self._forget_unused()

    def _forget_unused(self) -> None:
        """Close what was made for a URL that nothing names any more: passwords and hosts of shards change."""
        with self._lock:
            named = [*self._databases.values()]
            for each in self._shards.values():
                named += each.given.values()
            used = {url for each in named if (url := _url_of(each)) is not None}
            gone = [self._made.pop(url) for url in list(self._made) if url not in used]
        for engine in gone:
            engine.dispose()


def _read(given: str | URL, what: str) -> URL:
    """Return a URL under a driver for threads."""
    try:
        return synchronous(make_url(given))
    except (exc.ArgumentError, ImportError) as error:
        raise SettingsError(f"{what} cannot be used: {error}") from error


def _url_of(given: object) -> URL | None:
    """Return the URL under which an engine was made for this, if one was."""
    try:
        found = bound(given, "")
        return None if isinstance(found, Engine) else _read(found, "")
    except SettingsError:
        return None


def make(url: str | URL, what: str = f"databases.{HOME}") -> Engine:
    """Return a new engine for threads with timeouts on everything that waits. `what` is what to call it in an error.

    Raises:
        SettingsError: the URL cannot be read, or its driver is missing.
    """
    parsed = _read(url, what)
    try:
        engine = create_engine(parsed, **_options(parsed))
    except exc.ArgumentError as error:
        raise SettingsError(f"{what} cannot be used: {error}") from error
    except ImportError as error:
        raise SettingsError(
            f"{what} cannot be used: passes read with {parsed.drivername}, and {error}. Install it: {remedy(parsed)}"
        ) from error
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        event.listen(engine, "checkout", checked(engine.dialect.do_ping, CONNECT_TIMEOUT))
    return engine


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _BUSY}}
    # Passes take turns (lanes) and our own writes are short: who waits longer for a connection has a database in trouble.
    pool: dict[str, Any] = {"max_overflow": 20, "pool_timeout": 10, "pool_recycle": 1800}
    if url.get_backend_name() == "postgresql":
        pool["connect_args"] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "tcp_user_timeout": _SILENCE * 1000,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "application_name": "reconciler",
            "prepare_threshold": None,  # behind PgBouncer the next transaction may be in another session
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
