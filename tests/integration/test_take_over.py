"""A holder that dies or freezes is replaced within its lease and two seconds, and does no harm when it comes back.

Every round measures from the signal to the moment at which another process holds the lease, by PostgreSQL's own table.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from reconciler.engines import Engines
from reconciler.tables import lease, passes
from tests.faultproxy import FaultProxy, load_scripts, name_of
from tests.reconciler import tables
from tests.reconciler.shop import fill
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
LEASE = 1.5
ROUNDS = [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
APP = """
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Items(Reconciler, every=0.2, batch_size=10):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))
"""


class Processes:
    """Real processes of reconcilers on one database."""

    def __init__(self, folder: Path, home: Engine, environment: dict[str, str]) -> None:
        (folder / "shop_app.py").write_text(APP)
        self.home = home
        self._folder = folder
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, count: int = 1, **environment: str) -> list[subprocess.Popen[bytes]]:
        """Start so many at once, and wait until they take part."""
        started = [self.begin(**environment) for _ in range(count)]
        for each in started:
            eventually(lambda pid=each.pid: pid in self._present(), 60.0, "it takes part")  # type: ignore[misc]
        return started

    def begin(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start one."""
        command = [sys.executable, "-m", "reconciler.cli", "run", "shop_app", "--lease", str(LEASE)]
        with (self._folder / f"run{len(self._started)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self._folder, env={**self._environment, **environment}, stderr=log
            )
        self._started.append(process)
        return process

    def another(self) -> None:
        """Wait until there is one beside the holder."""
        eventually(lambda: len(self._present()) > 1, 60.0, "another one takes part")

    def of(self, pid: int) -> subprocess.Popen[bytes]:
        return next(each for each in self._started if each.pid == pid)

    def holder(self) -> int:
        """The process that holds the lease, 0 for nobody."""
        with self.home.connect() as connection:
            query = select(lease.c.holder).where(lease.c.reconciler == "Items")
            found = connection.execute(query).scalar_one_or_none()
        return int(found.split(":")[1]) if found else 0

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _present(self) -> list[int]:
        with self.home.connect() as connection:
            query = select(lease.c.shard).where(lease.c.reconciler.startswith("#"))
            known = [int(each.split(":")[1]) for each in connection.execute(query).scalars()]
        return [each for each in known if self.of(each).poll() is None]


@pytest.fixture
def processes(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    engines = Engines({"default": postgres_url})
    home = engines.home()
    tables.make(home)
    made = Processes(tmp_path, home, {"DATABASE_URL": postgres_url, "REDIS_URL": redis_url})
    yield made
    made.close()
    engines.dispose()


def taken_over(processes: Processes, before: int) -> float:
    """Wait until another process holds the lease; return the seconds."""
    began = time.monotonic()
    eventually(lambda: processes.holder() not in (0, before), LEASE + 10.0)
    return time.monotonic() - began


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_holder_is_replaced_within_its_lease_and_two_seconds(
    processes: Processes, rounds: int
) -> None:
    processes.start(2)
    took = []
    for _ in range(rounds):
        processes.begin()
        processes.another()
        before = eventually(processes.holder)
        processes.of(before).send_signal(signal.SIGKILL)
        took.append(taken_over(processes, before))

    assert max(took) <= LEASE + 2.0, took


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_frozen_holder_is_replaced_within_its_lease_and_two_seconds(
    processes: Processes, rounds: int
) -> None:
    one, two = processes.start(2)
    took = []
    for _ in range(rounds):
        before = eventually(processes.holder)
        processes.of(before).send_signal(signal.SIGSTOP)
        took.append(taken_over(processes, before))
        processes.of(before).send_signal(signal.SIGCONT)

    assert max(took) <= LEASE + 2.0, took
    assert (one.poll(), two.poll()) == (None, None)


@pytest.mark.parametrize("count", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_of_many_processes_one_at_a_time_runs_a_reconciler(
    processes: Processes, count: int
) -> None:
    fill(processes.home, range(1, 101))
    processes.start(count)
    first = eventually(processes.holder)
    eventually(lambda: _ended(processes.home), 30)
    processes.of(first).send_signal(signal.SIGKILL)
    taken_over(processes, first)
    eventually(lambda: len({row.holder for row in _ended(processes.home)}) > 1)

    rows = _ended(processes.home)
    assert len({row.term for row in rows}) == len({row.holder for row in rows}) == 2
    for before, after in pairwise(rows):
        assert before.ended_at <= after.started_at


def test_a_holder_that_was_frozen_in_a_pass_does_at_most_one_more_chunk(
    processes: Processes, redis_url: str, raw: Any, tmp_path: Path
) -> None:
    load_scripts(raw)
    rows = 8_000
    fill(processes.home, range(1, rows + 1))
    proxy = FaultProxy(redis_url, tmp_path)
    (frozen,) = processes.start(REDIS_URL=proxy.url)
    eventually(lambda: raw.llen("queue:work") > 300, 20.0)
    frozen.send_signal(signal.SIGSTOP)
    assert raw.llen("queue:work") < rows, "it was frozen in its first pass"
    processes.start()
    taken_over(processes, frozen.pid)
    at = len(proxy.calls)

    frozen.send_signal(signal.SIGCONT)

    eventually(lambda: _outcomes(processes.home, frozen.pid)["deposed"] == 1, 10.0)
    asked = Counter(name_of(words) for words in proxy.calls[at:])
    assert asked["push"] <= 1, asked
    assert asked["told"] <= 1, asked
    eventually(lambda: raw.llen("queue:work") == rows, 60.0)
    assert not set(_duplicates(raw))
    proxy.close()


def _ended(home: Engine) -> list[Any]:
    with home.connect() as connection:
        query = select(passes).where(passes.c.ended_at.is_not(None)).order_by(passes.c.id)
        return list(connection.execute(query))


def _outcomes(home: Engine, pid: int) -> Counter[str]:
    return Counter(row.outcome for row in _ended(home) if int(row.holder.split(":")[1]) == pid)


def _duplicates(raw: Any) -> list[bytes]:
    keys = Counter(
        each.partition(b'"args":')[2].partition(b"]")[0] for each in raw.lrange("queue:work", 0, -1)
    )
    return [key for key, count in keys.items() if count > 1]
