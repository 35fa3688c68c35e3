from __future__ import annotations

import base64
import hashlib
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from qik_core.payload import Payload, Template, stamps
from qik_core.results import Code
from qik_core.store import Chunk, Origin
from qik_core.store.exchange import Done, Fetched
from qik_core.testing.memory import Entry, Memory
from qik_core.testing.stores import MemoryStore
from tests.qik_core.store.rig import Rig, Worker

HOUR = 3600.0


def digest(key: int) -> bytes:
    return base64.urlsafe_b64encode(hashlib.blake2b(b"%d" % key, digest_size=16).digest())[:22]


def chunk(
    keys: list[int],
    jids: list[int],
    *,
    until: Any = "success",
    origin: Origin = Origin.EDGE,
    delay: float | None = None,
    versions: list[bytes] | None = None,
    seconds: int = 3600,
) -> Chunk:
    names = [b"%024x" % number for number in jids]
    mark = b"S" if until == "success" else b"T"
    template = Template("default", {"class": "Once", "retry": 25})
    tail = stamps(time.time(), queued=delay is None)
    return Chunk(
        queue="default",
        jids=names,
        payloads=[
            template.build(digest(key) + mark + b"%d" % seconds, name, b"[%d]" % key, tail)
            for key, name in zip(keys, names, strict=True)
        ],
        digests=[digest(key) for key in keys],
        seconds=seconds,
        until=until,
        origin=origin,
        delays=None if delay is None else [delay] * len(keys),
        versions=versions,
    )


class Both:
    """The same story told to a memory and to a server; every answer must be the same."""

    def __init__(self, rig: Rig) -> None:
        self.memory = Memory()
        self.fake = MemoryStore(self.memory, "fake()")
        self.rig = rig
        self.worker: Worker = rig.worker()
        self.running: list[tuple[Entry, Fetched]] = []

    def push(self, each: Chunk) -> list[Code]:
        mine, theirs = self.fake.push(each), self.rig.store.push(each)
        assert (list(mine.codes), mine.jid) == (list(theirs.codes), theirs.jid)
        return list(mine.codes)

    def told(self, keys: list[int], versions: list[bytes] | None) -> list[bool]:
        names = [digest(key) for key in keys]
        mine, theirs = self.fake.told(names, versions)[0], self.rig.store.told(names, versions)[0]
        assert mine == theirs
        return mine

    def fetch(self) -> str | None:
        mine = self.memory.take(lambda _: True, scheduled=False)
        theirs = self.worker.fetch(1)
        jid = Payload.decode(theirs[0].raw).jid if theirs else None
        assert (None if mine is None else mine.jid) == jid
        if mine is not None:
            self.running.append((mine, theirs[0]))
        return jid

    def settle(self, which: int) -> None:
        mine, theirs = self.running.pop(which)
        self.memory.end(mine)
        self.worker.exchange(Done(theirs), want=0)

    def queued(self) -> list[str]:
        mine = [each.jid for each in self.memory.entries() if each.at is None]
        assert mine == self.rig.queued()
        return mine


@pytest.fixture
def both(rig: Rig) -> Both:
    return Both(rig)


@pytest.mark.parametrize("seed", [*range(11), 42])
def test_a_memory_answers_every_push_fetch_and_end_as_a_real_server(both: Both, seed: int) -> None:
    dice = random.Random(seed)
    numbers = iter(range(1, 10_000))
    given: list[tuple[int, int]] = []

    def push() -> None:
        count = dice.choice([1, 1, 1, 3])
        keys = [dice.randrange(6) for _ in range(count)]
        jids = [next(numbers) for _ in keys]
        if given and count == 1 and dice.random() < 0.2:
            key, jid = dice.choice(given)
            keys, jids = [key], [jid]
        given.extend(zip(keys, jids, strict=True))
        both.push(
            chunk(
                keys,
                jids,
                origin=dice.choice(list(Origin)) if count == 1 else Origin.EDGE,
                delay=dice.choice([None, None, HOUR]),
                until=dice.choice(["success", "success", "start"]),
                versions=[dice.choice([b"aaaaaa", b"bbbbbb", b"------"]) for _ in keys],
            )
        )

    def told() -> None:
        tags = [dice.choice([b"aaaaaa", b"bbbbbb", b"------"]) for _ in range(6)]
        both.told(list(range(6)), dice.choice([None, tags]))

    def settle() -> None:
        if both.running:
            both.settle(dice.randrange(len(both.running)))

    steps: list[Callable[[], Any]] = [push, push, push, told, both.fetch, settle]
    for _ in range(120):
        dice.choice(steps)()
        both.queued()


def test_a_memory_knows_a_window_that_has_passed() -> None:
    clock = [1_800_000_000.0]
    memory = Memory(lambda: clock[0])
    memory.push(chunk([1], [1], seconds=60))
    clock[0] += 61

    assert memory.push(chunk([1], [2], origin=Origin.PASS))[0] == [Code.DUPLICATE_QUEUED]
    assert memory.push(chunk([1], [3], seconds=60))[0] == [Code.ENQUEUED]
    assert [each.jid[-1] for each in memory.entries()] == ["1", "3"]

    fetched = memory.take(lambda _: True)
    assert fetched is not None
    assert fetched.jid[-1] == "3"
    assert memory.superseded == 1


def test_a_job_that_is_given_back_is_next_and_holds_its_lock() -> None:
    memory = Memory()
    memory.push(chunk([1], [1]))
    memory.push(chunk([2], [2]))
    first = memory.take(lambda _: True)
    assert first is not None

    memory.give_back(first)

    assert memory.entries()[0] == first
    assert memory.push(chunk([1], [3]))[0] == [Code.DUPLICATE_QUEUED]


def test_a_scheduled_job_that_is_given_back_is_scheduled() -> None:
    memory = Memory()
    memory.push(chunk([1], [1], delay=HOUR))
    first = memory.take(lambda _: True)
    assert first is not None

    memory.give_back(first)

    assert memory.entries() == [first]
    assert memory.push(chunk([1], [3], delay=HOUR))[0] == [Code.DUPLICATE_SCHEDULED]
    assert memory.push(chunk([1], [4]))[0] == [Code.ADVANCED]
