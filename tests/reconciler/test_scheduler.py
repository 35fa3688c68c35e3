from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.cron import crontab
from reconciler.scheduler import AtTimes, Clock
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


def test_a_reconciler_with_a_crontab_is_called_at_once_and_then_at_its_times(
    clock: Clock, calls: Counter[str]
) -> None:
    times = crontab("X", "cron", "30 6 * * *")
    before = datetime.now(UTC)
    clock.add("daily", times.longest, times)
    clock.start()
    eventually(lambda: calls["daily"] == 1)

    (job,) = clock._scheduler.get_jobs()

    due = job.next_run_time
    assert (due.hour, due.minute) == (6, 30)
    assert before < due <= before + timedelta(days=1, minutes=1)


def test_times_that_were_missed_are_made_up_by_one_call() -> None:
    trigger = AtTimes(crontab("X", "cron", "0 * * * *"))
    last, now = datetime(2026, 6, 1, 3, tzinfo=UTC), datetime(2026, 6, 1, 9, 20, tzinfo=UTC)

    assert trigger.get_next_fire_time(last, now) == datetime(2026, 6, 1, 10, tzinfo=UTC)
    assert trigger.get_next_fire_time(None, now) == datetime(2026, 6, 1, 10, tzinfo=UTC)
    assert trigger.get_next_fire_time(now, last) == datetime(2026, 6, 1, 10, tzinfo=UTC)


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
