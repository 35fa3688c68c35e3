"""A thousand reconcilers on three processes: what their leases cost, counted in PostgreSQL's own log."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, select, text, update

from reconciler.lease import Leases
from reconciler.manager import _SLOWEST_POLL as POLL
from reconciler.tables import lease
from tests.servers import Postgres
from tests.waiting import eventually

NAMES = [f"Reconciler{number}" for number in range(1_000)]
LEASE = 30.0


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def statements(postgres: Postgres, postgres_url: str, home: Engine) -> Callable[[], int]:
    """Counts the statements, BEGIN and COMMIT too, that this database's sessions sent since the last call."""
    database = make_url(postgres_url).database
    with home.connect().execution_options(isolation_level="AUTOCOMMIT") as admin:
        admin.execute(text(f"ALTER DATABASE {database} SET log_statement = 'all'"))
    home.dispose()
    log = Path(postgres.folder, "server.log")
    at = log.stat().st_size

    def count() -> int:
        nonlocal at
        with log.open("rb") as file:
            file.seek(at)
            new = file.read()
        at += len(new)
        return len(re.findall(rb"LOG:  (?:statement|execute [^:]*):", new))

    return count


def processes(home: Engine, count: int, **options: Any) -> list[Leases]:
    made = [Leases(home, NAMES, LEASE, holder=f"p{each}", **options) for each in range(count)]
    for each in made:
        each.register()
    for _ in range(3):
        for each in made:
            each.renew()
    return made


def held(one: Leases) -> int:
    return sum(one.term(name) is not None for name in NAMES)


def test_a_thousand_reconcilers_on_three_processes_cost_under_five_statements_a_second(
    home: Engine, statements: Callable[[], int]
) -> None:
    three = processes(home, 3)
    assert sorted(map(held, three)) == [332, 334, 334]
    statements()

    for each in three:
        each.renew()

    cost = statements()
    pause = min(each.pause(POLL) for each in three)
    assert cost > 0
    assert cost / pause < 5.0, f"{cost} statements every {pause:g} s"


def test_registering_a_thousand_reconcilers_is_a_handful_of_statements(
    home: Engine, statements: Callable[[], int]
) -> None:
    one = Leases(home, NAMES, LEASE, holder="one")
    statements()

    one.register()

    assert statements() < 12
    assert len(one.renew().taken) == 1_000
    assert statements() < 12


def test_a_process_looks_again_when_the_first_lease_of_another_expires(home: Engine) -> None:
    one, two = processes(home, 2)
    assert two.pause(POLL) == POLL

    with home.begin() as connection:
        soon = text("extract(epoch from clock_timestamp()) + 1.0")
        connection.execute(
            update(lease).where(lease.c.holder == one.holder).values(expires_at=soon)
        )
    two.renew()

    assert 0.0 < two.pause(POLL) < 1.2
    eventually(lambda: len(two.renew().taken) > 0, 5.0, every=0.2)
    assert held(two) == 1_000


def test_rows_that_somebody_deleted_are_made_again(home: Engine) -> None:
    (one,) = processes(home, 1)
    with home.begin() as connection:
        connection.execute(lease.delete())

    one.renew()

    assert held(one) == 1_000
    with home.connect() as connection:
        assert len(connection.execute(select(lease.c.term)).all()) == 1_001


def test_units_that_are_left_out_are_given_back_and_new_ones_taken(home: Engine) -> None:
    (one,) = processes(home, 1)

    one.follow([*NAMES[10:], "Reconciler0/eu1"])
    change = one.renew()

    assert sorted(change.given) == sorted(NAMES[:10])
    assert list(change.taken) == ["Reconciler0/eu1"]
    with home.connect() as connection:
        row = connection.execute(select(lease).where(lease.c.shard == "eu1")).one()
    assert (row.reconciler, row.holder, row.term) == ("Reconciler0", "p0", 1)
