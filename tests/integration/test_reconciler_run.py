"""`reconciler run` as an operator has it: real processes, a real FLUSHALL, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, select, text

from qik_core.embedded import Embedded
from reconciler.engines import Engines
from reconciler.tables import lease, passes
from tests.databases import on
from tests.probing import check_with_promtool, free_port, get, samples
from tests.reconciler import tables
from tests.reconciler.shop import Item
from tests.waiting import alive, eventually

ROOT = Path(__file__).parents[2]
LEASE = 1.5
ROWS = 500
APP = """
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Items(Reconciler, every=3600, batch_size=100):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))

class Often(Reconciler, every=0.5, queue="often"):
    pending = derive(Work, select(Item.id).where(Item.state == "often"))
"""
Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def home(database_url: str) -> Iterator[Engine]:
    """A database with pending rows."""
    engines = Engines({"default": database_url})
    engine = engines.home()
    tables.make(engine)
    rows = [
        {"id": each, "state": "pending", "rank": 0, "version": 1} for each in range(1, ROWS + 1)
    ]
    with engine.begin() as connection:
        connection.execute(insert(Item), rows)
    yield engine
    engines.dispose()


@pytest.fixture
def spawn(tmp_path: Path, home: Engine, database_url: str, redis_url: str) -> Iterator[Spawn]:
    """Starts processes of reconcilers; none is left behind."""
    (tmp_path / "shop_app.py").write_text(APP)
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
    }

    def begin(**more: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"run{len(started)}.log").open("wb")
        command = [sys.executable, "-m", "reconciler.cli", "run", "shop_app", "--lease", str(LEASE)]
        process = subprocess.Popen(command, cwd=tmp_path, env={**environment, **more}, stderr=log)
        log.close()
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def holder(home: Engine, name: str = "Items") -> str | None:
    with home.connect() as connection:
        query = select(lease.c.holder).where(lease.c.reconciler == name)
        found: str | None = connection.execute(query).scalar_one_or_none()
        return found


def last_outcome(home: Engine) -> str | None:
    with home.connect() as connection:
        query = select(passes.c.outcome).order_by(passes.c.id.desc()).limit(1)
        found: str | None = connection.execute(query).scalar_one_or_none()
        return found


def pid_of(text_: str | None) -> int:
    assert text_ is not None
    return int(text_.split(":")[1])


def test_rows_are_told_once_by_two_processes(spawn: Spawn, raw: Any) -> None:
    spawn()
    spawn()

    eventually(lambda: raw.llen("queue:work") == ROWS, 15.0)
    keys = {
        payload.partition(b'"args":')[2].partition(b"]")[0]
        for payload in raw.lrange("queue:work", 0, -1)
    }
    assert len(keys) == ROWS


@on("postgres")
def test_after_flushall_rows_are_told_again_within_two_seconds_each_time(
    spawn: Spawn, raw: Any
) -> None:
    spawn()
    eventually(lambda: raw.llen("queue:work") == ROWS, 15.0)

    for _ in range(5):
        raw.flushall()
        eventually(lambda: raw.llen("queue:work") > 0, 2.0, "the first row is told again")
        eventually(lambda: raw.llen("queue:work") == ROWS, 5.0, "every row is told again")


@pytest.mark.slow
def test_twenty_flushes_of_twenty_are_healed_within_two_seconds(spawn: Spawn, raw: Any) -> None:
    spawn()
    eventually(lambda: raw.llen("queue:work") == ROWS, 15.0)

    for number in range(20):
        moment = time.monotonic() + 0.037 * number
        eventually(lambda moment=moment: time.monotonic() > moment)  # type: ignore[misc]
        raw.flushall()
        eventually(lambda: raw.llen("queue:work") > 0, 2.0)
        eventually(lambda: raw.llen("queue:work") == ROWS, 5.0)


@on("mariadb")
def test_a_queue_deleted_under_its_locks_is_told_again(
    spawn: Spawn, home: Engine, raw: Any
) -> None:
    """X1: by the next pass."""
    with home.begin() as connection:
        connection.execute(text("UPDATE item SET state = 'often'"))
    spawn()
    eventually(lambda: raw.llen("queue:often") == ROWS, 15.0)

    raw.delete("queue:often")

    eventually(lambda: raw.llen("queue:often") == ROWS, 15.0)


@on("sqlite", "mariadb")
def test_a_killed_holder_is_replaced_when_its_lease_has_expired(
    spawn: Spawn, home: Engine, raw: Any
) -> None:
    first = spawn()
    eventually(lambda: raw.llen("queue:work") == ROWS, 15.0)
    before = holder(home)
    second = spawn()
    assert pid_of(before) == first.pid
    raw.flushall()

    first.send_signal(signal.SIGKILL)
    first.wait()

    eventually(lambda: pid_of(holder(home)) == second.pid, LEASE + 2.0 + 3.0, "taken over")
    eventually(lambda: raw.llen("queue:work") == ROWS, 5.0)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_its_log_has_the_form_that_the_settings_ask_for(
    spawn: Spawn, home: Engine, tmp_path: Path
) -> None:
    (tmp_path / "qik.toml").write_text('log_format = "json"\n')
    process = spawn()
    eventually(lambda: holder(home), 15.0)
    process.send_signal(signal.SIGTERM)
    process.wait(6.0)

    lines = (tmp_path / "run0.log").read_text().splitlines()
    assert lines
    assert {json.loads(line)["pid"] for line in lines} == {process.pid}


def test_term_ends_a_process_within_seconds_and_frees_its_leases(
    spawn: Spawn, home: Engine
) -> None:
    process = spawn()
    eventually(lambda: holder(home), 15.0)

    process.send_signal(signal.SIGTERM)

    assert process.wait(6.0) == 0
    assert holder(home) is None
    assert not alive(process.pid)


@pytest.mark.parametrize(
    "database_url", [pytest.param("postgres", marks=pytest.mark.slow), "mariadb"], indirect=True
)  # SQLite waits for a frozen writer; PostgreSQL is in test_take_over
def test_a_frozen_holder_is_deposed_and_does_no_harm(spawn: Spawn, home: Engine, raw: Any) -> None:
    first = spawn()
    eventually(lambda: raw.llen("queue:work") == ROWS, 15.0)
    second = spawn()

    first.send_signal(signal.SIGSTOP)
    eventually(lambda: pid_of(holder(home)) == second.pid, LEASE + 8.0)
    first.send_signal(signal.SIGCONT)

    for name in ("Items", "Often"):
        assert pid_of(holder(home, name)) == second.pid
    assert first.poll() is None
    assert raw.llen("queue:work") == ROWS


@on("sqlite")
def test_redis_may_be_away_and_come_back_empty(
    spawn: Spawn, raw: Any, redis_server: Embedded
) -> None:
    process = spawn()
    eventually(lambda: raw.llen("queue:work") == ROWS, 15.0)

    redis_server.kill()
    redis_server.start()
    raw.connection_pool.disconnect()

    eventually(lambda: raw.llen("queue:work") == ROWS, 15.0)
    assert process.poll() is None


def test_the_database_may_be_locked_for_a_while(spawn: Spawn, home: Engine, raw: Any) -> None:
    lock, unlock = {
        "postgresql": ("LOCK TABLE reconciler_lease IN ACCESS EXCLUSIVE MODE", "ROLLBACK"),
        "mariadb": ("LOCK TABLES reconciler_lease WRITE", "UNLOCK TABLES"),
        "sqlite": ("BEGIN EXCLUSIVE", "ROLLBACK"),
    }[home.dialect.name]
    process = spawn()
    eventually(lambda: last_outcome(home) == "completed", 15.0)

    locker = create_engine(
        home.url, isolation_level="AUTOCOMMIT" if home.dialect.name == "sqlite" else None
    )
    with locker.connect() as connection:
        connection.exec_driver_sql(lock)
        deadline = time.monotonic() + LEASE + 1
        eventually(lambda: time.monotonic() > deadline, LEASE + 5)
        connection.exec_driver_sql(unlock)
    locker.dispose()
    raw.flushall()

    eventually(lambda: raw.llen("queue:work") == ROWS, 20.0)
    assert process.poll() is None


@on("postgres")
def test_its_port_tells_of_passes_of_rows_and_of_both_servers(
    spawn: Spawn, raw: Any, promtool: str
) -> None:
    port = free_port()
    process = spawn(QIK_METRICS_PORT=str(port))
    eventually(lambda: get(port, "/readyz").status == 200, 15.0)
    eventually(lambda: raw.llen("queue:work") == ROWS, 15.0)

    def seen() -> dict[str, float]:
        return samples(get(port, "/metrics").body)

    eventually(lambda: seen().get('qik_pending_rows{controller="Items"}') == ROWS)
    done = 'controller_runtime_reconcile_total{controller="Items",result="completed"}'
    passes = seen()[done]
    assert passes in (1, 2)  # a machine that stalls for a lease's length begins again
    assert seen()['qik_lease_here{controller="Items"}'] == 1
    check_with_promtool(promtool, get(port, "/metrics").body)
    scale = json.loads(get(port, "/scale").body)
    assert scale["queues"]["work"]["backlog"] == ROWS

    raw.flushall()
    eventually(lambda: seen()[done] > passes)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
