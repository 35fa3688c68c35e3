from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import Engine, create_engine, event, exc, insert, select, text

from reconciler import migrate, sql
from reconciler.engines import Engines
from reconciler.errors import NotMigrated, SqlUnavailable, StatementTimeout
from tests.reconciler.shop import Base, Item
from tests.waiting import eventually

FOREVER = {
    "mariadb": "SELECT SLEEP(30)",
    "postgresql": "SELECT pg_sleep(30)",
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n",
}


def test_the_database_tells_the_time(home: Engine) -> None:
    assert sql.read_clock(home) == pytest.approx(time.time(), abs=2.0)


def test_the_clock_moves_inside_of_a_transaction(home: Engine) -> None:
    clock = sql.clock(home.dialect.name)
    with sql.writing(home) as connection:
        first = connection.execute(select(clock)).scalar_one()
        threading.Event().wait(0.02)
        second = connection.execute(select(clock)).scalar_one()

    assert second > first


def test_an_unknown_kind_of_database_is_named() -> None:
    with pytest.raises(SqlUnavailable, match="'oracle' are not supported: use mariadb"):
        sql.clock("oracle")


def test_a_statement_that_takes_too_long_is_ended(home: Engine) -> None:
    began = time.monotonic()

    with (
        pytest.raises(StatementTimeout, match="took too long"),
        sql.reading(home, 0.2) as connection,
    ):
        connection.execute(text(FOREVER[home.dialect.name]))

    assert time.monotonic() - began < 3.0


def test_the_statement_after_a_slow_one_is_not_interrupted(home: Engine) -> None:
    for _ in range(20):
        with pytest.raises(StatementTimeout), sql.reading(home, 0.01) as connection:
            connection.execute(text(FOREVER[home.dialect.name]))
        with sql.reading(home, 5.0) as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_a_page_cannot_write_to_postgresql(postgres_url: str) -> None:
    engine = Engines({"default": postgres_url}).home()

    with (
        pytest.raises(exc.DBAPIError, match="read-only"),
        sql.reading(engine, 1.0) as connection,
    ):
        connection.execute(text("CREATE TABLE forbidden (id int)"))
    engine.dispose()


def test_the_timeout_holds_for_an_engine_in_autocommit(postgres_url: str) -> None:
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")

    with pytest.raises(StatementTimeout), sql.reading(engine, 0.1) as connection:
        connection.execute(text(FOREVER["postgresql"]))
    engine.dispose()


def test_a_transaction_that_stands_idle_is_ended_by_postgresql(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "IDLE", 0.05)
    engine = Engines({"default": postgres_url}).home()

    def linger() -> None:
        with sql.writing(engine) as connection:
            moment = time.monotonic() + 0.5
            eventually(lambda: time.monotonic() > moment)
            connection.execute(text("SELECT 1"))

    with pytest.raises(SqlUnavailable, match="idle"):
        linger()
    engine.dispose()


def test_an_error_rolls_a_write_back(home: Engine) -> None:
    twice = insert(Item).values([{"id": 1, "state": "pending", "rank": 0, "version": 1}] * 2)
    once = insert(Item).values(id=2, state="pending", rank=0, version=1)

    def write() -> None:
        with sql.writing(home) as connection:
            connection.execute(once)
            connection.execute(twice)

    with pytest.raises(exc.IntegrityError):
        write()

    with sql.reading(home, 1.0) as connection:
        assert connection.execute(select(Item.id)).all() == []


def test_writers_of_sqlite_wait_for_each_other_instead_of_failing(sqlite_url: str) -> None:
    engine = Engines({"default": sqlite_url}).home()
    with sql.writing(engine) as connection:
        connection.execute(text("CREATE TABLE counter (n int)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))
    errors: list[Exception] = []

    def count() -> None:
        try:
            for _ in range(25):
                with sql.writing(engine) as connection:
                    n = connection.execute(text("SELECT n FROM counter")).scalar_one()
                    connection.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})
        except SqlUnavailable as error:
            errors.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with sql.reading(engine, 1.0) as connection:
        assert connection.execute(text("SELECT n FROM counter")).scalar_one() == 100
    assert errors == []
    engine.dispose()


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE"])
def test_an_engine_of_an_application_that_begins_transactions_of_sqlite_itself_is_written_to(
    sqlite_url: str, begin: str
) -> None:
    """As SQLAlchemy's documentation advises for savepoints."""
    engine = create_engine(sqlite_url, pool_size=1, max_overflow=0)
    event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)

    with sql.writing(engine) as connection:
        connection.execute(insert(Item).values(id=1, state="kept"))
    with pytest.raises(exc.IntegrityError), sql.writing(engine) as connection:
        connection.execute(insert(Item), [{"id": 2, "state": "gone"}, {"id": 1, "state": "twice"}])
    with engine.connect() as own, own.begin():
        own.execute(insert(Item).values(id=3, state="rolled back"))
        own.get_transaction().rollback()  # type: ignore[union-attr]

    with sql.reading(engine, 5.0) as connection:
        assert connection.execute(select(Item.id)).scalars().all() == [1]
    engine.dispose()


def test_our_missing_tables_are_named_with_the_remedy(engines: Engines) -> None:
    with (
        pytest.raises(NotMigrated, match="Run `reconciler upgrade`"),
        sql.reading(engines.home(), 1.0) as connection,
    ):
        connection.execute(text("SELECT * FROM reconciler_lease"))


def test_a_missing_table_of_the_application_stays_the_applications_error(engines: Engines) -> None:
    with pytest.raises(exc.DBAPIError), sql.reading(engines.home(), 1.0) as connection:
        connection.execute(text("SELECT * FROM shop"))


def test_an_unreachable_server_is_named_without_its_password() -> None:
    engine = Engines({"default": "postgresql+psycopg://me:secret@127.0.0.1:1/shop"}).home()

    with pytest.raises(SqlUnavailable, match=r"me:\*\*\*@127.0.0.1:1/shop") as refused:
        sql.read_clock(engine)
    assert "secret" not in str(refused.value)
