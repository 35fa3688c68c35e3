from __future__ import annotations

import time
from datetime import timedelta

import pytest

from qik_core import (
    ArgumentError,
    Job,
    push,
    registry,
)
from qik_core.errors import UnknownJob
from qik_core.outcomes import Discard, RequeueAfter, RetryIn, Terminal
from qik_core.testing import Fake, Unending, fake
from tests.qik_core.testing.jobs_of_apps import (
    Failing,
    Mail,
    Saying,
    Tree,
    done,
)


def test_a_failing_job_raises_with_its_name_and_is_over(jobs: Fake) -> None:
    Failing.perform_async(1)
    Tree.perform_async(0)

    with pytest.raises(KeyError) as caught:
        jobs.drain()

    assert caught.value.__notes__ == [
        f"in the job Failing(1) on default (jid {_noted(caught.value)})"
    ]
    assert [each.name for each in jobs.jobs] == ["Tree"]
    assert jobs.performed == []


def _noted(error: BaseException) -> str:
    return str(error.__notes__[0]).rpartition("jid ")[2].rstrip(")")


@pytest.mark.parametrize(
    ("word", "left", "reason"),
    [
        (Discard("the order is gone"), 0, "discarded: the order is gone"),
        (RequeueAfter(timedelta(minutes=5)), 1, None),
    ],
)
@pytest.mark.parametrize("how", ["returned", "raised"])
def test_a_job_says_what_becomes_of_it(
    jobs: Fake, word: Exception, left: int, reason: str | None, how: str
) -> None:
    Saying.word = word
    Saying.perform_async(how)

    assert jobs.drain() == 1
    assert len(jobs.scheduled) == left
    assert [each.reason for each in jobs.dropped] == ([] if reason is None else [reason])
    assert jobs.performed == []


@pytest.mark.parametrize("word", [RetryIn(60), Terminal("the card is gone")])
@pytest.mark.parametrize("how", ["returned", "raised"])
def test_a_job_that_says_that_it_failed_raises_its_word(
    jobs: Fake, word: Exception, how: str
) -> None:
    Saying.word = word
    Saying.perform_async(how)

    with pytest.raises(type(word)):
        jobs.drain()
    assert jobs.jobs == []


def test_a_job_that_asks_to_run_again_at_once_does_not_run_for_ever(jobs: Fake) -> None:
    Saying.word = RequeueAfter(0)
    Saying.perform_async("returned")

    assert jobs.drain() == 1
    assert len(jobs) == 1


def test_errors_that_the_class_discards_drop_the_job(jobs: Fake) -> None:
    class Careless(Job, discard_on=(LookupError,)):
        def perform(self) -> None:
            raise KeyError("gone")

    Careless.perform_async()

    assert jobs.drain() == 1
    assert jobs.dropped[0].reason == "discarded: KeyError: 'gone'"


def test_an_expired_job_is_dropped() -> None:
    clock = [time.time()]
    with fake(now=lambda: clock[0]) as jobs:
        Mail.set(expires_in=60).perform_async("a@example.org")
        clock[0] += 61

        assert jobs.drain() == 1
        assert done == []
        assert jobs.dropped[0].reason == "expired"


def test_a_scheduled_job_stands_on_its_queue_when_its_time_has_come() -> None:
    clock = [time.time()]
    with fake(now=lambda: clock[0]) as jobs:
        Mail.perform_in(60, "a@example.org")
        assert jobs.queued("mail") == []
        clock[0] += 61

        (waiting,) = jobs.queued("mail")
        assert waiting.payload["enqueued_at"] == clock[0]
        assert jobs.drain(scheduled=False) == 1


def test_jobs_without_an_end_are_stopped(jobs: Fake) -> None:
    class Endless(Job):
        def perform(self) -> None:
            Endless.perform_async()

    Endless.perform_async()

    with pytest.raises(Unending, match=r"has performed 20 jobs.*Endless\(\)"):
        jobs.drain(most=20)
    assert len(jobs) == 1


def test_a_job_that_nothing_defines_can_be_looked_at_and_stays(jobs: Fake) -> None:
    push("Charg", [7])

    assert jobs.jobs[0].args == (7,)
    with pytest.raises(UnknownJob, match="did you mean 'Charge'"):
        jobs.drain()
    assert len(jobs) == 1


def test_a_job_whose_arguments_do_not_fit_any_more_stays_and_says_so(jobs: Fake) -> None:
    class Grows(Job):
        def perform(self, number: int) -> None: ...

    Grows.perform_async(1)

    with registry.scope():
        registry._definitions.pop("Grows")

        class Grown(Job, name="Grown", aliases=["Grows"]):
            def perform(self, number: int, text: str) -> None: ...

        with pytest.raises(ArgumentError) as caught:
            jobs.drain()
    assert "Grows" in caught.value.__notes__[0]
    assert len(jobs) == 1
