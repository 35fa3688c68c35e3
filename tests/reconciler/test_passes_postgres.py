"""A PostgreSQL that fails at any page: the pass ends as failed, the next one tells the rest, and nothing is told twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, make_url, select, text

from qik_core.passes import Passes
from reconciler import migrate, silence
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable, StatementTimeout
from reconciler.lease import Leases
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from reconciler.sql import reading
from tests.reconciler.shop import Base, Item, fill, items
from tests.reconciler.wire import Wire
from tests.servers import Postgres

PENDING = select(Item.id).where(Item.state == "pending")
ROWS = 300
PAGES = (1, 2, 3, 4)


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def wire(postgres: Postgres) -> Iterator[Wire]:
    with Wire(postgres.port) as wire:
        yield wire


@pytest.fixture
def far(
    postgres_url: str, wire: Wire, seam: Passes, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tools]:
    """What a pass works with, its rows and its ledger at the other end of the wire."""
    monkeypatch.setattr(silence, "GRACE", 0.5)
    monkeypatch.setattr("reconciler.engines.CONNECT_TIMEOUT", 1)
    engines = Engines(
        {"default": make_url(postgres_url).set(host="127.0.0.1", port=wire.port, query={})}
    )
    home = engines.home()
    migrate.upgrade(home)
    Base.metadata.create_all(home)
    yield Tools.of(seam, engines, "test")
    engines.dispose()


def at(engine: Engine, words: str, time: int, do: Callable[[Any], object]) -> None:
    """Call `do` with the driver's connection just before the so manieth statement with these words, once."""
    seen: list[int] = []

    @event.listens_for(engine, "before_cursor_execute")
    def look(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if words in statement:
            seen.append(1)
            if len(seen) == time:
                do(connection.connection.driver_connection)


def at_page(engine: Engine, page: int, do: Callable[[Any], object]) -> None:
    at(engine, "FROM item", page, do)


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
def test_a_connection_that_is_terminated_at_a_page_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, postgres: Postgres, page: int
) -> None:
    fill(home, range(1, ROWS + 1))

    def terminate(raw: Any) -> None:
        (session,) = raw.execute("SELECT pg_backend_pid()").fetchone()
        postgres.run(f"SELECT pg_terminate_backend({session})")

    at_page(home, page, terminate)

    fails_then_completes(tools, raw, run(tools))


@pytest.mark.parametrize("page", [1, 4])
def test_a_server_that_dies_at_a_page_and_comes_back_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, postgres: Postgres, page: int
) -> None:
    fill(home, range(1, ROWS + 1))
    postgres.run("CHECKPOINT")  # the server of the tests does not wait for its log at a commit

    def restart(_: Any) -> None:
        postgres.kill()
        postgres.start()

    at_page(home, page, restart)

    fails_then_completes(tools, raw, run(tools))


def test_a_table_that_stays_locked_fails_the_pass_by_its_timeout(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, ROWS + 1))
    with home.connect() as locker:
        locker.execute(text("LOCK TABLE item IN ACCESS EXCLUSIVE MODE"))
        report = run(tools, statement_timeout=0.1)

    assert report.outcome is Outcome.FAILED
    assert isinstance(report.error, StatementTimeout)
    assert run(tools).outcome is Outcome.COMPLETED


def test_a_column_that_is_gone_fails_its_own_pass_and_says_so(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, ROWS + 1))
    with home.begin() as connection:
        connection.execute(text("ALTER TABLE item RENAME COLUMN state TO status"))

    report = run(tools)

    assert report.outcome is Outcome.FAILED
    assert "item.state" in report.reason
    with home.begin() as connection:
        connection.execute(text("ALTER TABLE item RENAME COLUMN status TO state"))
    assert run(tools).outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    "kilobytes",
    [(1, 2, 7), pytest.param(tuple(range(64)), marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_an_answer_that_is_cut_at_any_kilobyte_is_never_a_short_page(
    far: Tools, wire: Wire, kilobytes: tuple[int, ...]
) -> None:
    home = far.engines.home()
    fill(home, range(1, 2_001), note="x" * 40)
    query = select(Item.id, Item.note)
    for kilobyte in kilobytes:
        assert _read_all(home, query) == 2_000  # by a connection that lives
        at(home, "FROM item", 1, lambda _, left=kilobyte * 1_024: setattr(wire, "left", left))  # type: ignore[misc]
        with pytest.raises(SqlUnavailable):
            _read_all(home, query)
        wire.left = None


def _read_all(home: Engine, query: Any) -> int:
    with reading(home, 5.0) as connection:
        return len(connection.execute(query).fetchall())


# --- leases ---------------------------------------------------------------------------------------


def test_a_keeper_before_a_black_hole_gives_up_in_time_and_takes_its_leases_again(
    far: Tools, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.sql.WRITE_TIMEOUT", 0.5)
    home = far.engines.home()
    leases = Leases(home, ["a", "b"], 3.0, holder="one")
    leases.register()
    leases.renew()
    began = time.monotonic()

    at(home, "UPDATE reconciler_lease", 1, lambda _: setattr(wire, "fault", "hole"))
    with pytest.raises(SqlUnavailable):
        leases.renew()

    assert time.monotonic() - began < 3.0
    assert leases.term("a") is None
    assert sorted(leases.renew().taken) == ["a", "b"]
    assert leases.term("a") == 2


def test_a_connection_that_fell_silent_while_it_lay_in_the_pool_is_replaced(
    far: Tools, wire: Wire
) -> None:
    home = far.engines.home()
    wire.fault = "hole"
    began = time.monotonic()

    with home.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1

    assert time.monotonic() - began < 5.0
