"""A flush beside a roll: no job that stays loses its lock, in whichever order the two take their steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from qik_core.store import rolls
from qik_core.store.flush import FlushStore, Home, Place
from qik_core.store.link import Link
from qik_core.store.rolls import Roll
from tests.qik_core.store.rig import Rig
from tests.qik_core.store.test_flush import aside, sort, state
from tests.qik_core.store.test_flush_held import HELD, claim, held


@pytest.fixture
def flush(rig: Rig) -> FlushStore:
    made = FlushStore(rig.store, "alice")
    assert made.turn() == ""
    return made


def rolled(
    rig: Rig, meets: Callable[[str, Any], bool], *, before: Any = None, behind: Any = None
) -> int:
    """Roll from begin to end, with steps of a flush before and behind the first call that meets a condition."""
    met: list[str] = []

    class Between(Link):
        def run(self, name: str, *rest: Any) -> Any:
            now = not met and meets(name, rest[0])
            met.extend([name] if now else [])
            if now and before:
                before()
            answer = super().run(name, *rest)
            if now and behind:
                behind()
            return answer

    roll = Roll(Between(rig.url), rig.store.candidate, "me")
    assert roll.begin()
    assert roll.walk()
    left = roll.end()
    assert met
    return left


def at_queue(name: str, keys: Any) -> bool:
    return name == "roll_walk" and keys == (b"queue:default",)


def test_a_list_that_goes_aside_just_before_the_walk_comes_to_it_keeps_its_locks(
    rig: Rig, flush: FlushStore
) -> None:
    rig.push(1, 2, 3)

    assert rolled(rig, at_queue, before=lambda: aside(flush)) == 0

    assert [state(rig, key) for key in (1, 2, 3)] == ["q", "q", "q"]


def test_a_list_that_comes_back_behind_a_walk_that_has_passed_its_queue_keeps_its_locks(
    rig: Rig, flush: FlushStore
) -> None:
    rig.push(1, 2, 3)
    records = [rig.lock(key) for key in (1, 3)]
    where: list[Home] = []

    left = rolled(
        rig,
        at_queue,
        before=lambda: where.append(aside(flush)),
        behind=lambda: sort(flush, where[0], "bxb"),
    )

    assert left == 0
    assert [rig.lock(key) for key in (1, 3)] == records
    assert rig.lock(2) is None


@pytest.mark.parametrize("place", ["held", "schedule"])
def test_what_stays_where_jobs_are_removed_under_a_walk_keeps_its_lock(
    rig: Rig, flush: FlushStore, place: str
) -> None:
    if place == "held":
        held(rig, 600)
        home = HELD
    else:
        home = Home(Place.SCHEDULED, b"schedule")
        due = time.time() + 60.0
        rig.push(*range(1, 301), due=[due] * 300)
        rig.push(*range(301, 601), due=[due] * 300)

    def remove() -> None:
        first, *_ = list(flush.windows(home))
        some = [claim(each.raw) for each in first.entries[:100]]
        assert flush.drop(home, some, first.at) == [True] * 100
        assert flush.drop(home, some, first.at) == [False] * 100

    met = lambda name, keys: name == "roll_walk" and keys == (home.key,)  # noqa: E731 - two words
    assert rolled(rig, met, behind=remove) == 0

    assert rig.locks() == 500


def test_a_new_loss_id_asks_for_a_roll_and_that_gives_every_job_its_lock_again(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1)
    rig.push(2, delays=[60])
    flush.renew(rig.store.look().loss)
    rig.push(11, keys=[3])
    assert [rig.lock(key) for key in (1, 2)] == [None, None]

    assert raw.get("qik:roll") == b"1"
    assert 0 < raw.ttl("qik:roll") <= 300
    worker = rig.worker()
    beat = worker.store.beat(rig.link, ["info", "{}", "busy", 0])
    assert beat.roll
    worker.beat()
    rolling = rolls.Roll(rig.link, rig.store.candidate, "me")
    assert rolling.begin()
    assert rolling.walk()

    assert [state(rig, key) for key in (1, 2, 3)] == ["q", "q", "q"]
    assert raw.get("qik:roll") == b"1"
