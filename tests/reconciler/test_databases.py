"""Rows in one database, our tables in another, of different kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.ext.asyncio import create_async_engine

from qik_core.passes import Passes
from reconciler.engines import Engines
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome
from tests.reconciler import tables
from tests.reconciler.running import Running
from tests.reconciler.shop import Base, fill, items
from tests.reconciler.test_manager import PENDING
from tests.waiting import eventually

NOWHERE = "postgresql+psycopg://127.0.0.1:1/none"


@pytest.fixture
def billing(mariadb_url: str) -> Iterator[str]:
    """A MariaDB with pending rows and none of our tables."""
    engine = create_engine(mariadb_url)
    Base.metadata.create_all(engine)
    fill(engine, range(1, 31))
    yield mariadb_url
    assert not [name for name in inspect(engine).get_table_names() if name.startswith("reconciler")]
    engine.dispose()


def home_alone(url: str, **databases: Any) -> Engines:
    engines = Engines({"default": url, **databases})
    tables.ours(engines.home())
    return engines


def test_rows_are_read_where_they_are_and_noted_at_home(
    postgres_url: str, billing: str, seam: Passes, raw: Any
) -> None:
    engines = home_alone(postgres_url, billing=billing)

    report = Pass(
        items(PENDING, batch_size=10, database="billing"),
        Tools.of(seam, engines, "test"),
        1,
        lambda: None,
    ).run()

    assert (report.outcome, report.codes) == (Outcome.COMPLETED, {"enqueued": 30})
    assert "item" not in inspect(engines.home()).get_table_names()
    engines.dispose()


def test_rows_of_an_asyncio_application_are_read_by_a_companion(
    sqlite_url: str, postgres_url: str, seam: Passes, raw: Any
) -> None:
    theirs = create_async_engine(postgres_url)
    engines = home_alone(sqlite_url, billing=theirs)
    rows = engines.engine("billing")
    Base.metadata.create_all(rows)
    fill(rows, range(1, 11))

    report = Pass(
        items(PENDING, database="billing"), Tools.of(seam, engines, "test"), 1, lambda: None
    ).run()

    assert report.codes == {"enqueued": 10}
    engines.dispose()


def test_a_database_that_is_away_stops_its_own_reconcilers_only(
    sqlite_url: str, billing: str, seam: Passes, raw: Any
) -> None:
    engines = home_alone(sqlite_url, billing=billing, gone=NOWHERE)
    running = Running(
        [
            items(PENDING, database="billing", every=0.2, name="Here"),
            items(PENDING, database="gone", every=0.2, name="Gone", queue="gone"),
        ],
        engines,
        seam,
        30.0,
    )
    try:
        eventually(lambda: len(running.ended("Here")) > 3 and running.ended("Gone"))
    finally:
        running.stop()

    assert Outcome.FAILED not in running.ended("Here")
    assert Outcome.COMPLETED not in running.ended("Gone")
    assert raw.llen("queue:work") == 30
    engines.dispose()
