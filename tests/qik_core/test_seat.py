from __future__ import annotations

import subprocess
import sys

import pytest

from qik_core.seat import LONGEST_PAUSE, YOUNG, Child, Recovery, Seat
from qik_core.shared import Shared, State
from tests.waiting import eventually


def test_pauses_grow_while_children_die_young_and_have_an_end() -> None:
    seat = Seat(0)
    pauses = [seat.vacate(100.0, 1.0, innocent=False) for _ in range(8)]
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE, LONGEST_PAUSE]
    assert seat.due == 100.0 + LONGEST_PAUSE


@pytest.mark.parametrize(("lived", "innocent"), [(YOUNG, False), (1.0, True)])
def test_a_long_life_and_an_innocent_end_forgive_the_young_deaths(
    lived: float,
    *,
    innocent: bool,
) -> None:
    seat = Seat(0)
    for _ in range(5):
        seat.vacate(0.0, 1.0, innocent=False)
    assert seat.vacate(7.0, lived, innocent=innocent) == 0.0
    assert seat.due == 7.0
    assert seat.vacate(9.0, 1.0, innocent=False) == 0.0


def ended(code: str) -> Child:
    """Return a child that ended by `code`, run in a real process."""
    process = subprocess.Popen([sys.executable, "-S", "-c", f"import os, time; {code}"])
    child = Child(process, Shared.create(1), 0.0)
    if "sleep" not in code:
        process.wait(20)
    return child


def test_exit_0_is_clean_only_of_a_child_that_was_stopping() -> None:
    child = ended("os._exit(0)")
    before = child.left_cleanly
    child.shared.state = State.STOPPING
    assert (before, child.left_cleanly) == (False, True)
    child.shared.close()


def test_what_still_runs_in_a_child_that_is_stopped_for_its_size_is_charged() -> None:
    child = ended("os._exit(0)")
    child.shared.state = State.STOPPING
    child.too_big = True
    idle = child.left_cleanly
    child.shared.start(0, b"1.1")
    assert (idle, child.left_cleanly) == (True, False)
    child.shared.close()


def test_a_failure_while_stopping_is_not_clean() -> None:
    child = ended("os._exit(3)")
    child.shared.state = State.STOPPING
    assert not child.left_cleanly
    child.shared.close()


def test_sigterm_ends_a_booting_child_cleanly_only_if_it_was_asked_to_stop() -> None:
    asked, unasked = ended("time.sleep(60)"), ended("time.sleep(60)")
    asked.stop(by=1.0)
    unasked.process.terminate()
    for child in (asked, unasked):
        child.process.wait(20)
    assert asked.left_cleanly
    assert not unasked.left_cleanly
    for child in (asked, unasked):
        child.shared.close()


def test_silence_counts_from_when_the_parent_saw_the_last_change() -> None:
    child = ended("os._exit(0)")
    child.shared.tick(5.0)
    assert child.silent_for(100.0) == 0.0
    assert child.silent_for(103.0) == 3.0
    child.shared.tick(6.0)  # old by the clock, but a sign of life
    assert child.silent_for(104.0) == 0.0
    child.shared.close()


def test_a_helper_beyond_its_deadline_is_ended_and_tried_again_later() -> None:
    recovery = Recovery([sys.executable, "-S", "-c", "import time; time.sleep(60)"], "host:1", 0.0)
    recovery.begin({}, 0.0)
    assert recovery.exit_code(9.0) is None
    eventually(lambda: recovery.exit_code(11.0))
    recovery.postpone(11.0, 5.0)
    assert recovery.due == 11.5
    recovery.tries = 9
    recovery.postpone(11.0, 5.0)
    assert recovery.due == 16.0
