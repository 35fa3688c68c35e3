from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from qik_core.passes import Passes
from reconciler import lanes
from reconciler.engines import Engines
from reconciler.lanes import Lane, Lanes
from reconciler.lease import Leases
from reconciler.passes import Tools
from reconciler.report import Outcome, Report
from reconciler.runner import Runner
from tests.reconciler.running import Running
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.test_manager import PENDING
from tests.waiting import busy, eventually, never


class Comer:
    """A thread that enters a lane, and leaves it when it is told to."""

    def __init__(self, lane: Lane, order: list[int], number: int) -> None:
        self.may_leave = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(lane, order, number))
        self._thread.start()

    def _run(self, lane: Lane, order: list[int], number: int) -> None:
        lane.enter()
        order.append(number)
        self.may_leave.wait(10.0)
        lane.leave()

    def leave(self) -> None:
        self.may_leave.set()
        self._thread.join()


def test_who_comes_first_is_first() -> None:
    lane, order = Lane(1), list[int]()
    comers = []
    for number in range(4):
        comers.append(Comer(lane, order, number))
        eventually(lambda: len(order) + len(lane._waiting) == len(comers))
    assert order == [0]

    for each in comers:
        each.leave()

    assert order == [0, 1, 2, 3]
    assert not lane.wanted


def test_as_many_pass_at_a_time_as_there_are_lanes() -> None:
    lane, order = Lane(2), list[int]()
    comers = [Comer(lane, order, number) for number in range(3)]

    eventually(lambda: len(order) == 2 and lane.wanted)
    never(lambda: len(order) > 2, 0.1)
    for each in comers:
        each.may_leave.set()
    for each in comers:
        each.leave()


def test_each_database_has_lanes_of_its_own() -> None:
    one, two = create_engine("sqlite://"), create_engine("sqlite://")
    all_ = Lanes()

    assert all_.of(one) is all_.of(one)
    assert all_.of(one) is not all_.of(two)


# --- in a process of reconcilers ------------------------------------------------------------------


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


def test_a_loss_of_redis_does_not_open_a_connection_per_reconciler(
    home: Engine, engines: Engines, seam: Passes, raw: Any
) -> None:
    fill(home, range(1, 101))
    many = [items(PENDING.where(Item.id > 0), every=3600, name=f"R{n}") for n in range(60)]
    running = Running(many, engines, seam, 30.0)
    seen: list[int] = []

    def all_again() -> bool:
        with home.connect() as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            seen.append(connection.execute(text(query)).scalar_one())
        return _completed(running, before) == 60

    try:
        eventually(lambda: _completed(running) == 60, 30.0 * busy())
        before = len(running.reports)
        raw.flushall()
        eventually(all_again, 30.0 * busy())
    finally:
        running.stop()

    most = max(seen)
    assert 1 < most <= 26


def test_a_pass_that_waits_for_a_lane_is_the_one_that_is_asked_for_meanwhile(
    home: Engine, engines: Engines, seam: Passes
) -> None:
    leases, all_, reports = Leases(home, ["Items"], 30.0, holder="me"), Lanes(), list[Report]()
    leases.register()
    leases.renew()
    lane = all_.of(home)
    for _ in range(lanes.WIDTH):
        lane.enter()
    tools = Tools.of(seam, engines, "me")
    runner = Runner(items(PENDING), tools, leases, all_, told=reports.append)
    runner.start()
    try:
        runner.wake()
        eventually(lambda: lane.wanted)
        runner.wake()
        lane.leave()
        eventually(lambda: reports)
        never(lambda: len(reports) > 1, 0.5)
    finally:
        runner.stop()
        assert runner.join(10.0)


def test_a_long_pass_lets_others_go_first_between_its_pages(
    home: Engine, engines: Engines, seam: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes.Lane.__init__, "__defaults__", (1,))
    monkeypatch.setattr("reconciler.runner.SLICE", 0.1)
    fill(home, range(1, 201))
    slow = PENDING.where(text("(SELECT 1 FROM pg_sleep(0.1)) = 1"))
    running = Running(
        [
            items(slow, every=3600, name="Long", batch_size=2),
            items(PENDING, every=0.2, name="Quick", queue="quick"),
        ],
        engines,
        seam,
        30.0,
    )
    try:
        eventually(lambda: len(running.ended("Quick")) > 3, 10.0)
        assert running.ended("Long") == []
    finally:
        running.stop()

    assert running.well


def _completed(running: Running, since: int = 0) -> int:
    """How many reconcilers have completed a pass; some have a second one at once, which was asked for meanwhile."""
    reports = running.reports[since:]
    return len({each.reconciler for each in reports if each.outcome is Outcome.COMPLETED})
