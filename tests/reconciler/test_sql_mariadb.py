"""How MariaDB is spoken to: limits of a session that are put back, errors by their number, text of any kind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, exc, make_url, select, text

from reconciler import engines as engines_
from reconciler import locking, migrate, sql
from reconciler.engines import Engines, make
from reconciler.errors import Conflict, SqlUnavailable, StatementTimeout
from reconciler.lease import Leases
from reconciler.tables import lease, metadata
from tests.reconciler.shop import Item, fill
from tests.reconciler.wire import Wire
from tests.servers import MariaDb
from tests.waiting import eventually

LIMITS = "SELECT @@max_statement_time, @@idle_transaction_timeout, @@tx_isolation"


@pytest.fixture
def database_url(mariadb_url: str) -> str:
    return mariadb_url


@pytest.fixture
def one(mariadb_url: str) -> Iterator[Engine]:
    """An engine of an application: one connection, in autocommit, with limits of its own."""
    engine = create_engine(mariadb_url, pool_size=1, max_overflow=0, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("SET max_statement_time = 77, idle_transaction_timeout = 99")
    yield engine
    engine.dispose()


def limits(connection: Connection) -> tuple[Any, ...]:
    return tuple(connection.exec_driver_sql(LIMITS).one())


def test_our_limits_hold_in_our_transactions_and_the_sessions_own_come_back(one: Engine) -> None:
    with sql.reading(one, 0.25) as connection:
        assert limits(connection) == (0.25, 5, "READ-COMMITTED")
    with sql.writing(one) as connection:
        assert limits(connection) == (10.0, 5, "READ-COMMITTED")

    with one.connect() as connection:
        assert limits(connection)[:2] == (77.0, 99)


def test_the_sessions_own_limits_come_back_after_a_timeout_and_after_a_mistake(
    one: Engine,
) -> None:
    with pytest.raises(StatementTimeout), sql.reading(one, 0.1) as connection:
        connection.exec_driver_sql("SELECT SLEEP(30)")
    with pytest.raises(exc.DBAPIError), sql.reading(one, 0.1) as connection:
        connection.exec_driver_sql("SELECT nonsense")

    with one.connect() as connection:
        assert limits(connection)[:2] == (77.0, 99)


def test_a_connection_that_is_gone_is_said_to_be_so_and_the_next_one_works(
    one: Engine, mariadb: MariaDb
) -> None:
    def lose() -> None:
        with sql.reading(one, 1.0) as connection:
            number = connection.exec_driver_sql("SELECT connection_id()").scalar_one()
            mariadb.run(f"KILL {number}")
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(SqlUnavailable, match=r"\(19|\(20"):
        lose()

    with sql.reading(one, 1.0) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM item", "SELECT * FROM mysql.user"],
)
def test_what_a_page_may_not_do_is_the_applications_mistake(home: Engine, statement: str) -> None:
    with pytest.raises(exc.DBAPIError), sql.reading(home, 1.0) as connection:
        connection.exec_driver_sql(statement)


def test_a_transaction_that_stands_idle_is_ended_by_mariadb(
    one: Engine, monkeypatch: pytest.MonkeyPatch, mariadb: MariaDb
) -> None:
    monkeypatch.setattr(sql, "IDLE", 0.05)  # the server counts whole seconds: one
    threads = "SELECT count(*) FROM information_schema.processlist WHERE id = {}"

    def linger() -> None:
        with sql.writing(one) as connection:
            connection.exec_driver_sql("CREATE TABLE t (id int)")
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            number = connection.exec_driver_sql("SELECT connection_id()").scalar_one()
            eventually(lambda: mariadb.run(threads.format(number)) == [(0,)], 5.0)
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(SqlUnavailable):
        linger()


def test_a_write_does_not_wait_for_a_lock_beyond_its_limit(
    home: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "WRITE_TIMEOUT", 0.2)
    fill(home, [1])

    def wait() -> None:
        with sql.writing(home) as connection:
            connection.exec_driver_sql("UPDATE item SET `rank` = 5")

    with home.begin() as other:
        other.exec_driver_sql("UPDATE item SET `rank` = 4")
        with pytest.raises(StatementTimeout):
            wait()


def test_a_lock_that_the_server_gives_up_is_an_outcome(home: Engine) -> None:
    fill(home, [1])

    def wait() -> None:
        with sql.writing(home) as connection:
            connection.exec_driver_sql("SET innodb_lock_wait_timeout = 0")
            connection.exec_driver_sql("UPDATE item SET `rank` = 5")

    with home.begin() as other:
        other.exec_driver_sql("UPDATE item SET `rank` = 4")
        with pytest.raises(SqlUnavailable, match="1205"):
            wait()


@pytest.mark.parametrize("database_url", ["postgres", "mariadb"], indirect=True)
def test_of_two_transactions_in_a_deadlock_the_one_that_was_ended_begins_again(
    home: Engine,
) -> None:
    fill(home, [1, 2])
    gate, tried, ended = threading.Barrier(2), list[int](), list[int]()

    def add(first: int, second: int) -> None:
        tried.append(first)
        with sql.writing(home) as connection:
            raise_ = text("UPDATE item SET version = version + 1 WHERE id = :id")
            connection.execute(raise_, {"id": first})
            if len(tried) <= 2:
                gate.wait(5.0)
            connection.execute(raise_, {"id": second})
        ended.append(first)

    ways = [(1, 2), (2, 1)]
    threads = [
        threading.Thread(target=lambda way=way: sql.again(lambda: add(*way))) for way in ways
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert (sorted(ended), len(tried)) == ([1, 2], 3)
    with home.connect() as connection:
        assert list(connection.execute(select(Item.version)).scalars()) == [3, 3]


def test_a_transaction_that_always_loses_gives_up() -> None:
    tries, pauses = [], list[float]()

    def lose() -> None:
        tries.append(1)
        raise Conflict("lost")

    with pytest.raises(Conflict):
        sql.again(lose, pauses.append, lambda: 1.0)

    assert len(tries) == sql.TRIES
    assert pauses == sorted(pauses)


def test_the_driver_waits_for_a_statement_as_long_as_the_server_may_take(
    mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines_, "_SILENCE", 0.2)
    engine = make(mariadb_url)

    with sql.reading(engine, 5.0) as connection:
        assert connection.exec_driver_sql("SELECT SLEEP(0.5)").scalar_one() == 0
    with (
        pytest.raises(exc.OperationalError),
        engine.connect() as connection,
    ):
        connection.exec_driver_sql("SELECT SLEEP(0.5)")
    engine.dispose()


def test_a_server_that_says_nothing_is_given_up(
    mariadb_url: str, mariadb: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines_, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(engines_, "_SILENCE", 0.3)
    with Wire(mariadb.port) as wire:
        wire.fault = "hole"
        engine = Engines({"default": make_url(mariadb_url).set(port=wire.port)}).home()
        with pytest.raises(SqlUnavailable):
            sql.read_clock(engine)
        engine.dispose()


# --- our tables ----------------------------------------------------------------------------------


def test_our_tables_are_kept_the_same_way_whatever_the_databases_defaults_are(
    home: Engine, mariadb: MariaDb
) -> None:
    kept = "SELECT table_name, engine, table_collation FROM information_schema.tables WHERE table_schema = '{}'"
    found = mariadb.run(kept.format(home.url.database))

    ours = {row[0]: row[1:] for row in found if row[0] in metadata.tables}
    assert set(ours) == set(metadata.tables)
    assert set(ours.values()) == {("InnoDB", "utf8mb4_bin")}
    assert ("item", "InnoDB", "latin1_swedish_ci") in found


def test_two_reconcilers_whose_names_differ_in_case_only_have_a_lease_each(home: Engine) -> None:
    leases = Leases(home, ["Items", "items"], 30.0, holder="one")
    leases.register()

    assert sorted(leases.renew().taken) == ["Items", "items"]
    with home.connect() as connection:
        named = select(lease.c.reconciler).where(lease.c.reconciler == "items")
        assert connection.execute(named).scalars().all() == ["items"]


def test_an_upgrade_waits_for_another_one_longer_than_the_driver_waits_for_an_answer(
    mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines_, "_SILENCE", 1.5)
    monkeypatch.setattr(locking, "_WAIT", 1)
    engine, other = make(mariadb_url), create_engine(mariadb_url)
    with other.connect() as connection:
        name = f"qik_upgrade_{locking._LOCK}"
        assert connection.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": name}).scalar() == 1
        done = threading.Event()

        def move_on() -> None:
            migrate.upgrade(engine)
            done.set()

        upgrade = threading.Thread(target=move_on)
        upgrade.start()
        assert not done.wait(2.0)
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
    upgrade.join()

    assert migrate.current(engine) == migrate.head()
    engine.dispose()
    other.dispose()


def test_an_upgrade_that_waits_in_vain_says_what_to_end(
    mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "PATIENCE", 0)
    monkeypatch.setattr(locking, "_WAIT", 0)
    engine, other = make(mariadb_url), create_engine(mariadb_url)
    with other.connect() as connection:
        connection.execute(text(f"SELECT GET_LOCK('qik_upgrade_{locking._LOCK}', 0)"))

        with pytest.raises(SqlUnavailable, match="another `reconciler upgrade`"):
            migrate.upgrade(engine)
    engine.dispose()
    other.dispose()
