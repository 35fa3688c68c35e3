"""A MariaDB that fails at any page: the pass ends as failed, the next one tells the rest, and nothing is told twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, make_url, select

from qik_core.passes import Passes
from reconciler import engines as engines_
from reconciler import migrate, sql
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable, StatementTimeout
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from tests.reconciler.shop import Base, Item, fill, items
from tests.reconciler.wire import Wire
from tests.servers import MariaDb
from tests.waiting import eventually

PENDING = select(Item.id).where(Item.state == "pending")
ROWS = 300
PAGES = (1, 2, 3, 4)


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
    engines = Engines({"default": make_url(mariadb_url).set(port=wire.port)})
    home = engines.home()
    migrate.upgrade(home)
    Base.metadata.create_all(home)
    yield Tools.of(seam, engines, "test")
    engines.dispose()


def at_page(engine: Engine, page: int, do: Callable[[Any], object]) -> None:
    """Call `do` with the driver's connection just before a page is asked for, once."""
    seen: list[int] = []

    @event.listens_for(engine, "before_cursor_execute")
    def look(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM item" in statement:
            seen.append(1)
            if len(seen) == page:
                do(connection.connection.driver_connection)


def run(tools: Tools, **options: Any) -> Report:
    given = {"batch_size": 100, "statement_timeout": 1.0, **options}
    return Pass(items(PENDING, **given), tools, 1, lambda: None).run()


def fails_then_completes(tools: Tools, raw: Any, first: Report) -> None:
    assert first.outcome is Outcome.FAILED, first
    assert isinstance(first.error, SqlUnavailable), first
    definition = items(PENDING, batch_size=100)
    assert Pass(definition, tools, 1, lambda: None).run().outcome is Outcome.COMPLETED
    assert raw.llen("queue:work") == ROWS


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("fault", ["cut", "mid", "hole"])
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
