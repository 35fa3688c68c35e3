"""A worker freezes for longer than a lease and thaws, as a suspended machine does: what it still thinks counts nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from qik_core import Job, registry
from qik_core.results import Code
from qik_core.store import recovery
from tests.chaos import places
from tests.chaos.fleet import Fleet, Run
from tests.integration.shop import LEASE, drained
from tests.qik_core.engine import Engine, Jobs, held
from tests.qik_core.engine import drained as drained_
from tests.qik_core.store.rig import Rig
from tests.waiting import eventually

ROWS = 5
APP = """
class Row(Job, unique_for=600, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        for _ in range(100):
            note("breath", n)
            time.sleep(0.01)
            self.context.checkpoint()
        while n >= 100 and not (HERE / "go").exists():
            time.sleep(0.01)
            self.context.checkpoint()
        note("end", n)
"""

with registry.scope():

    class Row(Job, unique_for=600, retry=3):
        def perform(self, n: int) -> None: ...


@pytest.fixture
def fleet(tmp_path: Path, redis_url: str) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, redis_url, APP)
    yield fleet
    fleet.close()


def freeze(fleet: Fleet, worker: subprocess.Popen[bytes], number: int) -> None:
    """Stop or go on: parent and child, as all processes of a suspended machine do."""
    (child,) = fleet.children(worker)
    os.kill(worker.pid, number)
    os.kill(child, number)


def overlaps(runs: list[Run]) -> list[int]:
    """Return the jobs that breathed in two processes at once. Between two breaths half a second apart one was frozen."""
    breaths: defaultdict[int, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.at):
        breaths[run.number].append(run)
    return [
        number
        for number, mine in breaths.items()
        if any(
            here.pid != there.pid and any(run.pid == here.pid for run in _soon(mine, there))
            for here, there in pairwise(mine)
        )
    ]


def _soon(runs: list[Run], after: Run) -> list[Run]:
    return [run for run in runs if after.at < run.at < after.at + 0.5]


def identities(raw: redis.Redis, pid: int) -> dict[str, object]:
    """Return the working hashes of a process, with their numbers."""
    return {key.decode(): raw.hget(key, "#") for key in raw.scan_iter(f"qik:working:*:{pid}:*")}


def processed(raw: redis.Redis) -> int:
    return int(raw.get("stat:processed") or 0)


def test_the_results_of_a_thawed_process_are_refused_and_it_works_on_under_a_new_identity(
    fleet: Fleet, raw: redis.Redis
) -> None:
    zombie = fleet.work("-c", "5")
    (child,) = fleet.children(zombie)
    fleet.tell(Row.definition, range(ROWS))
    eventually(lambda: len(fleet.counted("start")) == ROWS)
    ((before, _),) = identities(raw, child).items()
    freeze(fleet, zombie, signal.SIGSTOP)
    other = fleet.work("-c", "5")
    eventually(lambda: len(fleet.counted("end")) == ROWS, LEASE + 10)
    eventually(drained(raw))
    freeze(fleet, zombie, signal.SIGCONT)

    eventually(lambda: "fenced: back as a new process" in fleet.log(0))
    after = eventually(lambda: {k: v for k, v in identities(raw, child).items() if k != before})
    assert len(after) == 1
    assert raw.hgetall(before) == {b"#": b"fenced"}
    other.send_signal(signal.SIGTERM)
    assert other.wait(10) == 0
    assert processed(raw) == ROWS
    fleet.tell(Row.definition, range(10, 10 + ROWS))
    eventually(lambda: len(fleet.counted("end")) == 2 * ROWS)
    eventually(drained(raw))
    assert {run.pid for run in fleet.evidence() if run.number >= 10} == {child}
    assert fleet.counted("end").total() == processed(raw) == 2 * ROWS
    assert overlaps([run for run in fleet.evidence() if run.event == "breath"]) == []


def test_a_thawed_process_releases_no_lock_of_those_who_took_over(
    fleet: Fleet, raw: redis.Redis
) -> None:
    numbers = range(100, 100 + ROWS)
    zombie = fleet.work("-c", "5")
    fleet.tell(Row.definition, numbers)
    eventually(lambda: len(fleet.counted("start")) == ROWS)
    freeze(fleet, zombie, signal.SIGSTOP)
    fleet.work("-c", "5")
    eventually(lambda: fleet.counted("start").total() == 2 * ROWS, LEASE + 10)
    held = sorted((lock.key, lock.state, lock.jid) for lock in places.look(raw).locks)
    freeze(fleet, zombie, signal.SIGCONT)

    eventually(lambda: "fenced: back as a new process" in fleet.log(0))
    fleet.tell(Row.definition, [1])
    eventually(lambda: fleet.counted("end")[1])  # the zombie is free again: its old runs are over
    seen = [(lock.key, lock.state, lock.jid) for lock in places.look(raw).locks]
    assert [state for _, state, _ in held] == ["r"] * ROWS
    assert set(held) <= set(seen)
    fleet.go()
    eventually(drained(raw))
    assert fleet.counted("end") == {1: 1, **dict.fromkeys(numbers, 1)}


def test_the_end_of_a_run_from_before_a_fence_frees_no_lock_of_the_run_after_it(
    redis_url: str, raw: redis.Redis
) -> None:
    """The process that was fenced may be the one that fetches the job again."""
    rig, jobs = Rig(redis_url, raw), Jobs()
    jobs.slow(1)
    engine = Engine(redis_url, jobs)
    rig.edge(1)
    eventually(lambda: jobs.runs[1] == 1)
    first = jobs.gates[1]
    jobs.slow(1)
    recovery.fence(rig.link, engine.identity, recovery.NO_BEAT)
    recovery.recover(rig.link, engine.identity, rig.store.candidate)
    eventually(lambda: jobs.runs[1] == 2)
    first.set()
    eventually(lambda: jobs.ends[1] == 1)
    rig.edge(2)
    eventually(lambda: jobs.ends[2] and held(rig) == 1)

    assert rig.edge(3, keys=[1]) == [Code.DIRTIED]
    assert processed(raw) == 1
    jobs.open()
    eventually(lambda: jobs.ends[1] == 3 and drained_(rig))
    engine.stop()
    rig.link.close()
    rig.store.close()


def test_overlaps_are_found() -> None:
    one = [Run("breath", 1, 10, at / 100) for at in range(0, 100, 2)]
    two = [Run("breath", 1, 11, at / 100) for at in range(51, 151, 2)]
    later = [Run("breath", 1, 12, 5 + at / 100) for at in range(3)]
    frozen = [Run("breath", 1, 10, 9.0)]
    assert overlaps(one + two) == [1]
    assert overlaps(one + later + frozen) == []
