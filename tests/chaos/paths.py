"""Every path over the wire, as one process walks it: what stands in Redis before, what it does, what must be after.

Jobs and keys are numbers, as in `rig`. Each act sends again what was not answered, as the program does that it stands
for: the courier an exchange until it is answered, the poller and the roller at their next look, the parent's helper.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from qik_core import Job, registry
from qik_core.adoption import AdoptingStore
from qik_core.api import DeadSet, LaterSet, Queue, RetrySet, ScheduledSet, cancel
from qik_core.client import Client
from qik_core.context import Context
from qik_core.definition import Definition
from qik_core.errors import StoreUnavailable
from qik_core.passes import Passes
from qik_core.payload import Payload
from qik_core.plan import Plan
from qik_core.results import Code
from qik_core.store import Origin, Store, due, held, recovery, rolls
from qik_core.store.exchange import Answer, Done, Fetched, Kind, Other, Outcome, queue_of
from qik_core.store.link import Link, Links
from qik_core.store.worker import Held
from tests.chaos.fates import NOTED, noted, settled, stopped, suspect
from tests.qik_core.engine import Engine, Jobs
from tests.qik_core.store.rig import LIMITS, Rig, Worker, digest, jid
from tests.waiting import eventually

T = TypeVar("T")

ACTOR: Final = "host:1:actor"
LOST: Final = "host:2:lost"
BULK: Final = 1_100  # three chunks
_TRIES: Final = 20


def again(call: Callable[[], T]) -> T:
    """Ask until there is an answer."""
    for _ in range(_TRIES):
        try:
            return call()
        except StoreUnavailable:
            continue
    return call()


def name(number: int) -> str:
    """Return a job's jid."""
    return jid(number).decode()


class Actor(Worker):
    """The process that walks a path: a worker whose every call is sent until it is answered."""

    def __init__(self, url: str, timeout: float = 2.0) -> None:
        rig = Rig.__new__(Rig)  # its own begins with a look, under the usual deadlines
        rig.url, rig.raw, rig.link = url, None, Link(url, timeout=timeout)
        rig.store = Store(url, birth_ms=0)
        rig.store.links = Links(url, timeout=timeout)
        self.link = rig.link
        again(rig.store.look)
        again(lambda: Worker.__init__(self, rig, ACTOR))

    def send(
        self,
        sequence: int,
        *outcomes: Outcome,
        want: int = 10,
        queues: Sequence[str] = ("default",),
    ) -> Answer:
        call = self.store.prepare(outcomes, queues, want)
        return again(lambda: self.store.exchange(self.link, sequence, call))

    def close(self) -> None:
        self.link.close()
        self.rig.store.close()


@dataclass(frozen=True)
class Path:
    """One path. `ends` are the jobs that it may end; all others that stood there before must be somewhere after it."""

    name: str
    act: Callable[[Actor], Any]
    arrange: Callable[[Rig], Any] = lambda rig: None
    ends: frozenset[str] = field(default_factory=frozenset)
    loses: bool = False
    """It stages a loss of Redis: what was there before may be gone."""
    leaves_orphans: bool = False
    """Somebody deleted a job by hand: its lock stands until the end of a roll."""
    noted: frozenset[str] = field(default_factory=frozenset)
    """Jobs whose end leaves a record that stays."""


# --- pushes ------------------------------------------------------------------------


def definition() -> Definition:
    """Return a class of unique jobs, defined here and nowhere else."""
    with registry.scope():

        class Row(Job, unique_for=600):
            def perform(self, n: int) -> None: ...

    found: Definition = Row.definition
    return found


def bulk(actor: Actor) -> None:
    Client(actor.rig.store).bulk(definition(), [(n,) for n in range(BULK)], Plan())


def ask(actor: Actor) -> None:
    store = actor.rig.store
    assert again(lambda: store.told([digest(1), digest(9)]))[0] == [True, False]
    again(store.look)
    assert again(lambda: store.audit(["default"])) == 0
    again(store.ask_for_roll)


# --- a worker --------------------------------------------------------------------------


def stand_by(rig: Rig) -> None:
    """Put one job of each fate on the queue, and two more."""
    rig.push(1, unique=False)
    rig.push(*range(2, 7))
    rig.push(7, until="start")
    rig.push(8)
    rig.push(9, 10)


def work(actor: Actor) -> None:
    jobs = actor.fetch(8)
    assert actor.rig.edge(88, keys=[8]) == [Code.DIRTIED]
    more = actor.exchange(*map(settled, jobs), want=2).jobs
    actor.exchange(*map(settled, more), want=0)


def end(actor: Actor) -> None:
    """Settle jobs of a reconciled class, read their records, and forget the oldest two as one that has them in SQL."""
    jobs = actor.fetch(8)
    assert actor.rig.edge(88, keys=[8]) == [Code.DIRTIED]
    actor.exchange(*map(noted, jobs), want=0)
    passes = Passes(actor.rig.store)
    assert len(again(passes.ended)) == len(NOTED)
    again(lambda: passes.forget_ended(2))
    assert len(again(passes.ended)) == len(NOTED) - 2


def push_as_ruby(rig: Rig) -> None:
    """Leave unique jobs on the queue as Ruby writes them, the third one more than its key allows."""
    for number, key in ((1, 1), (2, 2), (3, 1)):
        job = {"class": "Row", "args": [key], "jid": name(number), "queue": "default"}
        rig.raw.lpush("queue:default", json.dumps(job))
    rig.raw.sadd("queues", "default")


def adopt(actor: Actor) -> None:
    found = definition()
    candidate = actor.rig.store.candidate
    actor.store = AdoptingStore(ACTOR, LIMITS, candidate, lambda _: found)
    jobs = actor.exchange(want=3).jobs
    actor.exchange(*map(Done, jobs), want=0)


def beat(actor: Actor) -> None:
    """Beat, lose the working hash as by a failover, assert, beat."""
    jobs = actor.fetch(3)
    again(actor.beat)
    again(lambda: actor.link.call("UNLINK", f"qik:working:{ACTOR}"))
    assert actor.send(actor.sequence + 1).status == "lost"
    held = [Held(job.field, False, job.raw) for job in jobs]
    again(lambda: actor.store.hold(actor.link, held, mark=f"{actor.sequence}:0"))
    again(actor.beat)
    actor.exchange(*map(settled, jobs), want=0)


def give_back(actor: Actor) -> None:
    jobs = actor.fetch(5)
    again(lambda: actor.store.give_back(actor.link, jobs[:4]))
    actor.exchange(*map(settled, jobs[4:]), want=0)


def switch_off(actor: Actor) -> None:
    """Settle jobs whose class is switched off, push one to be held, and release what is held."""
    jobs = actor.fetch(5)
    assert actor.rig.edge(88, keys=[2]) == [Code.DIRTIED]
    assert actor.rig.edge(33, keys=[3]) == [Code.DIRTIED]
    actor.exchange(*map(stopped, jobs), want=0)
    assert actor.rig.edge(9, held="Mail") == [Code.ENQUEUED]
    _release(actor, "Charge", 0)
    _release(actor, "Mail", 1)


def _release(actor: Actor, name: str, which: int) -> None:
    key, link = held.lists(name)[which], actor.link
    ((at, raws),) = again(lambda: list(held.windows(link.call, key)))
    again(lambda: held.release(link, name, key, at, [(queue_of(raws[0]), raws[0])]))


def leave(actor: Actor) -> None:
    job, *_ = actor.fetch(1)
    actor.exchange(settled(job), want=0)
    again(actor.beat)
    again(lambda: actor.store.leave(actor.link, ["default"]))


class Fates(Jobs):
    """Jobs of a whole worker that end as their numbers say."""

    def process(self, job: Fetched, entered: Callable[[Context], None]) -> Outcome:
        outcome = super().process(job, entered)
        return settled(job) if isinstance(outcome, Done) else outcome


WHOLE: Final = frozenset({1, 2, 3, 4, 6, 7, *range(10, 19)})
STAYS: Final = {name(3): ["retry"], name(4): ["dead"]}
"""Where those of them are that do not end."""


def stand_in_line(rig: Rig) -> None:
    rig.push(1, unique=False)
    rig.push(7, until="start")
    rig.push(*sorted(WHOLE - {1, 7}))


def live(actor: Actor) -> None:
    """Be a whole worker, with its threads, from registration to goodbye."""
    jobs = Fates()
    engine = Engine(actor.rig.url, jobs, beats=True)
    eventually(lambda: jobs.ends.total() == len(WHOLE))
    engine.heartbeat.beat_soon()
    engine.stop()


# --- poller, recovery, roll ------------------------------------------------------------


def fall_due(rig: Rig) -> None:
    """Leave due jobs in the schedule, in the retry set and in a queue's later."""
    rig.push(*range(1, 4), delays=[0.001] * 3)
    rig.push(4, unique=False, delays=[0.001])
    rig.push(*range(5, 8), delays=[0.001] * 3, origin=Origin.PASS)
    rig.push(8, 9)
    worker = rig.worker("host:3:gone")
    retries = [_retry(job) for job in worker.fetch(2)]
    worker.exchange(*retries, want=0)
    worker.store.leave(rig.link, ["default"])
    seconds, micros = rig.raw.time()
    while rig.raw.time() <= (seconds, micros + 3000):
        pass


def _retry(job: Fetched) -> Outcome:
    payload = Payload.decode(job.raw)
    return Other(job, Kind.RETRY, payload.unique, payload.jid, job.queue, job.raw, 0.001)


def promote(actor: Actor) -> None:
    for source in due.sources(["default"]):
        while again(lambda source=source: due.promote(actor.link, source)).jobs:  # type: ignore[misc]
            pass


def die(rig: Rig) -> None:
    """Leave a process that holds jobs and is no more."""
    stand_by(rig)
    worker = rig.worker(LOST)
    worker.fetch(8)
    worker.beat()
    assert rig.edge(88, keys=[8]) == [Code.DIRTIED]


def recover(actor: Actor) -> None:
    link, candidate = actor.link, actor.rig.store.candidate
    assert again(lambda: recovery.fence(link, LOST, recovery.SURE))
    again(lambda: recovery.recover(link, LOST, candidate))


def convict(actor: Actor) -> None:
    """As `recover`, of a process that may only be frozen."""
    link, candidate = actor.link, actor.rig.store.candidate
    seen = again(lambda: recovery.Census().look(link))[LOST]
    assert again(lambda: recovery.fence(link, LOST, seen))
    again(lambda: recovery.recover(link, LOST, candidate))


def run_suspects(actor: Actor) -> None:
    """Recover to the suspects, and run two of them, each alone."""
    link, candidate = actor.link, actor.rig.store.candidate
    again(lambda: recovery.fence(link, LOST, recovery.SURE))
    again(lambda: recovery.recover(link, LOST, candidate, home=suspect))
    for _ in range(2):
        call = actor.store.prepare((), ("default",), 1, suspects=True)
        number = actor.sequence + 1
        answer = again(lambda: actor.store.exchange(actor.link, number, call))  # noqa: B023 - used at once
        actor.sequence = number
        actor.exchange(*map(settled, answer.jobs), want=0)


def fill_everything(rig: Rig) -> None:
    """Leave jobs in every set and on the queue."""
    fall_due(rig)
    rig.push(*range(11, 15))


def manage(actor: Actor) -> None:
    """Do what people and programs do to jobs that wait."""
    store = actor.rig.store
    again(lambda: cancel(name(11), store))
    again(lambda: Queue("default", store).bury_all())
    again(lambda: DeadSet(store).retry_all())
    again(lambda: ScheduledSet(store).advance_all())
    again(lambda: RetrySet(store).retry_all())
    again(lambda: LaterSet("default", store).delete_all())


def delete_one(rig: Rig) -> None:
    """Leave jobs of every kind, a lock without a job, and nobody who holds anything."""
    fall_due(rig)
    rig.push(*range(11, 16))
    assert rig.raw.lrem("queue:default", 1, rig.raw.lindex("queue:default", 0)) == 1


def roll(actor: Actor) -> None:
    """Roll while this process itself holds jobs, so that its beat is waited for."""
    jobs = actor.fetch(2)
    link, candidate = actor.link, actor.rig.store.candidate
    left = again(
        lambda: rolls.roll(
            link,
            candidate,
            "walker",
            deadline=float("inf"),
            wait=lambda _: again(actor.beat),
        )
    )
    assert left is not None
    actor.exchange(*map(settled, jobs), want=0)


def _names(*numbers: int) -> frozenset[str]:
    return frozenset(map(name, numbers))


def _push(*numbers: int, **rest: Any) -> Callable[[Actor], Any]:
    return lambda actor: actor.rig.push(*numbers, **rest)


PATHS: Final = {
    path.name: path
    for path in (
        Path("push", _push(1)),
        Path("plain push", _push(1, unique=False)),
        Path("scheduled push", _push(1, 2, delays=[60, 61])),
        Path("push of a pass", _push(1, 2, delays=[0, 61], origin=Origin.PASS)),
        Path("advance", _push(2, keys=[1]), lambda rig: rig.push(1, delays=[600])),
        Path("bulk", bulk),
        Path("told, look, audit", ask, lambda rig: rig.push(1)),
        Path("exchange", work, stand_by, _names(1, 2, 6, 7, 9, 10)),
        Path("ended", end, stand_by, _names(1, 2, 6, 7), noted=_names(6, 7)),
        Path("adopt", adopt, push_as_ruby, _names(1, 2, 3)),
        Path("beat, assert", beat, lambda rig: rig.push(1, 2, 7), _names(1, 2, 7), loses=True),
        Path("give back", give_back, stand_by, _names(1, 2, 6)),
        Path("switch off", switch_off, lambda rig: rig.push(*range(1, 6)), _names(2, 4)),
        Path("leave", leave, lambda rig: rig.push(1, 2), _names(1)),
        Path("live", live, stand_in_line, _names(*WHOLE - {3, 4})),
        Path("promote", promote, fall_due),
        Path("recover", recover, die),
        Path("convict", convict, die),
        Path("suspects", run_suspects, die, _names(1, 2, 6, 7, 8)),
        Path("manage", manage, fill_everything, _names(5, 6, 7, 11)),
        Path("roll", roll, delete_one, _names(8, 9, 11, 12), leaves_orphans=True),
    )
}
