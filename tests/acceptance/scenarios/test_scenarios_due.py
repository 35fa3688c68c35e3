"""Scenarios 10, 21 and 29: queues deleted by hand, jobs that become due, and jitter."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from typing import Any

import pytest

from tests.acceptance.scenarios.world import PLAIN, Size, Work, World, idle, sizes
from tests.waiting import eventually


@sizes(fast=300, full=1_000, times=20, databases=("sqlite", "postgres", "mariadb"))
def test_scenario_10_a_queue_deleted_under_its_locks_is_told_again(
    world: World, size: Size, raw: Any
) -> None:
    every = 2.0 if size.full else 0.5
    world.plain(every=every)
    world.fill(range(1, size.rows + 1))
    world.reconcile()
    eventually(world.completed, 30)
    moment = time.monotonic() + random.uniform(0, every)
    eventually(lambda: time.monotonic() > moment)
    before = len(world.ledger())

    raw.delete("queue:work")

    eventually(lambda: raw.llen("queue:work") == size.rows, 2 * every + 5)
    eventually(lambda: _alarms(world, before), 5.0)
    assert world.drift() == {"untold": size.rows, "lock_without_job": size.rows}
    world.start_work()
    world.await_done(60)
    eventually(lambda: idle(raw), 20)
    world.check_exactly_once(range(1, size.rows + 1))
    assert int(raw.hget("qik:counts", "lock_without_job")) == size.rows


def _alarms(world: World, before: int) -> bool:
    """Whether one of the first two passes that saw the deletion, or the one it hit, said so."""
    return any("deleted by hand" in (row.reason or "") for row in world.ledger()[before - 1 :][:3])


FLAKY = """
from qik_core.outcomes import RetryIn

class Work(Job, queue="work", unique_for=600, retry=5):
    def perform(self, item_id: int) -> None:
        if item_id % 2 and self.context.attempt < 3:
            raise ValueError("not yet")
        effect(self, item_id)

    @classmethod
    def retry_in(cls, count, error, job):
        return RetryIn(0.3)

class Items(Reconciler, every=0.3):
    pending = derive(Work, PENDING)
"""


@pytest.mark.usefixtures("edges")
@sizes(fast=60, full=1_000, on="postgres", databases=("sqlite", "postgres", "mariadb"))
def test_scenario_21_jobs_that_become_due_are_never_their_own_duplicates(
    world: World, size: Size, raw: Any
) -> None:
    """Half of the rows fail twice first. Passes go on all the while and find every row told; one whose job ends between
    a pass's look at SQL and its look at Redis has another, which is skipped as stale."""
    world.define(FLAKY)
    rows = range(1, size.rows + 1)
    world.fill(rows)
    for each in rows:
        assert Work.perform_in(random.uniform(0.1, 2.0), each)
    world.begin()

    world.await_done(60)
    eventually(lambda: idle(raw), 20)
    world.check_exactly_once(rows)
    assert world.pushed() <= int(raw.hget("qik:counts", "stale") or 0)
    assert set(world.codes()) <= {
        "told",
        "gone",
        "duplicate_scheduled",
        "duplicate_retrying",
        "enqueued",
    }


SPREAD = PLAIN.replace("every={every}", "every={every}, jitter={jitter}")
SECONDS = 60


@sizes(fast=3_000, full=10_000)
def test_scenario_29_jitter_spreads_the_starts_evenly_and_a_second_pass_moves_none(
    world: World, size: Size, raw: Any
) -> None:
    """The small run looks at the moments for which jobs are set, the full one at those at which they start."""
    world.define(SPREAD, seconds=0.0, every=3_600.0, jitter=float(SECONDS))
    world.fill(range(1, size.rows + 1))
    if size.full:
        world.start_work()
    world.reconcile()
    eventually(world.completed, 30)
    due = _due(raw)
    told = next(row for row in world.ledger() if row.outcome == "completed")

    second = world.command("pass", "Items", "--app", "shop", "--json")

    assert set(json.loads(second.stdout)["codes"]) <= {"told", "gone", "enqueued"}
    assert all(at == due[payload] for payload, at in _due(raw).items() if payload in due)
    if not size.full:
        assert json.loads(second.stdout)["codes"] == {"told": size.rows}
        _check_even(list(due.values()), size.rows)
        return
    world.await_done(SECONDS + 40)
    world.check_exactly_once(range(1, size.rows + 1))
    taken = math.ceil(told.ended_at - told.started_at)
    _check_even([run.started for run in world.runs()], size.rows, edge=taken)


def _due(raw: Any) -> dict[bytes, float]:
    found: dict[bytes, float] = dict(raw.zrange("qik:later:work", 0, -1, withscores=True))
    return found


def _check_even(moments: list[float], rows: int, edge: int = 0) -> None:
    """Hold that 60 bins of a second have about the same number each; the smaller the sample, the wider the band.

    Of 10,000 rows 167 fall in each bin: 0.7 to 1.3 times that is the criterion. A bin's count spreads by its root. The seconds
    that the pass took are an `edge` of fewer starts on both sides: each page has a minute from when it is told.
    """
    mean = rows / SECONDS
    band = max(0.3, 4.5 * mean**-0.5)
    first = min(moments)
    bins = Counter(int((at - first) * SECONDS / (SECONDS + 0.001)) for at in moments)
    counts = [bins[number] for number in range(edge, SECONDS - edge)]
    assert max(counts) <= (1 + band) * mean, counts
    assert min(counts) >= (1 - band) * mean, counts
