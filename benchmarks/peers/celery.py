"""Celery: one process a worker (`-P solo`, its fastest for jobs that take no time), no results."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from benchmarks import tally

app = Celery("bench", broker=os.environ["REDIS_URL"].replace("unix://", "redis+socket://"))
app.conf.update(
    task_default_queue="bench", task_ignore_result=True, broker_connection_retry_on_startup=True
)


@app.task(bind=True)
def noop(self: Any, number: int) -> None:
    """Count."""
    tally.saw(self.request.id, number)


@app.task(bind=True)
def stamp(self: Any, pushed: int) -> None:
    """Tell how long it has waited."""
    tally.waited(self.request.id, pushed)


@app.task
def warm(_number: int) -> None:
    """Say that this process works."""
    tally.here()


JOBS = {"noop": noop, "stamp": stamp, "warm": warm}


def one(job: str, value: int) -> None:
    """Push one job."""
    JOBS[job].delay(value)
