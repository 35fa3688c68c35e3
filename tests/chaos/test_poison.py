"""Jobs that take their process down are dead after three deaths, each with that reason, and their neighbours are not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from qik_core import Job, registry
from tests.chaos import places
from tests.chaos.fleet import Fleet
from tests.waiting import eventually

KINDS = ("segfault", "exit", "abort", "hold the GIL", "eat memory")
WAYS = {kind: number for number, kind in enumerate(KINDS)}
NEIGHBOURS = 1_000
APP = """
import ctypes

def hold_the_gil():
    mutex = ctypes.create_string_buffer(64)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)

def eat_memory():
    eaten = []
    while len(eaten) < 150:
        eaten.append(bytearray(b"x") * 8_000_000)
        time.sleep(0.01)
    raise RuntimeError("nobody minds a gigabyte")

WAYS = (lambda: ctypes.string_at(0), lambda: os._exit(3), os.abort, hold_the_gil, eat_memory)

class Poison(Job, unique_for=600, retry=5):
    def perform(self, way: int) -> None:
        note("poison", way)
        WAYS[way]()

class Row(Job, unique_for=600, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        time.sleep(random.random() * 0.05)
        note("end", n)
"""

with registry.scope():

    class Poison(Job, unique_for=600, retry=5):
        def perform(self, way: int) -> None: ...

    class Row(Job, unique_for=600, retry=3):
        def perform(self, n: int) -> None: ...


@pytest.fixture
def fleet(tmp_path: Path, redis_url: str) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, redis_url, APP, MALLOC_ARENA_MAX="2")
    yield fleet
    fleet.close()


def dead(raw: redis.Redis) -> list[dict[str, Any]]:
    seen = places.look(raw)
    return [json.loads(seen.payloads[jid]) for jid, where in seen.jobs.items() if where == ["dead"]]


def moments(log: str, words: str) -> list[float]:
    """Return when a log has a line with these words, epoch seconds."""
    lines = re.findall(rf"^(\S+)Z .*{words}", log, re.MULTILINE)
    return [datetime.fromisoformat(f"{at}+00:00").timestamp() for at in lines]


def poisoned(fleet: Fleet, raw: redis.Redis, kinds: tuple[str, ...], neighbours: int) -> None:
    """Let these kinds of poison loose among their neighbours, on four processes, and hold the promise to it."""
    for at, kind in enumerate(kinds):
        fleet.tell(Row.definition, range(at * 50, at * 50 + 50))
        fleet.tell(Poison.definition, [WAYS[kind]])
    fleet.tell(Row.definition, range(50 * len(kinds), neighbours))
    fleet.spawn("-p", "4", "-c", "5", "--max-memory", "160")  # it may never be ready as a whole
    eventually(lambda: len(dead(raw)) == len(kinds), 90, every=0.2)
    eventually(lambda: len(fleet.counted("end")) == neighbours, 30, every=0.2)
    eventually(lambda: not places.look(raw).locks, 20, every=0.2)

    after = places.look(raw)
    assert after.wrong() == []
    assert {where for each in after.jobs.values() for where in each} == {"dead"}
    buried = dead(raw)
    assert sorted(job["args"][0] for job in buried) == sorted(WAYS[kind] for kind in kinds)
    assert {job["class"] for job in buried} == {"Poison"}
    assert {job["deaths"] for job in buried} == {3}
    assert {job["error_message"] for job in buried} == {"3 processes died while they ran this job"}
    runs = fleet.counted("poison")
    assert all(3 <= runs[WAYS[kind]] <= 4 for kind in kinds), (
        runs
    )  # one more for a death that nobody saw
    starts = fleet.counted("start")
    assert set(fleet.counted("end")) == set(starts) == set(range(neighbours))
    deaths = len(moments(fleet.log(0), r"child \d ended"))
    assert starts.total() - neighbours <= 10 * deaths  # what ran in five threads, or had just ended
    ready = sorted(moments(fleet.log(0), r"ready.*identity"))[4:]
    assert len(ready) - 1 <= ready[-1] - ready[0] + 1, ready  # a replacement a second at the most
    assert deaths <= 3 * len(kinds) + 2


@pytest.mark.timeout(240)
def test_each_kind_of_poison_is_dead_after_three_deaths_and_none_of_a_thousand_neighbours(
    fleet: Fleet, raw: redis.Redis
) -> None:
    poisoned(fleet, raw, KINDS, NEIGHBOURS)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.every_server
@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_poison_is_dead_after_three_deaths(
    fleet: Fleet, raw: redis.Redis, kind: str
) -> None:
    poisoned(fleet, raw, (kind,), NEIGHBOURS)
