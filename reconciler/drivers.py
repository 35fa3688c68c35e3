"""From what an application gives as a database to what passes can read with: a synchronous engine, or the URL of one.

Passes run on threads. An engine for asyncio cannot be used there, but its URL says all that a companion for threads
needs to know: the same host, user, password and name, under another driver.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import URL, Engine

from qik_core.errors import SettingsError

_SYNCHRONOUS: Final = {
    "postgresql": ("postgresql+psycopg", 'pip install "psycopg[binary]"'),
    "mysql": ("mysql+pymysql", "pip install pymysql"),
    "mariadb": ("mariadb+pymysql", "pip install pymysql"),
    "sqlite": ("sqlite", "it comes with Python"),
}
_ASYNCPG: Final = {
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "statement_cache_size",
    "command_timeout",
    "timeout",
    "async_fallback",
}
"""What a URL may say to asyncpg alone."""

_TAKEN: Final = (
    "a URL, an Engine, a sessionmaker bound to one, or an AsyncEngine or async_sessionmaker"
)


def synchronous(url: URL) -> URL:
    """Return the URL under a driver for threads, password and all; one that has such a driver comes back unchanged.

    Raises:
        SettingsError: no driver for threads is known for this kind of database.
    """
    if not url.get_dialect().is_async:
        return url
    backend = url.get_backend_name()
    if backend not in _SYNCHRONOUS:
        raise SettingsError(
            f"{url.drivername} is a driver for asyncio, and no driver for threads is known beside it: "
            f"give a URL with one; known are {', '.join(sorted(_SYNCHRONOUS))}"
        )
    found = url.set(drivername=_SYNCHRONOUS[backend][0])
    return _without_asyncpg(found) if url.get_driver_name() == "asyncpg" else found


def remedy(url: URL) -> str:
    """Return how to install the driver for threads of a URL's database."""
    return _SYNCHRONOUS.get(url.get_backend_name(), ("", "install its driver"))[1]


def bound(given: object, name: str) -> Engine | str | URL:
    """Return the synchronous engine behind what was given, or the URL of one that is still to be made.

    `name` is what to call it in an error.

    Raises:
        SettingsError: it leads to no engine, or to one for asyncio that cannot be matched by its URL alone.
    """
    if isinstance(given, (Engine, str, URL)):
        return given
    factory = getattr(given, "session_factory", given)  # of a scoped session
    bind = given if _is_async(given) else getattr(factory, "kw", {}).get("bind")
    if isinstance(bind, Engine):
        return bind
    if bind is not None and _is_async(bind):
        return _companion(bind, name)
    raise SettingsError(f"{name} is {type(given).__name__}: give {_TAKEN}")


def _is_async(given: object) -> bool:
    """Whether it is an engine for asyncio; asked by name, since importing that part of SQLAlchemy needs greenlet."""
    return any(
        (each.__module__, each.__name__) == ("sqlalchemy.ext.asyncio.engine", "AsyncEngine")
        for each in type(given).__mro__
    )


def _companion(engine: Any, name: str) -> URL:
    if len(engine.sync_engine.dialect.dispatch.do_connect):
        raise SettingsError(
            f"{name} is an AsyncEngine whose connections are made by a `do_connect` hook of yours, which passes cannot "
            "repeat: give a synchronous Engine with the same hook, create_engine(...)"
        )
    url: URL = engine.url
    return url


def _without_asyncpg(url: URL) -> URL:
    """Leave out what only asyncpg understands, and say `ssl` as libpq says it."""
    query = {key: value for key, value in url.query.items() if key not in _ASYNCPG}
    if "ssl" in query:
        query["sslmode"] = query.pop("ssl")
    return url.set(query=query)
