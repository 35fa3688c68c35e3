from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from reconciler.scheduler import Clock
from tests.waiting import eventually


@pytest.fixture
def calls() -> Counter[str]:
    return Counter()


@pytest.fixture
def clock(calls: Counter[str]) -> Iterator[Clock]:
    made = Clock(lambda name: calls.update([name]))
    yield made
    made.stop()


def test_everybody_is_called_at_once_and_then_every_so_often(
    clock: Clock, calls: Counter[str]
) -> None:
    clock.add("often", 0.05)
    clock.add("rarely", 3600)
    clock.start()

    eventually(lambda: calls["often"] > 3)
    assert calls["rarely"] == 1


def test_after_a_jump_of_the_clock_everybody_is_called_again(
    clock: Clock, calls: Counter[str]
) -> None:
    clock.add("rarely", 3600)
    clock.start()
    eventually(lambda: calls["rarely"] == 1)

    clock.again()

    eventually(lambda: calls["rarely"] == 2)


def test_a_clock_that_was_stopped_calls_nobody(clock: Clock, calls: Counter[str]) -> None:
    clock.add("often", 0.02)
    clock.start()
    eventually(lambda: calls["often"] > 0)
    clock.stop()
    before = calls["often"]
    deadline = time.monotonic() + 0.2
    eventually(lambda: time.monotonic() > deadline)

    assert calls["often"] <= before + 1


def test_a_clock_that_never_began_can_be_stopped(clock: Clock) -> None:
    clock.stop()
