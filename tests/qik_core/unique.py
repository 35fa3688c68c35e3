"""Unique jobs, and a look at what stands for them in Redis."""

from __future__ import annotations

from datetime import timedelta

from qik_core import (
    Advanced,
    Code,
    Dirtied,
    Duplicate,
    Enqueued,
    Job,
    Push,
    client,
    registry,
)
from qik_core.passes import Passes
from qik_core.payload import Payload
from qik_core.store.exchange import Fetched, Kind
from tests.qik_core.store.rig import Rig, Worker, other
from tests.waiting import eventually

HOUR = timedelta(hours=1)

with registry.scope():

    class Invoice(Job, unique_for=HOUR, retry=5):
        def perform(self, number: int, force: bool = False) -> None: ...

    class Refund(Job, unique_for=HOUR):
        def perform(self, number: int, force: bool = False) -> None: ...

    class Brief(Job, unique_for=1):
        def perform(self, number: int) -> None: ...

    class Started(Job, unique_for=HOUR, unique_until="start"):
        def perform(self, number: int) -> None: ...

    class Account(Job, unique_for=HOUR, unique_args=["account"]):
        def perform(self, account: int, note: str) -> None: ...


def jid_of(answer: Push) -> str:
    assert isinstance(answer, (Enqueued, Duplicate, Advanced, Dirtied))
    return answer.jid


def fetch_one(worker: Worker) -> Fetched:
    [job] = worker.fetch()
    return job


def fail(worker: Worker, kind: Kind = Kind.RETRY, delay: float = 60.0) -> str:
    """The next job ends badly; returns its id."""
    job = fetch_one(worker)
    worker.exchange(other(job, kind, delay), want=0)
    return Payload.decode(job.raw).jid


def copies(rig: Rig) -> int:
    """How many jobs wait anywhere."""
    places = [
        *map(rig.raw.llen, rig.raw.scan_iter("queue:*")),
        *map(rig.raw.zcard, ("schedule", "retry")),
    ]
    return int(sum(places))


def passed(rig: Rig) -> None:
    """Wait until the window of `Brief` is over."""
    [record] = locks(rig)
    end = int(record[8:18])
    eventually(lambda: rig.raw.time()[0] > end, 5)


def locks(rig: Rig) -> list[bytes]:
    generation = rig.store.look().generation
    return [
        raw for name, raw in rig.raw.hgetall(f"qik:unique:{generation}").items() if name != b"#"
    ]


def tell(number: int, job: type[Job] = Invoice) -> Code:
    """Push as a pass does."""
    return Passes(client.current().store).push(job, [(number,)]).codes[0]
