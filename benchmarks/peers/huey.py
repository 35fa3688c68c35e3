"""Huey: threads, no results."""

from __future__ import annotations

import os
from typing import Any

from huey import RedisHuey

from benchmarks import tally

app = RedisHuey("bench", url=os.environ["REDIS_URL"], results=False)


@app.task(context=True)
def noop(number: int, task: Any = None) -> None:
    """Count."""
    tally.saw(task.id, number)


@app.task(context=True)
def stamp(pushed: int, task: Any = None) -> None:
    """Tell how long it has waited."""
    tally.waited(task.id, pushed)


@app.task()
def warm(_number: int) -> None:
    """Say that this process works."""
    tally.here()


JOBS = {"noop": noop, "stamp": stamp, "warm": warm}


def one(job: str, value: int) -> None:
    """Push one job."""
    JOBS[job](value)
