"""Scenarios 14, 15, 16 and 45: what happens to a row while its job runs, or before its commit is seen."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import insert

from tests.acceptance.scenarios.stage import Item
from tests.acceptance.scenarios.world import PLAIN, Size, Work, World, idle, sizes
from tests.waiting import eventually

VERSIONED = PLAIN.replace("PENDING)", "PENDING, version=Item.version)")


def _run_and_change(world: World, size: Size, edges: int) -> list[int]:
    """Start a job for each row and change the rows at moments of the runs, each with so many edges."""
    world.define(VERSIONED, seconds=3.0 if size.full else 1.5, every=0.5)
    rows = list(range(1, size.rows + 1))
    world.fill(rows)
    world.begin()
    eventually(lambda: len(world.runs()) >= size.rows, 20)
    for each in rows:
        moment = time.monotonic() + random.uniform(0, 0.8 / size.rows)
        eventually(lambda moment=moment: time.monotonic() > moment)  # type: ignore[misc]
        # As an application changes a row: also where a slow machine let its job end first, it wants one again.
        world.change(each, version=2, state="pending")
        for _ in range(edges):
            assert Work.perform_async(each)
    return rows


def _check_two_runs(world: World, rows: list[int], raw: Any) -> None:
    world.await_done(30)
    eventually(lambda: idle(raw), 20)
    assert Counter(run.item_id for run in world.runs()) == Counter(rows * 2)
    world.check_no_overlap()
    for each in rows:
        assert [run.version for run in world.runs() if run.item_id == each] == [1, 2]


@pytest.mark.usefixtures("edges")
@sizes(fast=3, full=10, times=20)
def test_scenario_14_a_row_that_changes_while_its_job_runs_is_run_once_more(
    world: World, size: Size, raw: Any
) -> None:
    rows = _run_and_change(world, size, 1)
    _check_two_runs(world, rows, raw)


@pytest.mark.usefixtures("edges")
@sizes(fast=None, full=10)
def test_scenario_15_a_hundred_edges_during_a_run_are_one_more_run(
    world: World, size: Size, raw: Any
) -> None:
    rows = _run_and_change(world, size, 100)
    _check_two_runs(world, rows, raw)


@sizes(fast=5, full=10)
def test_scenario_16_passes_during_a_long_job_do_not_run_it_again(
    world: World, size: Size, raw: Any
) -> None:
    """A small run has a pass each 0.2 s instead of 2 s."""
    world.plain(seconds=23.0 if size.full else 3.0, every=2.0 if size.full else 0.2)
    world.fill(range(1, size.rows + 1))
    world.begin()
    eventually(lambda: len(world.runs()) == size.rows, 20)

    world.await_passes(10)

    assert all(run.ended is None for run in world.runs())
    (world.folder / "go").touch()
    world.await_done(30)
    eventually(lambda: idle(raw), 20)
    world.check_exactly_once(range(1, size.rows + 1))


@pytest.mark.usefixtures("edges")
@sizes(fast=10, full=200)
def test_scenario_45_a_job_pushed_before_its_row_is_committed_runs_once(
    world: World, size: Size, raw: Any
) -> None:
    world.plain(every=0.5)
    world.begin()
    rows = range(1, size.rows + 1)

    with world.engine.connect() as request:
        transaction = request.begin() if not world.on_sqlite else None
        for each in rows:
            assert Work.perform_async(each)
        moment = time.monotonic() + 0.5
        if transaction is not None:
            request.execute(insert(Item), [{"id": each} for each in rows])
        eventually(lambda: time.monotonic() > moment)
        if transaction is not None:
            transaction.commit()
    if world.on_sqlite:  # its one writer would keep the other processes from writing
        world.fill(rows)

    world.await_done(30)
    eventually(lambda: idle(raw), 20)
    world.check_exactly_once(rows)
    assert raw.zcard("dead") == 0
