"""A PostgreSQL that fails at any page: the pass ends as failed, the next one tells the rest, and nothing is told twice.

Servers that die and tables that are locked are in test_passes_faults.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, select, text

from qik_core.passes import Passes
from reconciler import silence
from reconciler.errors import SqlUnavailable
from reconciler.lease import Leases
from reconciler.passes import Tools
from reconciler.report import Outcome
from reconciler.sql import reading
from tests.reconciler.failing import (
    LOST,
    PAGES,
    ROWS,
    at,
    at_page,
    at_the_other_end,
    fails_then_completes,
    run,
)
from tests.reconciler.shop import Item, fill
from tests.reconciler.wire import Wire
from tests.servers import Postgres


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
    url = make_url(postgres_url).set(host="127.0.0.1", port=wire.port, query={})
    with at_the_other_end(url, seam) as tools:
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
def test_a_connection_that_is_terminated_at_a_page_fails_the_pass(
    home: Engine, tools: Tools, raw: Any, postgres: Postgres, page: int
) -> None:
    fill(home, range(1, ROWS + 1))

    def terminate(raw: Any) -> None:
        (session,) = raw.execute("SELECT pg_backend_pid()").fetchone()
        postgres.run(f"SELECT pg_terminate_backend({session})")

    at_page(home, page, terminate)

    fails_then_completes(tools, raw, run(tools))


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
