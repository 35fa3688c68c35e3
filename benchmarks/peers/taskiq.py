"""taskiq by a list, without results. Its list loses what a killed worker held; its stream is slower."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskiq import Context, TaskiqDepends
from taskiq_redis import ListQueueBroker

from benchmarks import tally

broker = ListQueueBroker(url=os.environ["REDIS_URL"], queue_name="bench")
_HERE = TaskiqDepends()


@broker.task
async def noop(number: int, context: Context = _HERE) -> None:
    """Count."""
    tally.saw(context.message.task_id, number)


@broker.task
async def stamp(pushed: int, context: Context = _HERE) -> None:
    """Tell how long it has waited."""
    tally.waited(context.message.task_id, pushed)


@broker.task
async def warm(_number: int) -> None:
    """Say that this process works."""
    tally.here()


JOBS = {"noop": noop, "stamp": stamp, "warm": warm}


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    """Hold the broker's connections."""
    await broker.startup()
    yield
    await broker.shutdown()


async def one(job: str, value: int) -> None:
    """Push one job."""
    await JOBS[job].kiq(value)
