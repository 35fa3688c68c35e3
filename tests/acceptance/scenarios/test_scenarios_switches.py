"""Scenarios 31, 32, 33, 35 and 36: a class is switched off under load, let run again by percent, flipped, and audited.

The same with the age of the oldest row is in `tests/integration/test_switched_off.py`, by a real Unleash in `tests/unleash`.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from qik_core.board import EVERY
from qik_core.results import Refused
from reconciler import audit
from tests.acceptance.scenarios.world import Size, Work, World, idle, sizes
from tests.waiting import busy, eventually

OFF = ("disable", "Work", "--app", "shop", "--reason", "double charging")
ON = ("enable", "Work", "--app", "shop", "--reason", "mended")
SEEN = ("--wait", "60")
EDGES = 100
JOB_BYTES = 250


def say(world: World, *words: str) -> dict[str, Any]:
    """Type a command; returns what it printed as JSON."""
    answer: dict[str, Any] = json.loads(world.command(*words, "--json").stdout)
    return answer


def published(said: dict[str, Any]) -> float:
    """When a switch was published, in this machine's monotonic seconds."""
    return float(said["version"]) / 1000 - time.time() + time.monotonic()


def ran(world: World) -> set[int]:
    return {run.item_id for run in world.runs()}


def settled(world: World, raw: redis.Redis) -> set[int]:
    """Wait for two whole passes more, and for an empty Redis; return which rows have run."""
    before = newest(world)
    eventually(lambda: newest(world) > before + 2 and idle(raw), 60)
    return ran(world)


def newest(world: World) -> int:
    return max((row.id for row in world.ledger()), default=0)


@pytest.mark.usefixtures("edges")
@sizes(fast=400, full=5_000)
def test_scenario_31_a_class_that_is_switched_off_under_load_stops_within_a_second(
    world: World, size: Size, raw: redis.Redis
) -> None:
    world.plain(seconds=0.3, every=0.5)
    world.fill(range(1, size.rows + 1))
    world.begin()
    eventually(lambda: len(world.runs()) > 5, 30)

    off = say(world, *OFF, *SEEN)
    eventually(lambda: idle(raw), 60)
    before = _dataset(raw)
    for number in range(EDGES):
        due = time.monotonic() + 0.02
        assert Work.perform_async(number) == Refused("switch disable_work", "double charging")
        eventually(lambda due=due: time.monotonic() >= due)  # type: ignore[misc] # fifty a second

    assert max(run.started for run in world.runs()) < published(off) + (EVERY + 1) * busy()
    assert _dataset(raw) < before + EDGES * JOB_BYTES
    assert settled(world, raw) == ran(world)
    *_, last = (row for row in world.ledger() if row.outcome is not None)
    assert (last.outcome, json.loads(last.codes)) == ("gated", {"refused": world.pending()})


def _dataset(raw: redis.Redis) -> int:
    info: Any = raw.info("memory")
    return int(info["used_memory_dataset"])


@sizes(fast=600, full=5_000)
def test_scenario_32_a_class_is_let_run_again_by_percent_always_with_the_same_keys(
    world: World, size: Size, raw: redis.Redis
) -> None:
    world.plain(every=0.5)
    world.begin()
    say(world, *OFF, *SEEN)
    world.fill(range(1, size.rows + 1))
    assert settled(world, raw) == set()

    say(world, *OFF, "--percent", "90", *SEEN)
    tenth = settled(world, raw)
    say(world, *OFF, *SEEN)
    say(world, *OFF, "--percent", "90", *SEEN)
    assert settled(world, raw) == tenth
    say(world, *OFF, "--percent", "50", *SEEN)
    half = settled(world, raw)
    say(world, *ON, *SEEN)
    world.await_done(60)

    off_by = 0.02 if size.full else 0.06  # few rows allow for chance
    assert abs(len(tenth) / size.rows - 0.1) < off_by
    assert abs(len(half) / size.rows - 0.5) < off_by
    assert tenth < half
    eventually(lambda: idle(raw), 20)
    world.check_exactly_once(range(1, size.rows + 1))


@sizes(fast=100, full=1_000)
def test_scenario_33_a_switch_that_flips_many_times_ends_as_it_was_said_last(
    world: World, size: Size, raw: redis.Redis
) -> None:
    world.plain(seconds=0.1, every=0.5)
    world.fill(range(1, size.rows + 1))
    world.begin()
    began = time.monotonic()
    for number in range(20 if size.full else 6):
        eventually(lambda due=began + number / 2: time.monotonic() >= due)  # type: ignore[misc]
        say(world, *(ON if number % 2 else OFF), "--wait", "0")

    world.await_done(120)
    eventually(lambda: idle(raw), 20)
    world.check_exactly_once(range(1, size.rows + 1))
    assert say(world, "switches")["switches"] == []

    say(world, *OFF, *SEEN)
    world.fill([size.rows + 1])
    assert settled(world, raw) == set(range(1, size.rows + 1))
    logs = world.log(0) + (world.folder / "reconciler0").read_text()
    assert "Traceback" not in logs
    assert [each.poll() for each in (*world.workers, *world.reconcilers)] == [None, None]


@sizes(fast=400, full=2_000)
def test_scenario_35_every_child_sees_a_switch_that_was_said_after_its_fork(
    world: World, size: Size
) -> None:
    world.plain(seconds=0.3, every=0.5)
    world.fill(range(1, size.rows + 1))
    world.begin()
    eventually(lambda: len({run.pid for run in world.runs()}) == 2, 30)

    off = say(world, *OFF, *SEEN)

    assert (off["processes"], off["seen"]) == (2, 2)
    assert off["seconds"] < (EVERY + 1) * busy()
    say(world, *ON, *SEEN)
    on = time.monotonic()
    eventually(lambda: len({run.pid for run in world.runs() if run.started > on}) == 2, 30)


def acts(world: World) -> list[audit.Entry]:
    return audit.read(world.engine, 0.0, subject="disable_work")


@sizes(fast=50, full=1_000)
def test_scenario_36_the_audit_says_who_and_why_until_when_and_how_many_were_dropped(
    world: World, size: Size, raw: redis.Redis
) -> None:
    world.plain(every=0.5)
    world.fill(range(1, size.rows + 1))
    world.reconcile()
    eventually(lambda: raw.llen("queue:work") == size.rows, 30)

    say(world, *OFF, "--expires", "10s", "--wait", "0")
    # A pass that began before it may find rows whose jobs are dropped, and its pushes are refused: those count too.
    eventually(lambda: "gated" in [row.outcome for row in world.ledger()], 5)
    world.start_work()
    eventually(lambda: raw.llen("queue:work") == 0, 8)
    assert world.runs() == []
    world.await_done(60)

    eventually(lambda: len(acts(world)) == 2)
    first, last = acts(world)
    assert (first.action, last.action) == ("disabled", "expired")
    assert "@" in first.who
    assert (first.reason, last.who) == ("double charging", first.who)
    expires_at = first.details["rules"][0]["expires_at"]
    assert expires_at == pytest.approx(first.at + 10, abs=1)
    assert expires_at <= last.at < expires_at + 2 * EVERY * busy()
    assert last.details["dropped"] == size.rows
    world.check_exactly_once(range(1, size.rows + 1))
