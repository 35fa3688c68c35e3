"""arq: polls every 10 ms instead of its 500, no results."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

from benchmarks import tally

QUEUE = "bench"
SETTINGS = RedisSettings(unix_socket_path=unquote(urlsplit(os.environ["REDIS_URL"]).path))
_pool: list[ArqRedis] = []


async def noop(context: dict[str, Any], number: int) -> None:
    """Count."""
    tally.saw(context["job_id"], number)


async def stamp(context: dict[str, Any], pushed: int) -> None:
    """Tell how long it has waited."""
    tally.waited(context["job_id"], pushed)


async def warm(_context: dict[str, Any], _number: int) -> None:
    """Say that this process works."""
    tally.here()


class WorkerSettings:
    """What its command reads."""

    functions = (noop, stamp, warm)
    redis_settings = SETTINGS
    queue_name = QUEUE
    max_jobs = 10
    poll_delay = 0.01
    keep_result = 0


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    """Hold a pool of connections."""
    _pool.append(await create_pool(SETTINGS, default_queue_name=QUEUE))
    yield
    await _pool.pop().aclose()


async def one(job: str, value: int) -> None:
    """Push one job."""
    await _pool[0].enqueue_job(job, value)
