"""One measured piece of work in a process of its own: prints the seconds that it took, as JSON.

    python -m benchmarks.side push 20000

Redis is that of REDIS_URL. What a measurement does not want to pay for (imports, the connection) happens before the clock
starts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks.jobs import QUEUE, Count, Noop, UniqueNoop

_BATCH = 1000
_POP = 100
_LIST = f"queue:{QUEUE}"


def client() -> Redis:
    """Return a plain client of REDIS_URL."""
    return Redis.from_url(os.environ["REDIS_URL"], retry=Retry(NoBackoff(), 0))


def push(n: int, _argument: str) -> None:
    """Enqueue one by one."""
    for number in range(n):
        Noop.perform_async(number)


def push_unique(n: int, _argument: str) -> None:
    """Enqueue one by one, each under a lock."""
    for number in range(n):
        UniqueNoop.perform_async(number)


def bulk(n: int, _argument: str) -> None:
    """Enqueue in batches."""
    Noop.perform_bulk([(number,) for number in range(n)], batch_size=_BATCH)


def bulk_unique(n: int, _argument: str) -> None:
    """Enqueue in batches, each job under a lock."""
    UniqueNoop.perform_bulk([(number,) for number in range(n)], batch_size=_BATCH)


def count(_n: int, file: str) -> None:
    """Ask the worker what it has counted."""
    Count.perform_async(file)


def limit_push(n: int, size: str) -> None:
    """Do nothing but LPUSH: no job, no lock."""
    raw, payload = client(), b"x" * int(size)
    for _ in range(n):
        raw.lpush(_LIST, payload)


def limit_bulk(n: int, size: str) -> None:
    """Do nothing but LPUSH of a thousand."""
    raw, payloads = client(), [b"x" * int(size)] * _BATCH
    for _ in range(0, n, _BATCH):
        raw.lpush(_LIST, *payloads)


def limit_later(n: int, size: str) -> None:
    """Do nothing but ZADD of a thousand, by rising scores."""
    raw, filler = client(), "x" * (int(size) - 10)
    for start in range(0, n, _BATCH):
        raw.zadd(
            f"qik:later:{QUEUE}", {f"{at:010d}{filler}": at for at in range(start, start + _BATCH)}
        )


def limit_drain(n: int, _argument: str) -> None:
    """Do nothing but RPOP of a hundred: what a crash would lose."""
    raw = client()
    for _ in range(0, n, _POP):
        raw.rpop(_LIST, _POP)


WORK: dict[str, Callable[[int, str], None]] = {
    "push": push,
    "push_unique": push_unique,
    "bulk": bulk,
    "bulk_unique": bulk_unique,
    "count": count,
    "limit_push": limit_push,
    "limit_bulk": limit_bulk,
    "limit_later": limit_later,
    "limit_drain": limit_drain,
}


def main() -> None:
    """Do one piece of work."""
    kind, n, argument = sys.argv[1], int(sys.argv[2]), "".join(sys.argv[3:4])
    work = WORK[kind]
    if kind in ("push", "bulk", "push_unique", "bulk_unique"):
        Count.set(queue="warm-up").perform_async("")
    started = time.perf_counter()
    work(n, argument)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - started, "n": n}) + "\n")


if __name__ == "__main__":
    main()
