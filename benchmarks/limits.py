"""The raw operations that ours are compared with: they do nothing but move as many bytes, and a crash would lose them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks.names import QUEUE

Work: TypeAlias = Callable[[int, str], Mapping[str, Any] | None]
LIST: Final = f"queue:{QUEUE}"
SCHEDULE: Final = "schedule"
BATCH: Final = 1000
_POP: Final = 100
_PROMOTED: Final = 200
_FLUSHED: Final = 500
_THREADS: Final = 10


def client() -> Redis:
    """Return a plain client of REDIS_URL."""
    return Redis.from_url(os.environ["REDIS_URL"], retry=Retry(NoBackoff(), 0))


def resident() -> float:
    """Return the MB of memory that this process holds."""
    return memory(os.getpid())


def memory(pid: int) -> float:
    """Return the MB of memory that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def push(n: int, size: str) -> None:
    """Do nothing but LPUSH: no job, no lock."""
    raw, payload = client(), b"x" * int(size)
    for _ in range(n):
        raw.lpush(LIST, payload)


def bulk(n: int, size: str) -> None:
    """Do nothing but LPUSH of a thousand."""
    raw, payloads = client(), [b"x" * int(size)] * BATCH
    for start in range(0, n, BATCH):
        raw.lpush(LIST, *payloads[: n - start])


def later(n: int, size: str) -> None:
    """Do nothing but ZADD of a thousand, by rising scores."""
    raw, filler = client(), "x" * (int(size) - 10)
    for start in range(0, n, BATCH):
        numbers = range(start, min(n, start + BATCH))
        raw.zadd(SCHEDULE, {f"{at:010d}{filler}": at for at in numbers})


def drain(n: int, _argument: str) -> None:
    """Do nothing but RPOP of a hundred."""
    raw = client()
    for _ in range(0, n, _POP):
        raw.rpop(LIST, _POP)


def drain_naps(n: int, nap: str) -> None:
    """RPOP of ten, and the sleep of ten, in ten threads."""
    threads = [
        threading.Thread(target=_nap, args=(n // _THREADS, float(nap))) for _ in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _nap(n: int, seconds: float) -> None:
    raw = client()
    for _ in range(0, n, _THREADS):
        time.sleep(seconds * len(cast("list[bytes]", raw.rpop(LIST, _THREADS) or [])))


def promote(_n: int, _argument: str) -> None:
    """Do nothing but ZPOPMIN and LPUSH of two hundred."""
    raw = client()
    while due := cast("list[tuple[bytes, float]]", raw.zpopmin(SCHEDULE, _PROMOTED)):
        raw.lpush(LIST, *(payload for payload, _ in due))


def give_back(n: int, _argument: str) -> None:
    """Do nothing but read a hundred fields of a hash, push them and delete them."""
    raw = client()
    for start in range(0, n, _POP):
        fields = [str(at) for at in range(start, start + _POP)]
        raw.lpush(LIST, *cast("list[bytes]", raw.hmget("bench-working", fields)))
        raw.hdel("bench-working", *fields)


def hold(n: int, size: str) -> None:
    """Fill the hash that `give_back` empties."""
    raw, payload = client(), b"x" * int(size)
    for start in range(0, n, BATCH):
        raw.hset(
            "bench-working",
            mapping={str(at): payload for at in range(start, min(n, start + BATCH))},
        )


def flush(_n: int, _argument: str) -> None:
    """Do nothing but read five hundred jobs and take them away."""
    raw = client()
    while raw.rpop(LIST, _FLUSHED):
        pass


def trips(n: int, _argument: str) -> Mapping[str, Any]:
    """Do nothing but PING; how long each takes."""
    raw, waits = client(), []
    for _ in range(n):
        began = time.monotonic_ns()
        raw.ping()
        waits.append(time.monotonic_ns() - began)
        time.sleep(0.001)
    return {"waits": waits}


def idle(n: int, _argument: str) -> None:
    """Block for n seconds, two at a time."""
    raw, deadline = client(), time.monotonic() + n
    while time.monotonic() < deadline:
        raw.blpop(["bench-nothing"], 2)


def remember(_n: int, _argument: str) -> Mapping[str, Any]:
    """Do nothing but hold a client and what it imports; the MB that takes."""
    client().ping()
    return {"resident": resident()}


LIMITS: Final[Mapping[str, Work]] = {
    "limit_push": push,
    "limit_bulk": bulk,
    "limit_later": later,
    "limit_drain": drain,
    "limit_drain_naps": drain_naps,
    "limit_promote": promote,
    "limit_give_back": give_back,
    "limit_hold": hold,
    "limit_flush": flush,
    "limit_trips": trips,
    "limit_idle": idle,
    "limit_remember": remember,
}
