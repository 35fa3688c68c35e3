"""Scenarios 28, 46 and 48: a slow queue, a replica that is behind, and tenants of unequal size."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import insert, select

from qik_core.results import Enqueued
from reconciler.engines import Engines
from tests.acceptance.scenarios.stage import Base, Item
from tests.acceptance.scenarios.world import Size, Work, World, idle, sizes
from tests.waiting import eventually

PRESSED = """
from reconciler import Backpressure

class Work(Job, queue="work", unique_for=600):
    def perform(self, item_id: int) -> None:
        wait(0.005)
        effect(self, item_id)

class Items(Reconciler, every=0.5, batch_size={batch}, backpressure=Backpressure(high={high}, low={low})):
    pending = derive(Work, PENDING, order_by=Item.urgency.desc())
"""
THREADS = 10
AHEAD = 50
"""Jobs that one of the two processes has fetched ahead: 50 ms of work for five threads. All others may go before these."""
CHUNK = 500


@pytest.mark.usefixtures("edges")
@sizes(fast=300, full=20_000, timeout=600)
def test_scenario_28_passes_wait_above_the_water_mark_and_edges_do_not(
    world: World, size: Size, raw: Any
) -> None:
    high, low = (500, 100) if size.full else (100, 20)
    world.define(PRESSED, high=high, low=low, batch=1_000 if size.full else 50)
    urgencies = random.sample(range(10 * size.rows), size.rows)
    with world.engine.begin() as connection:
        rows = [{"id": at, "urgency": each} for at, each in enumerate(urgencies, 1)]
        connection.execute(insert(Item), rows)
    world.reconcile()
    eventually(lambda: raw.llen("queue:work") == high, 20)
    assert isinstance(Work.perform_async(size.rows + 1), Enqueued)
    world.fill([size.rows + 1], urgency=-1)
    world.start_work()
    depths: list[int] = []

    def done() -> bool:
        depths.append(raw.llen("queue:work") + raw.zcard("qik:later:work"))
        return world.pending() == 0

    eventually(done, 400, "every row is done", every=0.1)
    eventually(lambda: idle(raw), 20)
    world.check_exactly_once(range(1, size.rows + 2))
    assert max(depths) + THREADS <= high + CHUNK
    assert "gated" in {row.outcome for row in world.ledger()}
    urgent = sorted(range(1, size.rows + 1), key=lambda each: -urgencies[each - 1])
    first = {run.item_id for run in world.runs()[:high]} - {size.rows + 1}
    assert first <= set(urgent[: high + THREADS + AHEAD])


FRESH = """
from reconciler import Freshness

class Work(Job, queue="work", unique_for=600):
    def perform(self, item_id: int) -> None:
        effect(self, item_id)

class Items(Reconciler, every=0.3, freshness=Freshness(replica="replica", max_lag={cap}, lag=lambda: 10.0)):
    pending = derive(Work, PENDING)
"""


@sizes(fast=None, full=500)
def test_scenario_46_a_replica_that_is_behind_is_not_read_and_harmless_if_it_is(
    world: World, size: Size, raw: Any, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    """The replica stands still and says that it is 10 s behind: every row is pending there for ever."""
    url = f"sqlite:///{tmp_path / 'replica.db'}"
    replica = Engines({"default": url}).home()
    Base.metadata.create_all(replica)
    rows = range(1, size.rows + 1)
    with replica.begin() as connection:
        connection.execute(insert(Item), [{"id": each, "state": "pending"} for each in rows])
    replica.dispose()
    world.environment["DATABASE_URL_REPLICA"] = url
    world.fill(rows)
    world.define(FRESH, cap=5)
    world.begin()
    world.await_done(30)
    eventually(lambda: idle(raw), 20)
    world.await_passes(3)
    assert world.ledger()[-2].scanned == 0  # the primary was read

    world.reconcilers[0].terminate()
    world.reconcilers[0].wait(10)
    world.define(FRESH, cap=60)
    world.reconcile()
    world.await_passes(3)

    assert world.ledger()[-2].scanned == size.rows  # the replica was read
    eventually(lambda: int(raw.hget("qik:counts", "stale") or 0) >= size.rows, 20)
    world.check_exactly_once(rows)


TENANTS = """
from reconciler import Fair

class Work(Job, queue="work", unique_for=600):
    def perform(self, item_id: int) -> None:
        effect(self, item_id)

class Items(Reconciler, every=2, fair=Fair(per_tenant={share})):
    pending = derive(Work, PENDING, tenant=Item.tenant)
"""
SMALL = "bcdefghijk"


@sizes(fast=1_000, full=50_000, on="postgres", timeout=600)
def test_scenario_48_small_tenants_do_not_wait_behind_a_large_one(
    world: World, size: Size, raw: Any
) -> None:
    each, bound = (10, 1_000) if size.full else (5, 150)
    world.define(TENANTS, share=1_000)
    world.fill(range(1, size.rows + 1), tenant="a")
    for at, tenant in enumerate(SMALL):
        world.fill(range(size.rows + 1 + at * each, size.rows + 1 + (at + 1) * each), tenant=tenant)

    world.begin()

    few = select(Item.id).where(Item.tenant != "a", Item.state == "pending")

    def small_done() -> bool:
        with world.engine.connect() as connection:
            return connection.execute(few).first() is None

    eventually(small_done, 60)
    runs = world.runs()
    last = max(at for at, run in enumerate(runs) if run.item_id > size.rows)
    assert sum(run.item_id <= size.rows for run in runs[:last]) < bound
