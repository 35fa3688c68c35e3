from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, select

from qik_core.errors import DefinitionError, SettingsError
from reconciler import Freshness
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.freshness import Reading, Unknown, measure, reader
from reconciler.source import Source
from reconciler.sql import read_clock
from tests import servers
from tests.reconciler.replicas import LoggingMariaDb, PostgresReplica, administrator
from tests.reconciler.shop import Base, Item, fill, items
from tests.waiting import eventually

PENDING = select(Item.id).where(Item.state == "pending")
AS_FRESH_AS_CAN_BE = Freshness(replica="replica", max_lag=0)


def reading_from(lag: Callable[[], float] | None = None, **options: Any) -> Definition:
    return items(PENDING, freshness=Freshness(replica="replica", lag=lag, **options))


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Engine]:
    made = create_engine(sqlite_url)
    yield made
    made.dispose()


def choose(definition: Definition, primary: Engine, replica: Engine) -> Reading:
    return reader(definition, primary, {"replica": replica}.__getitem__)


# --- what an application says itself ------------------------------------------------------------


@pytest.mark.parametrize("lag", [0.0, 4.9, 5, -3])
def test_a_replica_that_is_fresh_enough_is_read(sqlite: Engine, lag: float) -> None:
    primary = create_engine("sqlite://")

    chosen = choose(reading_from(lambda: lag), primary, sqlite)

    assert chosen == Reading(sqlite, max(0.0, lag), "")


def test_a_replica_that_is_behind_is_not_read_and_the_pass_says_so(sqlite: Engine) -> None:
    primary = create_engine("sqlite://")

    chosen = choose(reading_from(lambda: 12.34), primary, sqlite)

    assert chosen.engine is primary
    assert chosen.lag == 12.34
    assert (
        chosen.note == "replica 'replica' is 12.3 s behind, 5 s are allowed; the primary was read"
    )


def test_a_pass_may_wait_until_the_replica_is_fresh(sqlite: Engine) -> None:
    chosen = choose(reading_from(lambda: 12.34, fallback="skip"), sqlite, sqlite)

    assert chosen == Reading(None, 12.34, "replica 'replica' is 12.3 s behind, 5 s are allowed")


def fails() -> float:
    raise RuntimeError("no answer")


@pytest.mark.parametrize(
    ("lag", "why"),
    [
        (fails, "lag= failed: RuntimeError: no answer"),
        (lambda: float("nan"), "lag= returned nan"),
        (lambda: float("inf"), "lag= returned inf"),
        (lambda: None, "lag= failed: TypeError"),
    ],
)
def test_a_replica_whose_lag_cannot_be_known_is_not_read(
    sqlite: Engine, lag: Any, why: str
) -> None:
    primary = create_engine("sqlite://")

    chosen = choose(reading_from(lag), primary, sqlite)

    assert chosen.engine is primary
    assert chosen.lag is None
    assert why in chosen.note


def test_without_freshness_the_primary_is_read_and_nobody_is_asked(sqlite: Engine) -> None:
    assert choose(items(PENDING), sqlite, sqlite) == Reading(sqlite, None, "")


def test_a_replica_that_no_setting_names_is_an_error(sqlite_url: str) -> None:
    engines = Engines({"default": sqlite_url})

    with pytest.raises(SettingsError, match="no database is called 'replica'"):
        reader(reading_from(), engines.home(), engines.engine)
    engines.dispose()


def test_a_database_without_replicas_has_to_be_told_its_lag(sqlite: Engine) -> None:
    with pytest.raises(Unknown, match=r"'sqlite' has no replicas; give Freshness\(lag="):
        measure(AS_FRESH_AS_CAN_BE, sqlite, sqlite)


# --- PostgreSQL -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standby(_postgres: list[servers.Postgres]) -> Iterator[PostgresReplica]:
    """A hot standby of the tests' PostgreSQL."""
    if not _postgres:
        _postgres.append(servers.Postgres())
        _postgres[0].start()
    made = PostgresReplica(_postgres[0])
    made.start()
    yield made
    made.stop()


@pytest.fixture
def replica(standby: PostgresReplica, postgres_url: str) -> Iterator[Engine]:
    """The replica of the test's own database."""
    standby.follow()
    made = create_engine(standby.of(postgres_url))
    eventually(lambda: answers(made), 10.0, "the replica has the test's database")
    yield made
    made.dispose()
    standby.follow()


def answers(engine: Engine) -> bool:
    try:
        engine.connect().close()
    except Exception:  # noqa: BLE001 - it does not exist yet
        return False
    return True


def lag_of(primary: Engine, replica: Engine) -> float:
    return measure(AS_FRESH_AS_CAN_BE, primary, replica)


def test_a_postgresql_that_has_replayed_everything_is_fresh_however_long_nobody_wrote(
    postgres_engine: Engine, replica: Engine
) -> None:
    Base.metadata.create_all(postgres_engine)

    eventually(lambda: lag_of(postgres_engine, replica) == 0.0)

    definition = reading_from(max_lag=0)
    eventually(lambda: choose(definition, postgres_engine, replica).engine is replica)


def test_a_postgresql_that_is_held_up_falls_behind_and_catches_up(
    postgres_engine: Engine, replica: Engine, standby: PostgresReplica
) -> None:
    Base.metadata.create_all(postgres_engine)
    fill(postgres_engine, [1])
    eventually(lambda: lag_of(postgres_engine, replica) == 0.0)
    standby.hold()
    fill(postgres_engine, [2])

    definition = reading_from(max_lag=0.2)
    eventually(lambda: lag_of(postgres_engine, replica) > 0.2)
    behind = choose(definition, postgres_engine, replica)
    waiting = choose(reading_from(max_lag=0.2, fallback="skip"), postgres_engine, replica)
    standby.follow()

    assert behind.engine is postgres_engine
    assert "s behind, 0.2 s are allowed" in behind.note
    assert waiting.engine is None
    eventually(lambda: choose(definition, postgres_engine, replica).engine is replica)
    with replica.connect() as connection:
        assert connection.execute(select(Item.id).order_by(Item.id)).scalars().all() == [1, 2]


def test_while_the_primary_does_not_answer_the_age_of_the_last_commit_counts(
    postgres_engine: Engine, replica: Engine
) -> None:
    Base.metadata.create_all(postgres_engine)
    eventually(lambda: lag_of(postgres_engine, replica) == 0.0)
    away = create_engine(f"postgresql+psycopg://nobody@127.0.0.1:{servers.free_port()}/none")

    assert 0.0 < measure(AS_FRESH_AS_CAN_BE, away, replica) < 60.0


def test_a_primary_is_no_replica_of_itself(postgres_engine: Engine) -> None:
    chosen = choose(reading_from(), postgres_engine, postgres_engine)

    assert chosen.engine is postgres_engine
    assert "is no replica; the primary was read" in chosen.note


def test_a_replica_that_does_not_answer_is_not_read(postgres_engine: Engine) -> None:
    away = create_engine(f"postgresql+psycopg://nobody@127.0.0.1:{servers.free_port()}/none")

    chosen = choose(reading_from(fallback="skip"), postgres_engine, away)

    assert chosen.engine is None
    assert "cannot say how far it is behind" in chosen.note


# --- MariaDB ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[LoggingMariaDb, LoggingMariaDb]]:
    """A MariaDB and its replica."""
    primary, follower = LoggingMariaDb(1), LoggingMariaDb(2)
    for each in (primary, follower):
        each.start()
    follower.follow(primary)
    primary.run("CREATE DATABASE shop", "CREATE TABLE shop.item (id int PRIMARY KEY)")
    yield primary, follower
    follower.stop()
    primary.stop()


@pytest.mark.slow
def test_a_mariadb_is_as_fresh_as_its_replication_says(
    pair: tuple[LoggingMariaDb, LoggingMariaDb],
) -> None:
    primary, follower = (create_engine(each.url()) for each in pair)

    eventually(lambda: _known(primary, follower) == 0.0, 15.0)

    pair[1].lag(600)
    pair[0].run("INSERT INTO shop.item VALUES (1)")
    eventually(lambda: (_known(primary, follower) or 0.0) >= 1.0, 15.0)

    pair[1].run("STOP REPLICA SQL_THREAD")
    stopped = choose(reading_from(), primary, follower)
    assert stopped.engine is primary
    assert "replicates nothing now: no error was noted" in stopped.note


def _known(primary: Engine, follower: Engine) -> float | None:
    try:
        return lag_of(primary, follower)
    except Unknown:
        return None


def test_a_mariadb_that_follows_nobody_is_no_replica(mariadb: servers.MariaDb) -> None:
    engine = create_engine(administrator(mariadb))

    with pytest.raises(Unknown, match="is no replica"):
        lag_of(engine, engine)
    engine.dispose()


def test_a_mariadb_whose_state_our_user_may_not_see_is_not_read(mariadb_engine: Engine) -> None:
    with pytest.raises(Unknown, match="denied"):
        lag_of(mariadb_engine, mariadb_engine)


# --- definitions ------------------------------------------------------------------------------------


def test_the_replica_is_another_database() -> None:
    with pytest.raises(DefinitionError, match=r"\[freshness\]: the replica is 'default'"):
        items(PENDING, freshness=Freshness(replica="default"))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"replica": ""}, "replica is ''"),
        ({"replica": "r", "fallback": "wait"}, "fallback is 'wait'"),
        ({"replica": "r", "max_lag": -1}, "max_lag is -1"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(DefinitionError, match=what):
        Freshness(**options)


def test_a_table_of_a_replica_can_be_read_in_pages(
    postgres_engine: Engine, replica: Engine
) -> None:
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        rows = [{"id": each, "state": "pending", "rank": 0, "version": 1} for each in range(1, 8)]
        connection.execute(insert(Item), rows)
    eventually(lambda: lag_of(postgres_engine, replica) == 0.0)

    assert len(Source(reading_from(), replica, read_clock(replica)).read(None, 100)) == 7
