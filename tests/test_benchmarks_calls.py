"""What a job may cost in Python: calls of functions, which no clock changes. The bounds are a little above today's.

Each counts in a Python of its own: what other tests have left behind is no cost of a job.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest
import redis

from qik_core import Job, registry, settings
from qik_core.embedding import EmbeddedWorker
from qik_core.settings import Settings
from qik_core.store import Store
from tests.fresh import fresh
from tests.waiting import eventually

N = 1000
ran: list[int] = []

with registry.scope():

    class CallsPlain(Job, queue="calls", retry=25):
        def perform(self, number: int) -> None:
            ran.append(number)

    class CallsLocked(CallsPlain, unique_for=timedelta(hours=1)):
        pass


@contextmanager
def counted(*, threads: bool = False) -> Iterator[Counter[str]]:
    """Count the calls of Python functions, by name: of this thread, or of those that it starts meanwhile."""
    calls: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1

    begin = threading.setprofile if threads else sys.setprofile
    begin(profile)
    try:
        yield calls
    finally:
        begin(None)


def begun(url: str, job: str) -> type[CallsPlain]:
    """Return a job class by its name, when it can be pushed to this empty server."""
    Store(url, birth_ms=0).look()  # no hold at the start of a new epoch
    settings.use(Settings(redis=url, queues=(("calls", 1),)))
    return next(each for each in (CallsPlain, CallsLocked) if each.__name__ == job)


def pushes(url: str, name: str) -> Counter[str]:
    job = begun(url, name)
    job.perform_async(0)
    with counted() as calls:
        for number in range(N):
            job.perform_async(number + 1)
    return calls


def bulk(url: str, name: str) -> Counter[str]:
    job = begun(url, name)
    rows = [(number,) for number in range(N)]
    job.perform_async(-1)
    with counted() as calls:
        job.perform_bulk(rows)
    return calls


def work(url: str, name: str, counts: bool) -> Counter[str]:
    job = begun(url, name)
    settings.use(replace(settings.current(), class_metrics=counts))
    raw = redis.Redis.from_url(url)
    registry.register(job.definition)
    with counted(threads=True) as calls, EmbeddedWorker(concurrency=2):
        eventually(lambda: raw.exists("qik:idle:calls"))
        calls.clear()
        job.perform_bulk([(number,) for number in range(N)])
        eventually(lambda: len(ran) == N)
    return calls


def check(calls: dict[str, int], most: float) -> None:
    """Fail with the functions that are called most often."""
    each = sum(calls.values()) / N
    dear = ", ".join(f"{name} {count / N:.2f}" for name, count in Counter(calls).most_common(25))
    assert each <= most, f"{each:.2f} calls a job, {most} at most: {dear}"


@pytest.mark.parametrize(("job", "most"), [("CallsPlain", 62), ("CallsLocked", 67)])
def test_a_push_calls_few_functions(redis_url: str, job: str, most: float) -> None:
    check(fresh(pushes, redis_url, job), most)


@pytest.mark.parametrize("job", ["CallsPlain", "CallsLocked"])
def test_a_bulk_calls_none_for_each_job(redis_url: str, job: str) -> None:
    check(fresh(bulk, redis_url, job), 0.25)


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("job", ["CallsPlain", "CallsLocked"])
def test_a_worker_calls_few_functions_for_each_job(redis_url: str, job: str, counts: bool) -> None:
    """Counting for metrics, of Prometheus and by class, adds one call, of a function without calls of its own.

    What a worker does by the clock is counted too, more of it the slower a machine is: the least of three is judged.
    """
    runs = (fresh(work, redis_url, job, counts) for _ in range(3))
    check(min(runs, key=lambda calls: sum(calls.values())), 36 + counts)
