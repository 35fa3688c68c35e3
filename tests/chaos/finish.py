"""What other processes do after one has died: fence, recover, promote, roll, and work off what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from qik_core.payload import Payload
from qik_core.store import due, held, recovery, rolls
from qik_core.store.exchange import Done, Fetched, queue_of
from tests.qik_core.store.rig import Rig, Worker


def rescue(rig: Rig) -> None:
    """Bring home what dead processes held."""
    for identity in recovery.Census().look(rig.link):
        if recovery.holds_something(rig.link, identity):
            assert recovery.fence(rig.link, identity, recovery.SURE)
            recovery.recover(rig.link, identity, rig.store.candidate)


def roll(rig: Rig) -> int:
    """Roll to the end; says how many locks had no job."""
    rig.store.audit(["default"])
    rig.raw.delete("qik:roller")  # who walked is dead, and its term has ended
    left = rolls.roll(rig.link, rig.store.candidate, "rescuer", deadline=0)
    assert left is not None, "the roll did not end"
    return left


def release(rig: Rig) -> None:
    """Put every held job on its queue."""
    for name in held.names(rig.link.call):
        for key in held.lists(name):
            for at, raws in held.windows(rig.link.call, key):
                rig.raw.delete(f"qik:released:{name}")
                jobs = [(queue_of(raw), raw) for raw in raws]
                assert held.release(rig.link, name, key, at, jobs) == len(jobs)


def drain(rig: Rig) -> Counter[str]:
    """Let everything fall due and run it, held jobs as well; says how often each job came."""
    release(rig)
    for key in (b"schedule", b"retry", *rig.raw.scan_iter("qik:later:*")):
        if members := rig.raw.zrange(key, 0, -1):
            rig.raw.zadd(key, dict.fromkeys(members, 0), xx=True)
    for source in due.sources(["default"]):
        while due.promote(rig.link, source).jobs:
            pass
    worker, came = rig.worker("host:9:last"), Counter[str]()
    for suspects in (True, False):
        done: Sequence[Done] = (Done(Fetched(b"0.0", b"", "")),)
        while done:
            done = [Done(job) for job in _exchange(rig, worker, done, suspects=suspects)]
            came.update(Payload.decode(each.job.raw).jid for each in done)
    worker.store.leave(rig.link, ["default"])
    return came


def _exchange(
    rig: Rig, worker: Worker, done: Sequence[Done], *, suspects: bool
) -> Sequence[Fetched]:
    call = worker.store.prepare(done, ["default"], 500, suspects=suspects)
    worker.sequence += 1
    return worker.store.exchange(rig.link, worker.sequence, call).jobs


def leftovers(raw: Any) -> list[str]:
    """Return the keys that a drained server must not have: what stays, or ends by itself, is all right."""
    stays = (
        "stat:",
        "qik:n:",
        "qik:counts",
        "qik:epoch",
        "qik:cancelled",
        "qik:ended",
        "qik:switched",
        "queues",
        "dead",
    )
    names = [name.decode() for name in raw.scan_iter(count=1000)]
    return [
        each
        for each in names
        if not each.startswith(stays)
        and raw.ttl(each) < 0
        and not (each.startswith("qik:unique:") and raw.hlen(each) == 1)
    ]
