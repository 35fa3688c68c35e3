"""streaQ: ten coroutines, no results."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from streaq import Worker

from benchmarks import tally

worker = Worker(redis_url=os.environ["REDIS_URL"], queue_name="bench", concurrency=10)


@worker.task(ttl=0)
async def noop(number: int) -> None:
    """Count."""
    tally.saw(noop.context.task_id, number)


@worker.task(ttl=0)
async def stamp(pushed: int) -> None:
    """Tell how long it has waited."""
    tally.waited(stamp.context.task_id, pushed)


@worker.task(ttl=0)
async def warm(_number: int) -> None:
    """Say that this process works."""
    tally.here()


JOBS = {"noop": noop, "stamp": stamp, "warm": warm}


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    """Hold its connections."""
    async with worker:
        yield


async def one(job: str, value: int) -> None:
    """Push one job."""
    await JOBS[job].enqueue(value)


async def many(values: Sequence[int]) -> None:
    """Push many jobs in one call."""
    await worker.enqueue_many([noop.enqueue(value) for value in values])
