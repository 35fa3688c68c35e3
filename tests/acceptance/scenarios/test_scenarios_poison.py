"""Scenarios 22, 24 and 26: rows whose jobs always fail, or end well and change nothing."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sqlalchemy import select

from reconciler.tables import row_state
from tests.acceptance.scenarios.world import Size, World, sizes
from tests.waiting import busy, eventually

POISON = """
from qik_core.outcomes import RetryIn
from reconciler import Quarantine

class Work(Job, queue="work", unique_for=600, retry={retry}):
    def perform(self, item_id: int) -> None:
        if item_id <= {bad}:
            tried(self, item_id)
            raise ValueError("as always")
        effect(self, item_id)

    @classmethod
    def retry_in(cls, count, error, job):
        return RetryIn(0.1)

class Items(Reconciler, every={every}, quarantine=Quarantine(after={after}, backoff={backoff})):
    pending = derive(Work, PENDING, version=Item.version)
"""
RETRIES = 1


@sizes(fast=100, full=1_000)
def test_scenario_22_rows_that_always_fail_do_not_keep_the_others_from_being_done(
    world: World, size: Size, raw: Any
) -> None:
    """Waiting after a death takes 0.2 to 0.5 s instead of minutes to a day."""
    bad, after = size.rows // 5, 5 if size.full else 2
    world.define(POISON, retry=RETRIES, bad=bad, every=0.5, after=after, backoff=(0.2, 0.5))
    world.fill(range(1, bad + size.rows + 1))
    world.begin()

    eventually(lambda: world.pending() == bad, 30, "the good rows are done", every=0.05)
    eventually(lambda: world.held() == {"quarantined died": bad}, 120, every=0.1)

    counts = Counter(run.item_id for run in world.runs())
    assert all(counts[row] == 1 for row in range(bad + 1, bad + size.rows + 1))
    assert {counts[row] for row in range(1, bad + 1)} <= set(range(1, (RETRIES + 1) * after + 1))
    world.await_passes(1)
    before = world.codes()
    world.await_passes(3)
    later = world.codes() - before
    assert later.keys() == {"quarantined"}
    assert Counter(run.item_id for run in world.runs()) == counts


@sizes(fast=3, full=30, on="postgres", databases=("sqlite", "postgres", "mariadb"))
def test_scenario_24_a_quarantined_row_has_one_new_chance_by_version_release_or_operator(
    world: World, size: Size, raw: Any
) -> None:
    every = 0.5
    world.define(POISON, retry=0, bad=size.rows, every=every, after=1, backoff=(600, 600))
    rows = list(range(1, size.rows + 1))
    world.fill(rows)
    world.environment["QIK_RELEASE"] = "r1"
    world.begin()
    runs = Counter(rows)
    _await_held(world, runs, 20)

    world.change(rows[0], version=2)
    runs[rows[0]] += 1
    _await_held(world, runs, (every + 2) * busy())

    world.command("quarantine", "release", "Items", str(rows[1]), "--yes", "--app", "shop")
    runs[rows[1]] += 1
    _await_held(world, runs, (every + 2) * busy())

    first = world.reconcilers[0]
    first.terminate()
    first.wait(10)
    world.reconcile(QIK_RELEASE="r2")
    runs.update(rows)
    _await_held(world, runs, (every + 2 + 5) * busy())
    world.await_passes(4)
    _await_held(world, runs, 1)


def _await_held(world: World, runs: Counter[int], seconds: float) -> None:
    """Wait until each row has had so many runs and every row is quarantined again."""
    eventually(lambda: len(world.runs()) >= runs.total(), seconds, every=0.05)
    eventually(lambda: world.held() == {"quarantined died": len(runs)}, seconds, every=0.05)
    assert Counter(run.item_id for run in world.runs()) == runs


STANDING = """
from reconciler import Quarantine

class Work(Job, queue="work", unique_for=600):
    def perform(self, item_id: int) -> None:
        tried(self, item_id)

class Items(Reconciler, every=0.3, quarantine=Quarantine(no_progress=3, backoff=(0.3, 0.6))):
    pending = derive(Work, PENDING)
"""


@sizes(fast=5, full=50)
def test_scenario_26_a_job_that_ends_well_and_changes_nothing_runs_three_times(
    world: World, size: Size, raw: Any
) -> None:
    """Passes come each 0.3 s, and a row waits 0.3 to 0.6 s instead of 5 minutes and more."""
    world.define(STANDING)
    world.fill(range(1, size.rows + 1))
    world.begin()

    eventually(lambda: world.held() == {"quarantined no_progress": size.rows}, 30, every=0.05)

    world.await_passes(10)
    assert Counter(run.item_id for run in world.runs()) == Counter(
        dict.fromkeys(range(1, size.rows + 1), 3)
    )
    with world.engine.connect() as connection:
        times = connection.execute(
            select(row_state.c.no_progress).where(row_state.c.job_class == "Work")
        )
        assert {row[0] for row in times} == {3}
    last = json.loads(world.ledger()[-2].codes)
    assert last == {"quarantined": size.rows}
