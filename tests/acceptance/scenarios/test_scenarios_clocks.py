"""Scenario 9: hosts whose clocks are an hour ahead or behind do nothing early and nothing late."""

from __future__ import annotations

from time import monotonic

from sqlalchemy import insert

from reconciler.sql import read_clock
from tests.acceptance.scenarios.stage import Item
from tests.acceptance.scenarios.world import Size, World, sizes
from tests.waiting import busy, eventually

HOUR = 3_600
EVERY = 0.5

DUE = """
class Work(Job, queue="work", unique_for=600):
    def perform(self, item_id: int) -> None:
        effect(self, item_id)

class Items(Reconciler, every=0.5, jitter=0, queue="work"):
    pending = derive(Work, PENDING, run_at=Item.due_at, horizon=1.0)
"""

SHIFTED = '''
"""Loaded by Python itself at its start: moves what this process takes for the time of day."""

import datetime
import os
import time

AHEAD = float(os.environ.get("CLOCK_AHEAD", "0"))

if AHEAD:
    real_time, real_ns, Real = time.time, time.time_ns, datetime.datetime

    class Kind(type(Real)):
        def __instancecheck__(cls, value):
            return isinstance(value, Real)

        def __subclasscheck__(cls, other):
            return issubclass(other, Real)

    class Shifted(Real, metaclass=Kind):
        @classmethod
        def now(cls, tz=None):
            return Real.fromtimestamp(real_time() + AHEAD, tz)

        @classmethod
        def utcnow(cls):
            return Real.fromtimestamp(real_time() + AHEAD, datetime.UTC).replace(tzinfo=None)

        def __new__(cls, *given, **named):
            return Real(*given, **named)

    time.time = lambda: real_time() + AHEAD
    time.time_ns = lambda: real_ns() + int(AHEAD * 1e9)
    datetime.datetime = Shifted
'''


@sizes(fast=60, full=300, on="postgres", databases=("sqlite", "postgres", "mariadb"))
def test_scenario_09_hosts_whose_clocks_are_wrong_start_no_row_early_or_late(
    world: World, size: Size
) -> None:
    """One host of workers is an hour ahead and one behind, and so is each process of reconcilers: in Python's clocks,
    as the machine has one clock for all of its processes. Databases and Redis have the true time, by which rows are due."""
    (world.folder / "sitecustomize.py").write_text(SHIFTED)
    world.environment["PYTHONPATH"] += f":{world.folder}"
    world.define(DUE)
    for ahead in (HOUR, -HOUR):
        world.environment["CLOCK_AHEAD"] = str(ahead)
        world.spawn("-q", "work", "-c", "5")
        world.reconcile()
    world.await_ready()
    spread = 10.0 if size.full else 1.5
    origin, offset = read_clock(world.engine), monotonic()
    offset -= origin
    due = {each: origin + 1.0 + spread * each / size.rows for each in range(1, size.rows + 1)}

    with world.engine.begin() as connection:
        connection.execute(
            insert(Item), [{"id": each, "due_at": moment} for each, moment in due.items()]
        )

    eventually(lambda: world.pending() == 0, spread + 20, every=0.05)
    world.check_exactly_once(due)
    late = {run.item_id: run.started - offset - due[run.item_id] for run in world.runs()}
    assert min(late.values()) >= -1.0
    assert max(late.values()) <= (EVERY + 2.0) * busy()
