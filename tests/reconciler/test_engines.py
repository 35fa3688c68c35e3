from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from qik_core.errors import SettingsError
from reconciler.engines import Engines
from reconciler.options import Shards


def test_a_name_has_one_engine(sqlite_url: str) -> None:
    engines = Engines({"default": sqlite_url})

    assert engines.home() is engines.engine("default")
    engines.dispose()


def test_an_engine_and_a_sessionmaker_are_taken_as_they_are(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    engines = Engines({"default": engine, "other": sessionmaker(engine)})

    assert engines.home() is engine
    assert engines.engine("other") is engine
    engine.dispose()


def test_disposing_leaves_the_applications_engine_alone(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engines = Engines({"default": engine})
    engines.home()

    engines.dispose()

    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    engine.dispose()


def test_a_missing_database_says_how_to_name_one() -> None:
    with pytest.raises(SettingsError, match=r"known: none.*DATABASE_URL, `databases.default`"):
        Engines({}).home()
    with pytest.raises(SettingsError, match="DATABASE_URL_BILLING"):
        Engines({"default": "sqlite://"}).engine("billing")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no url", "cannot be used"),
        ("nodatabase://x/y", "cannot be used"),
        (5, "int: give a URL"),
        (sessionmaker(), "sessionmaker: give a URL"),
    ],
    ids=str,
)
def test_what_cannot_be_an_engine_is_refused_with_the_remedy(given: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Engines({"default": given}).home()


def test_a_sqlite_file_is_put_into_wal(tmp_path: object) -> None:
    engines = Engines({"default": f"sqlite:///{tmp_path}/new.db"})

    with engines.home().connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000
    engines.dispose()


def test_connections_to_postgresql_give_up_on_a_silent_server(postgres_url: str) -> None:
    engines = Engines({"default": postgres_url})

    with engines.home().connect() as connection:
        raw = connection.connection.driver_connection
        parameters = raw.info.get_parameters()  # type: ignore[union-attr]
    assert parameters["tcp_user_timeout"] == "30000"
    assert parameters["connect_timeout"] == "3"
    engines.dispose()


# --- engines for asyncio --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "companion"),
    [
        (
            "postgresql+asyncpg://me:pa%2Fss@db:5433/shop",
            "postgresql+psycopg://me:pa%2Fss@db:5433/shop",
        ),
        (
            "postgresql+asyncpg://me@db/shop?ssl=require&prepared_statement_cache_size=0",
            "postgresql+psycopg://me@db/shop?sslmode=require",
        ),
        ("postgresql+psycopg_async://me:x@db/shop", "postgresql+psycopg://me:x@db/shop"),
        (
            "mysql+aiomysql://me:x@db/shop?charset=utf8mb4",
            "mysql+pymysql://me:x@db/shop?charset=utf8mb4",
        ),
        ("mariadb+asyncmy://me:x@db/shop", "mariadb+pymysql://me:x@db/shop"),
    ],
)
def test_a_url_for_asyncio_is_read_with_a_driver_for_threads(given: str, companion: str) -> None:
    engines = Engines({"default": given})

    assert engines.home().url.render_as_string(hide_password=False) == companion
    engines.dispose()


def test_an_engine_for_asyncio_gets_a_companion_that_reads_the_same_rows(postgres_url: str) -> None:
    theirs = create_async_engine(postgres_url)
    engines = Engines({"default": theirs, "other": async_sessionmaker(theirs)})

    async def fill() -> None:
        async with theirs.begin() as connection:
            await connection.execute(text("CREATE TABLE t AS SELECT 7 AS n"))
        await theirs.dispose()

    asyncio.run(fill())
    with engines.home().connect() as connection:
        assert connection.execute(text("SELECT n FROM t")).scalar_one() == 7
    assert engines.engine("other") is engines.home()
    engines.dispose()


def test_an_asyncio_engine_of_sqlite_gets_a_companion(sqlite_url: str) -> None:
    theirs = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))
    engines = Engines({"default": async_sessionmaker(theirs)})

    with engines.home().connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000
    engines.dispose()


def test_an_asyncio_engine_whose_connections_only_it_can_make_is_refused(postgres_url: str) -> None:
    theirs = create_async_engine(postgres_url)
    event.listen(theirs.sync_engine, "do_connect", lambda *_: None)

    with pytest.raises(SettingsError, match="`do_connect` hook of yours"):
        Engines({"default": theirs}).home()


def test_a_driver_that_is_missing_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)

    with pytest.raises(SettingsError, match=r"mysql\+pymysql.*Install it: pip install pymysql"):
        Engines({"default": "mysql+aiomysql://me@db/shop"}).home()


def test_a_database_without_a_driver_for_threads_is_refused() -> None:
    with pytest.raises(SettingsError, match="known are mariadb, mysql, postgresql, sqlite"):
        Engines({"default": "oracle+oracledb_async://me@db"}).home()


def test_a_scoped_session_leads_to_its_engine(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)

    assert Engines({"default": scoped_session(sessionmaker(engine))}).home() is engine
    engine.dispose()


# --- shards ---------------------------------------------------------------------------------------


@dataclass
class Placed:
    """Where the rows of a reconciler are."""

    shards: Shards | None
    shard: str = ""
    name: str = "Items"
    database: str = "default"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_shard_is_a_url_an_engine_or_the_name_of_a_database(sqlite_url: str) -> None:
    own = create_engine(sqlite_url)
    shards = Shards(lambda: {"a": "sqlite:///a.db", "b": own, "c": "default"})
    engines = Engines({"default": sqlite_url})

    assert engines.shards(Placed(shards)) == ["a", "b", "c"]
    assert engines.of(Placed(shards, "a")).url.database == "a.db"
    assert engines.of(Placed(shards, "b")) is own
    assert engines.of(Placed(shards, "c")) is engines.home()
    engines.dispose()
    own.dispose()


def test_shards_are_asked_for_once_a_minute_and_at_once_for_one_that_is_unknown() -> None:
    clock, asked, known = Clock(), [0], {"a": "sqlite:///a.db"}

    def load() -> dict[str, str]:
        asked[0] += 1
        return dict(known)

    shards = Shards(load)
    engines = Engines({}, now=clock)
    for _ in range(3):
        engines.of(Placed(shards, "a"))
    assert asked == [1]

    known["b"] = "sqlite:///b.db"
    clock.now += 6
    assert engines.of(Placed(shards, "b")).url.database == "b.db"
    clock.now += 61
    engines.of(Placed(shards, "a"))
    assert asked == [3]
    engines.dispose()


def test_a_shard_whose_password_changed_gets_a_new_engine_and_the_old_one_is_closed() -> None:
    clock, url = Clock(), ["postgresql+psycopg://me:old@db/x"]
    shards = Shards(lambda: {"a": url[0]})
    engines = Engines({}, now=clock)
    old = engines.of(Placed(shards, "a"))

    url[0] = "postgresql+psycopg://me:new@db/x"
    engines.reload(Placed(shards))

    assert engines.of(Placed(shards, "a")) is not old
    assert list(engines._made) == [make_url(url[0])]
    engines.dispose()


def test_an_unknown_shard_says_which_there_are() -> None:
    engines = Engines({})
    shards = Shards(lambda: {"eu1": "sqlite://"})

    with pytest.raises(SettingsError, match=r"Items has no shard 'us1' \(known: eu1\)"):
        engines.of(Placed(shards, "us1"))
    with pytest.raises(SettingsError, match="Items reads from shards: eu1; say which"):
        engines.of(Placed(shards))


@pytest.mark.parametrize("name", ["", "a/b", "#x", "x" * 101, 7])
def test_a_name_that_no_shard_can_have_is_refused(name: Any) -> None:
    with pytest.raises(SettingsError, match="cannot be the name of a shard: use up to 100"):
        Engines({}).shards(Placed(Shards(lambda: {name: "sqlite://"})))


def test_shards_that_cannot_be_loaded_stay_as_they_were() -> None:
    clock, broken = Clock(), [False]

    def load() -> dict[str, str]:
        if broken[0]:
            raise OSError("away")
        return {"a": "sqlite:///a.db"}

    shards = Shards(load)
    engines = Engines({}, now=clock)
    kept = engines.of(Placed(shards, "a"))
    broken[0] = True
    clock.now += 61

    assert engines.of(Placed(shards, "a")) is kept
    with pytest.raises(SettingsError, match=r"Shards\(load\) raised OSError: away"):
        engines.reload(Placed(shards))
    engines.dispose()
