"""Scenarios 41, 42, 43, 50 and 56: a full Redis, one that forgets, slow and large databases, a broken reconciler."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import text, update

from qik_core.embedded import Embedded
from qik_core.errors import NotEnqueued
from tests.acceptance.scenarios.stage import Item
from tests.acceptance.scenarios.world import Size, Work, World, idle, sizes
from tests.waiting import eventually


@pytest.mark.usefixtures("edges")
@sizes(fast=6_000, full=20_000)  # so many that Redis is not nearly full without them
def test_scenario_41_a_full_redis_is_drained_and_serves_again_without_a_restart(
    world: World, size: Size, raw: Any
) -> None:
    world.plain(every=0.5)
    world.fill(range(1, size.rows + 1))
    world.reconcile()
    eventually(lambda: raw.llen("queue:work") == size.rows, 60)
    raw.config_set("maxmemory", raw.info("memory")["used_memory"])
    late = size.rows + 1
    world.fill([late])
    with pytest.raises(NotEnqueued, match="full"):
        Work.perform_async(late)
    refused = eventually(
        lambda: [row for row in world.ledger() if "full" in (row.reason or "")], 30
    )
    assert {row.outcome for row in refused} <= {"gated", "failed"}

    world.start_work()

    world.await_done(60)
    eventually(lambda: idle(raw), 20)
    world.check_exactly_once(range(1, late + 1))
    world.fill([late + 1], state="done")
    assert Work.perform_async(late + 1)


SLOW = {
    "postgres": "slow({0})",
    "mariadb": "SLEEP({0}) = 0",
    "sqlite": "(WITH RECURSIVE n(x) AS (SELECT item.id * 0 UNION ALL SELECT x + 1 FROM n WHERE x < {1})"
    " SELECT max(x) FROM n) > 0",
}
LIMITED = """
from sqlalchemy import literal_column

class Work(Job, queue="work", unique_for=600):
    def perform(self, item_id: int) -> None: ...

class Items(Reconciler, every={every}, batch_size=400, statement_timeout={timeout}):
    pending = derive(Work, PENDING.where(literal_column("{slow}")))
"""
FUNCTION = """
CREATE FUNCTION slow(seconds float8) RETURNS boolean LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_sleep(seconds); RETURN true; END $$
"""
FORCED = """
DO $$ BEGIN
EXECUTE 'ALTER DATABASE ' || current_database() || ' SET enable_sort = off';
EXECUTE 'ALTER DATABASE ' || current_database() || ' SET enable_bitmapscan = off';
END $$
"""
"""A page reads no more rows than it has."""
OLDEST = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@sizes(fast=300, full=2_000, on="postgres", databases=("sqlite", "postgres", "mariadb"))
def test_scenario_42_pages_that_are_too_slow_shrink_until_they_are_not(
    world: World, size: Size, raw: Any
) -> None:
    """Each row of a page costs a hundredth of what a page may take, or a little less: 100 rows fit and 200 do not."""
    timeout = 1.0
    slow = SLOW[size.database].format(timeout / 150, _steps(timeout / 120))
    world.define(LIMITED, every=60.0, timeout=timeout, slow=slow)
    world.fill(range(1, size.rows + 1))
    if size.database == "postgres":
        with world.engine.begin() as connection:
            connection.exec_driver_sql(FUNCTION)
            connection.exec_driver_sql(FORCED)
    ages: list[float] = []
    with _watched(world, ages):
        world.reconcile()
        eventually(lambda: _outcomes(world), 100, every=0.05)

    row = world.ledger()[0]
    assert row.outcome == "completed", row.reason
    assert raw.llen("queue:work") == size.rows
    assert 50 <= row.page_size <= (200 if world.on_sqlite else 100)  # it burns, the others sleep
    assert max(ages, default=0.0) <= timeout + 1.0


def _steps(seconds: float) -> int:
    """Return how many steps of its loop SQLite does in so many seconds here and now."""
    steps = 200_000
    loop = SLOW["sqlite"].replace("item.id * 0", "0").format(0, steps)
    began = monotonic()
    with closing(sqlite3.connect(":memory:")) as here:
        here.execute(f"SELECT {loop}").fetchall()
    return int(steps * seconds / (monotonic() - began))


def _outcomes(world: World) -> list[str]:
    return [row.outcome for row in world.ledger() if row.outcome]


@contextmanager
def _watched(world: World, ages: list[float]) -> Iterator[None]:
    """Note how old the oldest transaction is, ten times a second; only PostgreSQL can say."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            with world.engine.connect() as connection:
                ages.append(float(connection.execute(text(OLDEST)).scalar_one()))

    watcher = threading.Thread(target=watch)
    if world.engine.dialect.name == "postgresql":
        watcher.start()
    try:
        yield
    finally:
        stop.set()
        if watcher.is_alive():
            watcher.join()


MANY = {
    "postgres": "INSERT INTO item SELECT g, 'done', 1, 0, '', 0, NULL FROM generate_series(1, {0}) g",
    "sqlite": "INSERT INTO item WITH RECURSIVE g(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM g WHERE x < {0})"
    " SELECT x, 'done', 1, 0, '', 0, NULL FROM g",
}
PENDING = 1_000
GROWTH = 50_000
"""Kilobytes by which the process of reconcilers may grow."""


@sizes(fast=None, full=1_000_000)
def test_scenario_43_few_pending_rows_of_a_large_table_are_found_by_their_index(
    world: World, size: Size, raw: Any
) -> None:
    world.plain(every=0.5)
    with world.engine.begin() as connection:
        connection.exec_driver_sql(MANY[size.database].format(size.rows))
    with world.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    process = world.reconcile()
    eventually(lambda: world.completed() >= 2, 30)
    before = _resident(process.pid)
    step = size.rows // PENDING
    with world.engine.begin() as connection:
        few = update(Item).where(Item.id % step == 0).values(state="pending")
        connection.execute(few)

    eventually(lambda: raw.llen("queue:work") == PENDING, 30)
    world.await_passes(2)

    told = next(row for row in world.ledger() if "enqueued" in json.loads(row.codes))
    assert told.ended_at - told.started_at <= 1.0
    assert _resident(process.pid) - before <= GROWTH
    assert world.command("lint", "shop", check=False).stdout.count("scan ") == 0
    with world.engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_item_state")
    found = world.command("lint", "shop", check=False)
    assert found.returncode == 1
    assert re.search(r"scan +Items: .*item", found.stdout)
    assert "CREATE INDEX" in found.stdout


def _resident(pid: int) -> int:
    """Kilobytes of memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


BESIDE = """
from sqlalchemy import Column, Integer, MetaData, Table

class Work(Job, queue="work", unique_for=600):
    def perform(self, item_id: int) -> None:
        effect(self, item_id)

class Second(Work): ...
class Third(Work): ...

class Lost(Job, queue="work", unique_for=600):
    def perform(self, item_id: int) -> None: ...

missing = Table("nowhere", MetaData(), Column("id", Integer, primary_key=True))

class Items(Reconciler, every=0.5):
    pending = derive(Work, PENDING.where(Item.tenant == "a"))

class Others(Reconciler, every=0.5):
    pending = derive(Second, PENDING.where(Item.tenant == "b"))

class More(Reconciler, every=0.5):
    pending = derive(Third, PENDING.where(Item.tenant == "c"))

class Broken(Reconciler, every=0.5):
    pending = derive(Lost, select(missing.c.id))
"""


@sizes(fast=30, full=1_000, databases=("sqlite", "postgres", "mariadb"))
def test_scenario_50_a_broken_reconciler_does_not_hold_up_the_good_ones(
    world: World, size: Size, raw: Any
) -> None:
    world.define(BESIDE)
    for at, tenant in enumerate("abc"):
        world.fill(range(1 + at * size.rows, 1 + (at + 1) * size.rows), tenant=tenant)

    world.begin()

    world.await_done(60)
    eventually(lambda: idle(raw), 20)
    world.check_exactly_once(range(1, 3 * size.rows + 1))
    eventually(lambda: len(world.ledger("Broken")) >= 2, 20)
    for name in ("Items", "Others", "More"):
        world.await_passes(2, name)
    assert {row.outcome for row in world.ledger("Broken") if row.outcome} == {"failed"}
    assert "nowhere" in world.ledger("Broken")[0].reason
    assert world.reconcilers[0].poll() is None


@pytest.mark.slow
def test_scenario_56_a_worker_does_not_start_on_a_redis_that_may_evict(
    tmp_path: Path, sqlite_url: str
) -> None:
    with Embedded(config={"maxmemory-policy": "allkeys-lru"}) as server:
        world = World(tmp_path, server.url, sqlite_url)
        try:
            world.plain()
            worker = world.spawn("-q", "work")
            assert worker.wait(30) == 1
            assert "maxmemory-policy is allkeys-lru" in world.log()
            assert "maxmemory-policy noeviction" in world.log()

            world.environment["QIK_ALLOW_EVICTION"] = "true"
            world.start_work("-q", "work")
            assert "allkeys-lru" in world.log(1)
        finally:
            world.close()
