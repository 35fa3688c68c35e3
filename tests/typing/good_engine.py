"""What users write around their jobs: handlers, outcomes, the programs' API, tests. Clean in mypy strict and pyright strict."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, assert_type

import pytest

from qik_core import (
    Discard,
    Job,
    JobTimeout,
    Payload,
    RequeueAfter,
    RetryIn,
    Terminal,
    api,
    on,
    on_death,
    on_error,
)
from qik_core.testing import (
    EnqueuedJob,
    Fake,
    Inline,
    Real,
    approx,
    assert_enqueued,
    assert_enqueued_count,
    assert_idempotent,
    assert_not_enqueued,
    fake,
    inline,
    real,
    within,
)


class TypedOutcome(Job, retry_on=(OSError,), discard_on=(LookupError,), timeout=60):
    def perform(self, number: int) -> RetryIn | Discard | Terminal | RequeueAfter | None:
        if number == 0:
            return Discard("nothing to do")
        if number == 1:
            return RetryIn(timedelta(minutes=5))
        if number == 2:
            raise Terminal("no such number")
        return RequeueAfter(60) if number == 3 else None

    @classmethod
    def retry_in(cls, count: int, error: BaseException, job: Payload) -> timedelta | None:
        return timedelta(hours=count) if isinstance(error, JobTimeout) else None

    @classmethod
    def retries_exhausted(cls, job: Payload, error: BaseException) -> None:
        print(job.jid, error)


@on("startup")
def connect() -> None: ...


@on_error
def report(error: BaseException, context: Mapping[str, Any]) -> None: ...


@on_death
def page(job: Payload, error: BaseException | None) -> None: ...


def look() -> None:
    assert_type(api.Stats.read().retries, int)
    for record in api.Queue("billing").matching("class:TypedOutcome"):
        assert_type(record.jid, str)
    api.cancel("0" * 24)


def pushes() -> None:
    TypedOutcome.perform_async(1)


def modes() -> None:
    with fake() as jobs:
        assert_type(jobs, Fake)
        assert_type(jobs.jobs, list[EnqueuedJob])
        assert_type(jobs.drain(TypedOutcome), int)
        assert_type(jobs.perform_one().at, datetime | None)
    with inline() as at_once:
        assert_type(at_once, Inline)
    with real() as server:
        assert_type(server, Real)
        assert_type(server.url, str)
        server.drain(check=False)


@pytest.fixture
def typed_jobs(qik_fake: Fake) -> Fake:
    return qik_fake


def assertions() -> None:
    found = assert_enqueued(TypedOutcome, 1, queue="default", at=timedelta(minutes=5))
    assert_type(found.args, tuple[Any, ...])
    assert_enqueued("Ruby::Job", at=within(timedelta(0), timedelta(hours=1)))
    assert_not_enqueued(TypedOutcome, at=approx(timedelta(minutes=5), timedelta(seconds=1)))
    assert_enqueued_count(1, TypedOutcome)
    assert_idempotent(TypedOutcome, 4, observe=lambda: [1, 2])
