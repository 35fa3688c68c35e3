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
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from benchmarks import limits
from benchmarks.jobs import Mark, Nap, Noop, Stamp, Stay, UniqueNoop
from benchmarks.limits import BATCH, Work
from benchmarks.names import QUEUE
from qik_core import recover
from qik_core.poller import Poller
from qik_core.settings import current
from qik_core.store.link import Link
from qik_core.store.push import MOST
from qik_core.store.store import Candidate
from qik_core.store.worker import Limits, WorkerStore

_PAUSE: Final = 0.01
"""Seconds between the jobs whose latency is measured."""
_LOST: Final = "bench:1:lost"


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
    Noop.perform_bulk([(number,) for number in range(n)], batch_size=BATCH)


def bulk_unique(n: int, _argument: str) -> None:
    """Enqueue in batches, each job under a lock."""
    UniqueNoop.perform_bulk([(number,) for number in range(n)], batch_size=BATCH)


def bulk_jittered(n: int, _argument: str) -> None:
    """The same, each job for a moment of its own."""
    jitter = timedelta(minutes=10)
    UniqueNoop.perform_bulk([(number,) for number in range(n)], batch_size=BATCH, jitter=jitter)


def bulk_later(n: int, _argument: str) -> None:
    """The same without locks."""
    jitter = timedelta(minutes=10)
    Noop.perform_bulk([(number,) for number in range(n)], batch_size=BATCH, jitter=jitter)


def bulk_naps(n: int, _argument: str) -> None:
    """Enqueue jobs that take a millisecond."""
    Nap.perform_bulk([(number,) for number in range(n)], batch_size=BATCH)


def bulk_marks(n: int, _argument: str) -> None:
    """Enqueue jobs that are counted in a byte each."""
    Mark.perform_bulk([(number,) for number in range(n)], batch_size=BATCH)


def stay(n: int, _argument: str) -> None:
    """Enqueue jobs that do not end."""
    Stay.perform_bulk([(number,) for number in range(n)])


def latency(n: int, _argument: str) -> None:
    """Enqueue jobs with the moment of their push, each when the one before has long begun."""
    for _ in range(n):
        Stamp.perform_async(time.monotonic_ns())
        time.sleep(_PAUSE)


def load(n: int, per_second: str) -> Mapping[str, Any]:
    """The same half-way between batches of naps, so many of these a second; how many there were."""
    began, naps = time.monotonic(), 0
    for at in range(n):
        due = round(at * _PAUSE * float(per_second)) - naps
        Nap.perform_bulk([(number,) for number in range(naps, naps + due)])
        naps += due
        _sleep_until(began + (at + 0.5) * _PAUSE)
        Stamp.perform_async(time.monotonic_ns())
        _sleep_until(began + (at + 1) * _PAUSE)
    return {"naps": naps}


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0.0))


def promote(_n: int, _argument: str) -> None:
    """Look for due jobs, as a worker's poller does, until none is left."""
    poller = Poller(_link, [QUEUE], 1.0, clock=time.time, dice=lambda: 0.5, milliseconds=False)
    poller.look()


def strand(n: int, _argument: str) -> None:
    """Fetch n jobs as a process that then ends without a word."""
    link, store = _link(), WorkerStore(_LOST, Limits(), Candidate())
    store.hold(link, (), mark="0:0")
    for sequence in range(1, n // MOST + 2):
        store.exchange(link, sequence, store.prepare((), [QUEUE], MOST))


def give_back(_n: int, _argument: str) -> None:
    """Return the jobs of that process, as a parent's helper does."""
    os.environ["QIK_CHILD"] = json.dumps({"settings": json.loads(current().to_json())})
    recover.main([_LOST])


def _link() -> Link:
    return Link(os.environ["REDIS_URL"])


WORK: Final[Mapping[str, Work]] = {
    "push": push,
    "push_unique": push_unique,
    "bulk": bulk,
    "bulk_unique": bulk_unique,
    "bulk_jittered": bulk_jittered,
    "bulk_later": bulk_later,
    "bulk_naps": bulk_naps,
    "bulk_marks": bulk_marks,
    "stay": stay,
    "latency": latency,
    "load": load,
    "promote": promote,
    "strand": strand,
    "give_back": give_back,
    **limits.LIMITS,
}


def main() -> None:
    """Do one piece of work."""
    kind, n, argument = sys.argv[1], int(sys.argv[2]), "".join(sys.argv[3:4])
    work = WORK[kind]
    if work.__module__ == __name__:
        Noop.set(queue="warm-up").perform_async(0)
    started, used = time.perf_counter(), time.process_time()
    more = work(n, argument)
    took = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used}
    sys.stdout.write(json.dumps({**took, "n": n, **(more or {})}) + "\n")


if __name__ == "__main__":
    main()
