"""What the machine has found, each as the shortest way to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qik_core.store import Origin, keys, recovery
from tests.machine.process import Process, our_time
from tests.machine.wire import Wire
from tests.machine.world import EXCLUSIVE, World


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    with our_time():
        made = World(redis_url)
        yield made
        made.stop()


def _runs(world: World, process: Process, number: int) -> None:
    world.push([number])
    process.look()
    world.start(process)


def test_a_process_that_was_fenced_does_not_come_back_when_somebody_deletes_its_fence(
    world: World,
) -> None:
    lost, _ = world.processes
    _runs(world, lost, 0)
    world.freeze(lost)
    before = lost.identity
    recovery.fence(Wire(world.server, "observer"), before, recovery.SURE)
    world.thaw(lost)
    lost.look()

    assert lost.identity != before
    assert [copy.place for copy in world.server.state.copies] == [f"qik:recovering:{before}"]
    world.heal()


def test_a_roll_keeps_the_lock_of_a_job_whose_queue_nobody_names_any_more(world: World) -> None:
    for number in range(EXCLUSIVE):
        world.push([number], queue="low", delay=[0.0, 0.0, 60.0][number], origin=Origin.PASS)
    world.delete(keys.QUEUES)
    world.roll()
    world.heal()


def test_a_job_that_runs_keeps_its_lock_when_its_working_hash_goes_during_a_roll(
    world: World,
) -> None:
    working, other = world.processes
    _runs(world, working, 0)
    world.delete(keys.working(working.identity))
    world.roll()
    for _ in range(20):
        world.rollers[0].step()
        other.beat_whole()
        working.beat_whole()
    world.push([0], origin=Origin.PASS)
    other.look()

    assert not other.hands.pocket
    world.heal()


def test_the_lock_of_a_job_that_somebody_deleted_goes_with_the_roll_that_counts_prove(
    world: World,
) -> None:
    world.push([0])
    world.delete(keys.queue("default"))
    assert world.audit() == 1
    world.heal()
