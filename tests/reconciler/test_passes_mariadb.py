"""A MariaDB that fails at any page: the pass ends as failed, the next one tells the rest, and nothing is told twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url

from qik_core.passes import Passes
from reconciler import engines as engines_
from reconciler import sql
from reconciler.errors import StatementTimeout
from reconciler.passes import Tools
from reconciler.report import Outcome
from tests.reconciler.failing import (
    LOST,
    PAGES,
    ROWS,
    at_page,
    at_the_other_end,
    fails_then_completes,
    run,
)
from tests.reconciler.shop import fill
from tests.reconciler.wire import Wire
from tests.servers import MariaDb
from tests.waiting import eventually


@pytest.fixture
def database_url(mariadb_url: str) -> str:
    return mariadb_url


@pytest.fixture
def wire(mariadb: MariaDb) -> Iterator[Wire]:
    with Wire(mariadb.port) as wire:
        yield wire


@pytest.fixture
def far(
    mariadb_url: str, wire: Wire, seam: Passes, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tools]:
    """What a pass works with, its rows and its ledger at the other end of the wire."""
    monkeypatch.setattr(engines_, "_SILENCE", 1)
    monkeypatch.setattr(sql, "_GRACE", 0.5)
    with at_the_other_end(make_url(mariadb_url).set(port=wire.port), seam) as tools:
        yield tools


@pytest.mark.parametrize(("fault", "page"), LOST)
def test_a_page_whose_answer_is_lost_fails_the_pass(
    far: Tools, wire: Wire, raw: Any, fault: str, page: int
) -> None:
    home = far.engines.home()
    fill(home, range(1, ROWS + 1))
    at_page(home, page, lambda _: setattr(wire, "fault", fault))

    fails_then_completes(far, raw, run(far))


@pytest.mark.parametrize("page", PAGES)
def test_a_connection_that_is_killed_at_a_page_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, mariadb: MariaDb, page: int
) -> None:
    fill(home, range(1, ROWS + 1))
    at_page(home, page, lambda raw: mariadb.run(f"KILL {raw.thread_id()}"))

    fails_then_completes(tools, raw, run(tools))


@pytest.mark.parametrize("page", PAGES)
def test_a_server_that_dies_at_a_page_and_comes_back_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, mariadb: MariaDb, page: int
) -> None:
    fill(home, range(1, ROWS + 1))

    def restart(_: Any) -> None:
        mariadb.kill()
        mariadb.start()

    at_page(home, page, restart)

    fails_then_completes(tools, raw, run(tools))


def test_a_page_that_somebody_kills_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, mariadb: MariaDb
) -> None:
    fill(home, range(1, ROWS + 1))
    locked = create_engine(home.url)
    running = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT item%'"

    def kill_it() -> None:
        found = eventually(lambda: mariadb.run(running), 5.0)
        mariadb.run(f"KILL QUERY {found[0][0]}")

    killer = threading.Thread(target=kill_it)
    with locked.connect() as connection:
        connection.exec_driver_sql("LOCK TABLES item WRITE")
        killer.start()
        report = run(tools, statement_timeout=10.0)
        killer.join()
        connection.exec_driver_sql("UNLOCK TABLES")
    locked.dispose()

    fails_then_completes(tools, raw, report)


def test_a_table_that_stays_locked_fails_the_pass_by_its_timeout(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, ROWS + 1))
    locked = create_engine(home.url)

    with locked.connect() as connection:
        connection.exec_driver_sql("LOCK TABLES item WRITE")
        report = run(tools, statement_timeout=0.1)
        connection.exec_driver_sql("UNLOCK TABLES")
    locked.dispose()

    assert report.outcome is Outcome.FAILED
    assert isinstance(report.error, StatementTimeout)
    assert run(tools).outcome is Outcome.COMPLETED
