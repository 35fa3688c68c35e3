from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from qik_core import Job, hooks, registry
from qik_core.context import Context
from qik_core.errors import ArgumentError
from qik_core.loop import LoopThread
from qik_core.outcomes import Discard, Outcome, RequeueAfter, RetryIn, Terminal
from qik_core.payload import Payload
from qik_core.store.exchange import Done, Kind, Other
from tests.qik_core.acting import NOW, fetched, gone, job_that, other, process, raising, started
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    with registry.scope():
        yield
    hooks.clear()


def saying(outcome: Outcome, *, raised: bool) -> Callable[[Job, int], object]:
    if raised:
        return raising(outcome)
    return lambda job, n: outcome


def job_saying(outcome: Outcome, *, raised: bool, **options: Any) -> None:
    class Acts(Job, **options):
        def perform(self, n: int) -> Outcome:
            if raised:
                raise outcome
            return outcome


both_ways = pytest.mark.parametrize("raised", [False, True], ids=["returned", "raised"])


@both_ways
def test_retry_in_is_a_failure_with_a_wait_of_its_own(raised: bool) -> None:
    job_saying(RetryIn(timedelta(hours=2), "the bank is closed"), raised=raised)
    outcome = process(fetched())
    after = other(outcome, Kind.RETRY)

    assert isinstance(outcome, Other)
    assert (outcome.delay, outcome.failed, after["retry_count"]) == (7200, True, 0)
    assert after["error_message"] == "the bank is closed"


@both_ways
def test_requeue_after_is_no_failure_and_keeps_all_retries(raised: bool) -> None:
    job_saying(RequeueAfter(90), raised=raised)
    outcome = process(fetched(retry_count=3, error_class="X", failed_at=1.5, enqueued_at=1.5))
    after = other(outcome, Kind.LATER)

    assert isinstance(outcome, Other)
    assert (outcome.delay, outcome.failed) == (90, False)
    assert not {"retry_count", "error_class", "failed_at", "enqueued_at"} & after.fields.keys()


def test_requeue_after_nothing_is_back_on_the_queue_with_the_time_of_now() -> None:
    job_saying(RequeueAfter(), raised=False)
    after = other(process(fetched(enqueued_at=1.5)), Kind.LATER)
    assert after["enqueued_at"] == NOW


@both_ways
def test_discard_drops_the_job_and_death_handlers_hear_of_it(raised: bool) -> None:
    seen: list[str] = []
    hooks.on_death(lambda job, error: seen.append(f"{job.jid}: {error}"))
    job_saying(Discard("the account is closed"), raised=raised)
    outcome = process(fetched())

    assert isinstance(outcome, Other)
    assert (outcome.kind, outcome.counter) == (Kind.GONE, "discarded")
    assert seen == ["j1: the account is closed"]


@both_ways
def test_terminal_is_dead_at_once_with_the_reason(raised: bool) -> None:
    job_saying(Terminal("no such row"), raised=raised)
    after = other(process(fetched()), Kind.DEAD)

    assert after["error_message"] == "no such row"
    assert after["error_class"] == "qik_core.outcomes.Terminal"


def test_what_a_job_returns_otherwise_means_nothing() -> None:
    class Acts(Job):
        def perform(self, n: int) -> str:
            return "RetryIn"

    assert process(fetched()) == Done(fetched())


def test_an_outcome_goes_past_middleware_that_looks_for_errors() -> None:
    """A reporter of errors must not be told of a job that only wants to run again."""
    seen: list[BaseException] = []

    def report(job: Payload, call_next: Callable[[Payload], None]) -> None:
        try:
            call_next(job)
        except BaseException as error:
            seen.append(error)
            raise

    job_saying(RequeueAfter(5), raised=False)
    other(process(fetched(), middleware=[report]), Kind.LATER)
    assert seen == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryIn(-1),
        lambda: RetryIn(float("nan")),
        lambda: RetryIn("5"),  # type: ignore[arg-type]
        lambda: RequeueAfter(True),
        lambda: RequeueAfter(timedelta(days=36_500)),
        lambda: Discard(""),
        lambda: Terminal(None),  # type: ignore[arg-type]
    ],
    ids=["negative", "nan", "text", "bool", "century", "empty", "none"],
)
def test_an_outcome_that_makes_no_sense_is_refused_with_the_remedy(
    make: Callable[[], object],
) -> None:
    with pytest.raises(ArgumentError, match=r"use|say why"):
        make()


# --- handlers ----------------------------------------------------------------------


def test_error_handlers_hear_of_every_failure_and_death_handlers_of_the_last_one() -> None:
    errors: list[str] = []
    deaths: list[str] = []
    hooks.on_error(lambda error, context: errors.append(f"{error} in {context['job']}"))
    hooks.on_death(lambda job, error: deaths.append(f"{job.class_name} {error}"))
    job_that(raising(ValueError("no")), retry=1)

    process(fetched(retry=1))
    assert (errors, deaths) == (["no in Acts"], [])
    process(fetched(retry=1, retry_count=0))
    assert deaths == ["Acts no"]


def test_death_handlers_hear_of_jobs_that_are_not_kept() -> None:
    deaths: list[str] = []
    hooks.on_death(lambda job, error: deaths.append(job.jid))
    job_that(raising(ValueError("no")))

    process(fetched(retry=False))
    process(fetched(retry=0, dead=False))
    assert deaths == ["j1", "j1"]


def test_handlers_that_raise_hinder_neither_each_other_nor_the_job() -> None:
    seen: list[str] = []

    def broken(*_: object) -> None:
        raise SystemExit(3)

    hooks.on_error(broken)
    hooks.on_error(lambda error, _: seen.append(type(error).__name__))
    hooks.on_death(broken)
    hooks.on_death(lambda job, _: seen.append(job.jid))
    job_that(raising(ValueError("no")))

    other(process(fetched(retry=0)), Kind.DEAD)
    assert seen == ["ValueError", "SystemExit", "j1"]


def test_an_outcome_of_the_jobs_own_is_no_error_to_report() -> None:
    seen: list[object] = []
    hooks.on_error(lambda *told: seen.append(told))
    job_saying(Terminal("x"), raised=True)
    process(fetched())
    assert seen == []


# --- poisonous, cancelled, timed out ---------------------------------------------------


def test_a_condemned_job_is_buried_without_a_run() -> None:
    runs: list[int] = []
    deaths: list[object] = []
    hooks.on_death(lambda job, error: deaths.append(error))
    job_that(lambda _, n: runs.append(n))
    outcome = process(fetched(deaths=3))
    after = other(outcome, Kind.DEAD)

    assert isinstance(outcome, Other)
    assert (runs, deaths, outcome.counter) == ([], [None], "poison")
    assert after["error_class"] == "qik_core.errors.PoisonousJob"
    assert "3 processes died" in after["error_message"]


def test_a_job_with_fewer_deaths_runs_and_is_cleared_by_its_success() -> None:
    job_that(lambda _, n: None)
    outcome = process(fetched(deaths=2))
    assert isinstance(outcome, Done)
    assert "deaths" not in json.loads(outcome.again)


def test_a_job_that_takes_too_long_is_failed_and_retried() -> None:
    def spin(job: Job, n: int) -> None:
        eventually(lambda: False, timeout=20)

    job_that(spin, timeout=0.05)
    after = other(process(fetched()), Kind.RETRY)
    assert after["error_class"] == "qik_core.errors.JobTimeout"
    assert "0.05 s" in after["error_message"]


@pytest.fixture
def loop() -> LoopThread:
    return LoopThread(started)


def test_an_async_job_that_takes_too_long_is_cancelled_and_failed(loop: LoopThread) -> None:
    cleaned: list[int] = []

    class Acts(Job, timeout=0.05):
        async def perform(self, n: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(n)

    after = other(process(fetched(), wait=loop.wait), Kind.RETRY)
    assert after["error_class"] == "qik_core.errors.JobTimeout"
    assert cleaned == [7]


def test_a_timeout_error_of_the_jobs_own_stays_its_own(loop: LoopThread) -> None:
    class Acts(Job, timeout=5):
        async def perform(self, n: int) -> None:
            raise TimeoutError("the bank")

    after = other(process(fetched(), wait=loop.wait), Kind.RETRY)
    assert after["error_message"] == "the bank"


def test_an_async_job_is_cancelled_where_it_waits(loop: LoopThread) -> None:
    class Acts(Job):
        async def perform(self, n: int) -> None:
            await asyncio.Event().wait()

    contexts: list[Context] = []
    outcomes: list[Any] = []

    def run() -> None:
        outcomes.append(process(fetched(), wait=loop.wait, entered=contexts.append))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    eventually(lambda: contexts)
    contexts[0].cancel()
    thread.join(10)
    gone(outcomes[0], "cancelled")


def test_an_async_job_that_is_cancelled_before_its_first_step_does_not_begin(
    loop: LoopThread,
) -> None:
    runs: list[int] = []

    class Acts(Job):
        async def perform(self, n: int) -> None:
            runs.append(n)

    gone(process(fetched(), wait=loop.wait, entered=Context.cancel), "cancelled")
    assert runs == []


# --- lines about a job ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("process_level", "job_level", "lines"),
    [
        (logging.INFO, None, 2),
        (logging.INFO, "warning", 0),
        (logging.WARNING, None, 0),
        (logging.WARNING, "loud", 0),
    ],
)
def test_a_jobs_own_log_level_decides_about_its_lines(
    caplog: pytest.LogCaptureFixture, process_level: int, job_level: str | None, lines: int
) -> None:
    caplog.set_level(process_level, "qik_core.jobs")
    job_that(lambda _, n: None)
    process(fetched(log_level=job_level))
    assert len(caplog.records) == lines
