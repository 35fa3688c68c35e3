from __future__ import annotations

import pytest

from reconciler.pacing import Pace, Speed


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_first_rows_need_not_wait_and_the_next_wait_as_long_as_those_take(clock: Clock) -> None:
    pace = Pace(500.0, clock)

    assert pace.wait() == 0.0
    pace.took(250)
    assert pace.wait() == pytest.approx(0.5)
    clock.now += 0.5
    assert pace.wait() == 0.0


def test_in_a_minute_no_more_is_told_than_the_rate_allows_with_what_was_missed_at_most_once(
    clock: Clock,
) -> None:
    pace, told, ends = Pace(100.0, clock), 0, clock.now + 60.0
    clock.now += 5.0  # nothing was told for a while: only a second of it may be made up for
    while clock.now < ends:
        clock.now += pace.wait() or 0.01
        told += pace.most() or 0
        pace.took(pace.most() or 0)

    assert 5_400 <= told <= 5_800


def test_a_step_is_a_second_of_work_at_the_most_and_one_row_at_the_least() -> None:
    assert [Pace(rate).most() for rate in (500.0, 0.2, None)] == [500, 1, None]


def test_without_a_rate_nothing_waits(clock: Clock) -> None:
    pace = Pace(None, clock)
    pace.took(10**6)

    assert pace.wait() == 0.0


def test_the_speed_is_that_of_the_last_seconds(clock: Clock) -> None:
    speed = Speed(clock)
    for done in range(0, 1_000, 100):
        speed.saw(done)
        clock.now += 1.0
    assert speed.rate == pytest.approx(100.0)
    assert speed.eta(500) == pytest.approx(5.0)

    for done in range(1_000, 11_000, 500):
        speed.saw(done)
        clock.now += 1.0
    assert speed.rate == pytest.approx(500.0)


def test_nobody_knows_when_it_ends_while_nothing_moves(clock: Clock) -> None:
    speed = Speed(clock)
    assert speed.eta(10) is None
    for _ in range(3):
        speed.saw(7)
        clock.now += 1.0

    assert speed.eta(10) is None
    assert speed.eta(0) == 0.0
