"""SAQ: ten coroutines, no results."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from saq.queue.redis import RedisQueue

from benchmarks import tally

queue = RedisQueue.from_url(os.environ["REDIS_URL"], name="bench")


async def noop(context: dict[str, Any], *, number: int) -> None:
    """Count."""
    tally.saw(context["job"].key, number)


async def stamp(context: dict[str, Any], *, number: int) -> None:
    """Tell how long it has waited."""
    tally.waited(context["job"].key, number)


async def warm(_context: dict[str, Any], *, number: int) -> None:
    """Say that this process works."""
    del number
    tally.here()


settings = {"queue": queue, "functions": [noop, stamp, warm], "concurrency": 10}


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    """Hold its connections."""
    await queue.connect()
    yield
    await queue.disconnect()


async def one(job: str, value: int) -> None:
    """Push one job."""
    await queue.enqueue(job, number=value, ttl=-1)
