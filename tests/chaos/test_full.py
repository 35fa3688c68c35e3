"""Redis is full and refuses pushes: workers drain it without help: retries, dead jobs, locks, heartbeats and recovery."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import redis

from qik_core import Job, registry
from qik_core.errors import NotEnqueued
from tests.chaos import places
from tests.chaos.fleet import Fleet, held_by, sigkill
from tests.waiting import eventually

STEP = 100
APP = """
from qik_core.outcomes import RetryIn

class Row(Job, unique_for=600, retry=2):
    def perform(self, n: int, text: str) -> None:
        note("start", n)
        if n % 10 == 7 or (n % 10 == 3 and self.context.attempt == 1):
            raise ValueError("as asked")
        note("end", n)

    @classmethod
    def retry_in(cls, count, error, job):
        return RetryIn(0.1)
"""

with registry.scope():

    class Row(Job, unique_for=600, retry=2):
        def perform(self, n: int, text: str) -> None: ...


@pytest.fixture
def fleet(tmp_path: Path, redis_url: str) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, redis_url, APP)
    yield fleet
    fleet.close()


def fill(fleet: Fleet, raw: redis.Redis) -> int:
    """Push until Redis refuses; returns how many jobs it took. Every other chunk is scheduled."""
    raw.config_set("maxmemory", raw.info("memory")["used_memory"] + 4_000_000)
    taken: list[int] = []

    def push(first: int) -> None:
        rows = [(number, "x" * 1_000) for number in range(first, first + STEP)]
        fleet.push_rows(Row.definition, rows, delay=0.1 * (first // STEP % 2))
        taken.extend(range(first, first + STEP))

    with pytest.raises(NotEnqueued, match="is full"):
        deque(map(push, count(0, STEP)), maxlen=0)
    return len(taken)


@pytest.mark.every_server
def test_a_full_redis_is_drained_to_empty_without_help(fleet: Fleet, raw: redis.Redis) -> None:
    raw.sadd("paused", "default")
    pushed = fill(fleet, raw)
    assert pushed >= 1_000
    raw.config_set("maxmemory", 100_000)  # it stays full to the end, however much is drained
    worker = fleet.work("-p", "2", "-c", "5")
    eventually(lambda: raw.zcard("qik:alive") == raw.scard("processes") == 2)
    at = raw.time()[0] + 1
    eventually(lambda: raw.zcount("qik:alive", at, "+inf") == 2)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        raw.set("a", "1")
    raw.srem("paused", "default")
    eventually(lambda: fleet.counted("end").total() >= 200, 20)
    victim = fleet.children(worker)[0]
    sigkill(victim)
    held = held_by(raw, victim)

    ends = {number for number in range(pushed) if number % 10 != 7}
    eventually(lambda: set(fleet.counted("end")) == ends, 60, every=0.2)
    eventually(lambda: _left(raw) == {"dead"}, 20, every=0.1)
    after = places.look(raw)
    assert fleet.counted("end").total() - len(ends) <= held
    assert len(after.jobs) == pushed - len(ends)
    assert (after.wrong(), after.locks) == ([], [])
    assert "a defect" not in fleet.logs()


def _left(raw: redis.Redis) -> set[str]:
    return {where for each in places.look(raw).jobs.values() for where in each}
