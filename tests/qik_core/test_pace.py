from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from qik_core.pace import Pace, Patience
from qik_core.store.push import MOST


class Crew:
    """The numbers that a pace looks at."""

    def __init__(self, size: int = 10) -> None:
        self.size = self.idle = size
        self.pocket: deque[Any] = deque()
        self.runs, self.seconds, self.looked_at = 0, 0.0, 0.0

    def ran(self, runs: int, each: float) -> None:
        self.runs += runs
        self.seconds += runs * each


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def crew() -> Crew:
    return Crew()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(crew: Crew, clock: Clock) -> Pace:
    return Pace(crew, clock)  # type: ignore[arg-type]


def measure(pace: Pace, crew: Crew, runs: int, each: float, times: int = 30) -> None:
    for _ in range(times):
        crew.ran(runs, each)
        pace.exchanged()


def test_before_anything_is_measured_one_job_a_thread_is_asked_for(pace: Pace) -> None:
    assert pace.want() == 10


def test_slow_jobs_are_asked_for_by_idle_threads_alone(pace: Pace, crew: Crew) -> None:
    measure(pace, crew, 10, 2.0)
    assert pace.want() == 10
    crew.idle = 3
    assert pace.want() == 3
    crew.idle = 0
    assert pace.want() == 0


def test_fast_jobs_are_asked_for_by_50_ms_of_work(pace: Pace, crew: Crew) -> None:
    measure(pace, crew, 100, 0.005)
    assert pace.want() == pytest.approx(100, abs=2)


def test_no_more_than_two_full_exchanges_are_ever_asked_for(pace: Pace, crew: Crew) -> None:
    measure(pace, crew, 1000, 1e-9, 200)
    assert pace.want() == 2 * MOST


def test_nothing_is_asked_for_while_more_than_half_of_it_waits(pace: Pace, crew: Crew) -> None:
    measure(pace, crew, 100, 0.005)
    target = pace.want()
    crew.pocket.extend(range(target // 2 + 1))
    assert pace.want() == 0
    crew.pocket.pop()
    assert pace.want() == target - target // 2


def test_one_slow_exchange_is_felt_at_once(pace: Pace, crew: Crew) -> None:
    measure(pace, crew, 1000, 1e-6)
    measure(pace, crew, 10, 2.0, times=1)
    assert pace.want() == 10


def test_an_exchange_without_runs_changes_nothing(pace: Pace, crew: Crew) -> None:
    measure(pace, crew, 100, 0.005)
    before = pace.want()
    for _ in range(10):
        pace.exchanged()
    assert pace.want() == before


def test_a_result_waits_from_when_it_came_until_the_exchange(clock: Clock) -> None:
    patience = Patience(clock)
    patience.result()
    clock.at += 0.004
    patience.result()  # a second one does not start the wait anew
    clock.at += 0.004
    assert patience.waited(clock.at) == pytest.approx(0.008)
    patience.exchanged()
    assert patience.waited(clock.at) == 0.0


def test_what_waits_for_100_ms_and_is_not_started_is_stuck(
    pace: Pace, crew: Crew, clock: Clock
) -> None:
    crew.pocket.extend(range(50))
    pace.filled()
    clock.at += 0.09
    assert not pace.stuck()
    clock.at += 0.02
    assert pace.stuck()


def test_nothing_is_stuck_while_jobs_start(pace: Pace, crew: Crew, clock: Clock) -> None:
    crew.pocket.extend(range(50))
    pace.filled()
    for _ in range(10):
        clock.at += 0.09
        crew.ran(1, 0.0)
        assert not pace.stuck()


def test_an_empty_pocket_is_never_stuck(pace: Pace, clock: Clock) -> None:
    clock.at += 60
    assert not pace.stuck()


def test_after_being_stuck_only_idle_threads_ask(pace: Pace, crew: Crew, clock: Clock) -> None:
    measure(pace, crew, 1000, 1e-5)
    assert pace.want() > 500
    crew.pocket.extend(range(50))
    crew.idle = 0
    pace.filled()
    clock.at += 0.11
    assert pace.stuck()
    crew.pocket.clear()
    assert pace.want() == 0
