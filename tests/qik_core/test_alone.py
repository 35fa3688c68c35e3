from __future__ import annotations

import time

import pytest

from qik_core.alone import Alone, Stage, Wish
from qik_core.store.keys import ALONE
from tests.qik_core.engine import Engine, Jobs, Start, drained, held
from tests.qik_core.store.rig import Rig, jid
from tests.waiting import eventually, never


class Clock:
    at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def alone(clock: Clock) -> Alone:
    return Alone(5.0, clock)


# --- turns ---------------------------------------------------------------------


def test_a_turn_is_kept_until_its_suspect_was_settled_and_wished_for_again_then(
    alone: Alone,
) -> None:
    assert alone.wish is Wish.READY
    alone.begin()
    alone.fetched(1)
    assert (alone.stage, alone.wish, alone.active) == (Stage.RUNNING, Wish.KEEP, True)
    alone.ended()
    assert (alone.wish, alone.active) == (Wish.READY, False)


def test_a_turn_that_found_no_suspect_is_over_and_not_wished_for_at_once(
    alone: Alone, clock: Clock
) -> None:
    alone.begin()
    alone.fetched(0)
    assert (alone.wish, alone.active) == (Wish.NO, False)
    clock.at += 5.0
    assert alone.wish is Wish.READY


def test_a_turn_that_cannot_begin_is_given_up_and_next_time_waited_for_twice_as_long(
    alone: Alone, clock: Clock
) -> None:
    waited = []
    for _ in range(3):
        alone.begin()
        began = clock.at
        while not alone.give_up():
            clock.at += 0.5
        waited.append(clock.at - began)
        assert alone.wish is Wish.NO
        while alone.wish is Wish.NO:
            clock.at += 0.5

    assert waited == [5.0, 10.0, 20.0]
    alone.begin()
    alone.fetched(1)
    alone.ended()
    alone.begin()
    clock.at += 5.0
    assert alone.give_up()


def test_a_turn_under_way_is_not_begun_again_and_not_given_up(alone: Alone, clock: Clock) -> None:
    alone.begin()
    alone.fetched(1)
    clock.at += 60
    alone.begin()

    assert alone.stage is Stage.RUNNING
    assert not alone.give_up()


# --- with a real server ----------------------------------------------------------


def suspect(rig: Rig, *numbers: int, queue: str = "default") -> None:
    """Make jobs suspects, as the recovery of a dead process does."""
    for number in numbers:
        raw = b'{"qik":"-","jid":"%b","queue":"%b","class":"X","args":[%d]}'
        rig.raw.lpush(f"qik:suspect:{queue}", raw % (jid(number), queue.encode(), number))
    rig.raw.sadd("qik:suspects", queue)


class Watched(Jobs):
    """Notes which other jobs ran when one began."""

    def __init__(self) -> None:
        super().__init__()
        self.beside: dict[int, set[int]] = {}

    def process(self, job, entered):  # type: ignore[no-untyped-def]
        def enter(context):  # type: ignore[no-untyped-def]
            number = context.payload.args[0]
            self.beside[number] = self._running - {number}
            entered(context)

        return super().process(job, enter)


@pytest.fixture
def jobs() -> Watched:
    return Watched()


def test_a_suspect_runs_while_nothing_else_does_and_then_everything_goes_on(
    rig: Rig, jobs: Watched, start: Start
) -> None:
    jobs.slow(1, 2, 7)
    courier = start(beats=True).courier
    courier.alone._patience = 60.0
    rig.edge(1, 2)
    eventually(lambda: jobs.runs[1] and jobs.runs[2])
    suspect(rig, 7)
    eventually(lambda: courier.alone.active)
    known = time.monotonic()  # what the courier has asked for before may still be fetched
    eventually(lambda: courier.turned_at > known)
    rig.edge(3)
    never(lambda: jobs.runs[7] or jobs.runs[3], 0.3)
    jobs.gates[1].set()
    never(lambda: jobs.runs[7], 0.2)
    jobs.gates[2].set()

    eventually(lambda: jobs.runs[7])
    never(lambda: jobs.runs[3], 0.3)
    assert held(rig) == 1
    jobs.gates[7].set()
    eventually(lambda: jobs.ends[3])
    assert jobs.beside[7] == set()
    eventually(lambda: drained(rig) and not rig.raw.exists(ALONE, "qik:suspects"))


def test_several_suspects_run_one_after_the_other(rig: Rig, jobs: Watched, start: Start) -> None:
    start(beats=True)
    suspect(rig, *range(5))

    eventually(lambda: sum(jobs.ends.values()) == 5)
    assert all(not beside for beside in jobs.beside.values())
    assert not rig.raw.exists("qik:suspects")


def test_one_process_at_a_time_has_the_right_to_run_suspects(
    rig: Rig, jobs: Watched, start: Start
) -> None:
    jobs.slow(1, 2)
    one, two = (start(beats=True) for _ in range(2))
    suspect(rig, 1, 2)

    eventually(lambda: sum(jobs.runs.values()) == 1)
    never(lambda: sum(jobs.runs.values()) > 1, 1.5)  # more than two beats
    assert rig.raw.get(ALONE).decode() in (one.identity, two.identity)
    jobs.open()
    eventually(lambda: sum(jobs.ends.values()) == 2)


def test_suspects_of_a_paused_queue_and_of_queues_not_served_here_wait(
    rig: Rig, jobs: Watched, start: Start
) -> None:
    rig.raw.sadd("paused", "default")
    start(beats=True)
    suspect(rig, 1)
    suspect(rig, 2, queue="elsewhere")
    never(lambda: rig.raw.exists(ALONE), 1.2)
    rig.raw.srem("paused", "default")

    eventually(lambda: jobs.ends[1])
    assert rig.raw.llen("qik:suspect:elsewhere") == 1


def test_a_quiet_process_takes_no_suspects_and_gives_the_right_back(
    rig: Rig, jobs: Watched, start: Start
) -> None:
    jobs.slow(1)
    engine = start(beats=True)
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    suspect(rig, 2)
    eventually(lambda: rig.raw.exists(ALONE))
    engine.courier.quiet()

    eventually(lambda: not rig.raw.exists(ALONE))
    jobs.open()
    never(lambda: jobs.runs[2], 0.8)
    assert rig.raw.llen("qik:suspect:default") == 1


def test_a_process_with_a_long_job_gives_up_its_turn_and_works_on(
    rig: Rig, jobs: Watched, start: Start
) -> None:
    jobs.slow(1)
    start(beats=True)
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    suspect(rig, 2)
    eventually(lambda: rig.raw.exists(ALONE))
    rig.edge(3)

    eventually(lambda: jobs.ends[3], 3.0)
    assert not jobs.runs[2]
    jobs.open()
    eventually(lambda: jobs.ends[2])


def test_a_suspect_of_a_capsule_runs_in_it_while_the_other_capsules_run_nothing(
    rig: Rig, jobs: Watched, start: Start
) -> None:
    jobs.slow(1)
    engine: Engine = start(beats=True, capsules={"slow": ["reports"]})
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    suspect(rig, 2, queue="reports")
    eventually(lambda: engine.courier.alone.active)
    never(lambda: jobs.runs[2], 0.2)
    jobs.open()

    eventually(lambda: jobs.ends[2])
    assert jobs.beside[2] == set()


def test_no_suspect_runs_beside_what_a_process_ran_before_it_was_fenced(
    rig: Rig, jobs: Watched, start: Start
) -> None:
    jobs.slow(1)
    engine = start(beats=True)
    engine.courier.alone._patience = 60.0
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    before = engine.identity
    rig.raw.hset(f"qik:working:{before}", "#", "fenced")
    eventually(lambda: engine.identity != before)
    suspect(rig, 2)
    eventually(lambda: engine.courier.alone.active)
    never(lambda: jobs.runs[2], 0.5)
    jobs.open()

    eventually(lambda: jobs.ends[2])
    assert jobs.beside[2] == set()
