"""A database that fails at any page, by more than its wire: no such pass is `completed`, the next one tells the rest once.

Lost answers and ended connections are with each database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from reconciler.errors import Conflict, SqlUnavailable, StatementTimeout
from reconciler.passes import Tools
from reconciler.report import Outcome
from tests.reconciler.failing import PAGES, ROWS, at_page, fails_then_completes, run
from tests.reconciler.shop import fill
from tests.servers import Postgres

on_postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@on_postgres
@pytest.mark.parametrize("page", PAGES)
def test_a_server_that_dies_at_a_page_and_comes_back_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, postgres: Postgres, page: int
) -> None:
    fill(home, range(1, ROWS + 1))
    postgres.run("CHECKPOINT")  # its commits wait for nothing here, and a crash may lose the last

    def restart(_: Any) -> None:
        postgres.kill()
        postgres.start()

    at_page(home, page, restart)

    fails_then_completes(tools, raw, run(tools), SqlUnavailable)


@on_postgres
@pytest.mark.parametrize("page", PAGES)
def test_a_table_that_is_locked_at_a_page_fails_the_pass_by_its_timeout(
    home: Engine, tools: Tools, raw: Any, page: int
) -> None:
    fill(home, range(1, ROWS + 1))
    locker = create_engine(home.url)

    with locker.connect() as connection:
        lock = "LOCK TABLE item IN ACCESS EXCLUSIVE MODE"
        at_page(home, page, lambda _: _on_another_thread(connection.exec_driver_sql, lock))
        report = run(tools, statement_timeout=0.1)
    locker.dispose()

    fails_then_completes(tools, raw, report, StatementTimeout)


def _on_another_thread(do: Callable[[str], object], argument: str) -> None:
    """Have the lock wait for the reader of the last page, which may still be there."""
    thread = threading.Thread(target=do, args=(argument,))
    thread.start()
    thread.join()


RAISES = """
CREATE FUNCTION raises(n int, at int, code text) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN IF n >= at THEN RAISE EXCEPTION 'as asked' USING ERRCODE = code; END IF; RETURN true; END $$
"""
CODES = {
    "serialisation": ("40001", Conflict),
    "deadlock": ("40P01", Conflict),
    "full": ("53200", SqlUnavailable),
    "shutdown": ("57P01", SqlUnavailable),
    "cancelled": ("57014", StatementTimeout),
}


@on_postgres
@pytest.mark.parametrize("page", PAGES[:3])
@pytest.mark.parametrize("what", CODES)
def test_an_error_of_the_database_at_a_page_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, what: str, page: int
) -> None:
    code, error = CODES[what]
    fill(home, range(1, ROWS + 1))
    with home.begin() as connection:
        connection.exec_driver_sql(RAISES)

    def break_it(connection: Any) -> None:
        with home.begin() as other:
            other.exec_driver_sql("ALTER TABLE item RENAME TO item_")
            other.exec_driver_sql(
                "CREATE VIEW item AS SELECT * FROM item_ "
                f"WHERE raises(id, {100 * page - 50}, '{code}')"
            )

    at_page(home, page, break_it)
    report = run(tools)
    with home.begin() as connection:
        connection.exec_driver_sql("DROP VIEW item")
        connection.exec_driver_sql("ALTER TABLE item_ RENAME TO item")

    fails_then_completes(tools, raw, report, error)


@on_sqlite
@pytest.mark.parametrize("page", PAGES)
def test_a_query_that_is_interrupted_at_a_page_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, page: int
) -> None:
    fill(home, range(1, ROWS + 1))

    def interrupt(connection: Any) -> None:
        connection.set_progress_handler(lambda: 1, 1)

    at_page(home, page, interrupt)
    report = run(tools)

    assert report.outcome is Outcome.FAILED, report
    home.dispose()
    assert run(tools, statement_timeout=10.0).outcome is Outcome.COMPLETED
    assert raw.llen("queue:work") == ROWS


@on_sqlite
@pytest.mark.parametrize("page", PAGES)
def test_a_table_that_is_gone_at_a_page_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, page: int
) -> None:
    fill(home, range(1, ROWS + 1))

    def rename(_: Any) -> None:
        other = create_engine(home.url)
        with other.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE item RENAME TO item_")
        other.dispose()

    at_page(home, page, rename)
    report = run(tools)
    with home.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE item_ RENAME TO item")

    assert report.outcome is Outcome.FAILED, report
    assert "no such table" in report.reason
    assert run(tools, statement_timeout=10.0).outcome is Outcome.COMPLETED
    assert raw.llen("queue:work") == ROWS
