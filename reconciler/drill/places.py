"""Where a drill may break things: a Redis and a database of its own, or what somebody names and means.

What the settings name is somebody's production until the opposite is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from qik_core.drilling import Scratch
from qik_core.embedded import Embedded
from qik_core.errors import StoreError
from qik_core.settings import Settings
from reconciler import migrate
from reconciler.drill.addresses import same
from reconciler.drill.errors import Unsafe
from reconciler.engines import HOME, Engines
from reconciler.sql import read_clock, where
from reconciler.status import standings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for, and what the settings name."""

    settings: Settings
    app: str | None
    redis_url: str | None
    database_url: str | None
    meant: bool
    """--i-mean-it"""


@contextmanager
def redis_of(wanted: Wanted) -> Iterator[str]:
    """Yield the URL of a Redis that may be broken: one of its own, or the one that is named, which is left empty.

    Raises:
        Unsafe: it is named and not meant, or something lives there.
        NoServer: nothing is installed that can serve.
    """
    url = wanted.redis_url
    if url is None:
        with Embedded() as server:
            yield server.url
        return
    if not wanted.meant:
        raise Unsafe(
            "a drill empties its Redis again and again: say --i-mean-it beside --redis-url, "
            "or leave both out for a private server"
        )
    scratch = Scratch(url)
    try:
        _refuse_residents(scratch)
        try:
            yield url
        finally:
            with suppress(StoreError):  # it may be what the drill has failed of
                scratch.wipe()
    finally:
        scratch.close()


def _refuse_residents(scratch: Scratch) -> None:
    found = scratch.residents()
    if found.keys:
        shown = ", ".join(found.names) or "in other databases of that server"
        more = " …" if found.keys > len(found.names) else ""
        count = f"{found.keys:,} key{'s' * (found.keys != 1)} ({shown}{more})"
        raise Unsafe(
            f"something lives in the Redis of --redis-url: {count}."
            " A drill would destroy them: name an empty one, or leave --redis-url out for a private server"
        )


def databases_of(wanted: Wanted, folder: Path) -> dict[str, str]:
    """Return the databases of a drill by name: one of its own, or those that are named.

    Raises:
        Unsafe: the settings name them, and nobody said that they are meant.
    """
    named = {name: url for name, url in wanted.settings.databases.items() if isinstance(url, str)}
    given = wanted.database_url
    if given is None and wanted.app is None:
        return {HOME: f"sqlite:///{folder / 'drill.sqlite3'}"}
    if given is None:
        if not wanted.meant:
            raise Unsafe(
                f"a drill of {wanted.app} works off the rows of the databases that the settings name: "
                "say --i-mean-it, or name another with --database-url"
            )
        return named
    if not wanted.meant and any(same(given, each) for each in named.values()):
        raise Unsafe(
            "--database-url is what the settings name: say --i-mean-it, or name another database"
        )
    return {HOME: given} if not wanted.meant else {**named, HOME: given}


def check_settings(
    wanted: Wanted, redis_url: str, databases: Mapping[str, str], found: Settings
) -> None:
    """Look whether an application, now that it is imported, has named another Redis or other databases by `configure()`.

    Raises:
        Unsafe: it has.
    """
    if found.redis != redis_url:
        raise Unsafe(
            f"{wanted.app} names its Redis by configure(), so its processes would not use the drill's: "
            "let it read REDIS_URL"
        )
    other = [name for name, url in databases.items() if found.databases.get(name) != url]
    if other:
        raise Unsafe(
            f"{wanted.app} names the databases {', '.join(other)} by configure(), so its processes would not use the "
            "drill's: let it read DATABASE_URL"
        )


def prepare(databases: Mapping[str, str], *, upgrade: bool) -> None:
    """Look whether nobody else runs reconcilers there, and make our tables where that is wanted.

    Raises:
        Unsafe: a process of reconcilers works there; it would tell its rows to another Redis.
        NotMigrated: our tables are missing.
        SqlUnavailable: the database cannot be reached.
    """
    engines = Engines(databases)
    try:
        home = engines.home()
        read_clock(home)
        if upgrade:
            migrate.upgrade(home)
        held = sorted({each.holder for each in standings(home) if each.holder})
    finally:
        engines.dispose()
    if held:
        raise Unsafe(
            f"reconcilers run on {where(home)} ({', '.join(held)}), and would tell its rows to another Redis: "
            "stop them, or name another database"
        )
