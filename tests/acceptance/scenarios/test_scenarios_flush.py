"""Scenarios 1, 2 and 4: rows that nobody told, and a Redis that is emptied at the worst moments."""

from __future__ import annotations

from typing import Any

from tests.acceptance.scenarios.world import EVERY, Size, World, idle, running, sizes
from tests.integration.shop import HEARTBEAT
from tests.waiting import eventually


@sizes(fast=500, full=10_000)
def test_scenario_01_rows_that_nobody_told_are_all_done_once(
    world: World, size: Size, raw: Any
) -> None:
    world.plain()
    world.fill(range(1, size.rows + 1))

    world.begin()

    world.await_done(60)
    eventually(lambda: idle(raw))
    world.check_exactly_once(range(1, size.rows + 1))
    assert world.drift().keys() == {"untold"}
    again = int(
        raw.hget("qik:counts", "stale") or 0
    )  # done between a pass's looks at SQL and Redis
    assert size.rows <= world.pushed() <= size.rows + again


@sizes(fast=500, full=10_000, times=20, on="postgres")
def test_scenario_02_a_backlog_that_is_flushed_is_told_again_and_done_once(
    world: World, size: Size, raw: Any
) -> None:
    world.plain()
    world.fill(range(1, size.rows + 1))
    world.reconcile()
    eventually(world.completed, 60)
    assert raw.llen("queue:work") == size.rows

    raw.flushall()

    eventually(lambda: raw.llen("queue:work"), EVERY + HEARTBEAT + 2, "the first row is told again")
    world.await_drift({"untold": size.rows, "flush": size.rows}, 30)
    world.start_work()
    world.await_done(60)
    eventually(lambda: idle(raw))
    world.check_exactly_once(range(1, size.rows + 1))


@sizes(fast=10, full=50, times=20)
def test_scenario_04_what_runs_at_a_flush_is_not_started_a_second_time(
    world: World, size: Size, raw: Any
) -> None:
    world.plain(seconds=10.0 if size.full else 2.5)
    world.fill(range(1, size.rows + 1))
    world.begin("-q", "work", "-p", "2", "-c", str(size.rows // 2))
    eventually(lambda: len(world.runs()) == size.rows, 20)

    raw.flushall()

    eventually(lambda: running(raw) == size.rows, 2.0, "every lock is asserted again", every=0.005)
    world.fill(range(1001, 1006))
    world.await_done(30)
    eventually(lambda: idle(raw))
    world.check_exactly_once([*range(1, size.rows + 1), *range(1001, 1006)])
    world.check_no_overlap()
