"""RQ: `SimpleWorker`, which does not fork for each job, and no results."""

from __future__ import annotations

import os
from collections.abc import Sequence

from redis import Redis
from rq import Queue, get_current_job

from benchmarks import tally

queue = Queue("bench", connection=Redis.from_url(os.environ["REDIS_URL"]))


def noop(number: int) -> None:
    """Count."""
    tally.saw(get_current_job().id, number)


def stamp(pushed: int) -> None:
    """Tell how long it has waited."""
    tally.waited(get_current_job().id, pushed)


def warm(_number: int) -> None:
    """Say that this process works."""
    tally.here()


JOBS = {"noop": noop, "stamp": stamp, "warm": warm}


def one(job: str, value: int) -> None:
    """Push one job."""
    queue.enqueue(JOBS[job], value, result_ttl=0)


def many(values: Sequence[int]) -> None:
    """Push many jobs in one call."""
    queue.enqueue_many([Queue.prepare_data(noop, (value,), result_ttl=0) for value in values])
