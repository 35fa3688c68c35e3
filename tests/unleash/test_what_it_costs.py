"""What a flag service with bad days costs a process of reconcilers: neither its start nor its passes wait."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine, select

from reconciler.engines import Engines
from reconciler.tables import passes
from tests.reconciler import tables
from tests.reconciler.shop import fill
from tests.unleash import stub as stubs
from tests.unleash.stub import TOKEN, Stub
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
READY = 5.0
"""Seconds within which a process works whose flag service is down, beyond what its start takes anyway."""
SOME = 20
"""Passes, one each fifth of a second: polls hang meanwhile."""
APP = """
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Items(Reconciler, every=0.2):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))
"""


@pytest.fixture
def home(sqlite_url: str) -> Iterator[Engine]:
    engines = Engines({"default": sqlite_url})
    tables.make(engines.home())
    fill(engines.home(), range(1, 6))
    yield engines.home()
    engines.dispose()


@contextmanager
def reconciling(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    (folder / "shop_app.py").write_text(APP)
    ours = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "reconciler.cli", "run", "shop_app"]
    with (folder / "run.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=ours, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


def ended(home: Engine) -> list[float]:
    """Return how long each pass took that ended, in seconds."""
    query = select(passes.c.ended_at - passes.c.started_at).where(passes.c.ended_at.is_not(None))
    with home.connect() as connection:
        return [float(each) for each in connection.scalars(query)]


def start(home: Engine, folder: Path, environment: Mapping[str, str], passes: int) -> float:
    """Run a process until so many more passes have ended; returns after how many seconds the first one had."""
    before, began = len(ended(home)), time.monotonic()
    with reconciling(folder, environment):
        eventually(lambda: len(ended(home)) > before, 60.0)
        ready = time.monotonic() - began
        eventually(lambda: len(ended(home)) >= before + passes, 60.0)
    return ready


@pytest.mark.parametrize("how", ["down", "hangs"])
def test_a_flag_service_that_is_down_or_hangs_holds_up_neither_start_nor_passes(
    how: str, home: Engine, tmp_path: Path, sqlite_url: str, redis_url: str, raw: redis.Redis
) -> None:
    """U1: ready within 5 s, and what nothing is known of runs; U3: no pass takes longer."""
    servers = {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_url}
    alone = start(home, tmp_path, servers, 1)
    raw.flushall()
    before = len(ended(home))
    with Stub(stubs.hang()) as stub:
        if how == "down":
            stub.stop()
        flags = {
            "UNLEASH_URL": stub.url,
            "UNLEASH_API_TOKEN": TOKEN,
            "QIK_SWITCHES_UNLEASH_REFRESH": "0.2",
            "QIK_SWITCHES_CACHE": str(tmp_path / "kept"),
        }
        ready = start(home, tmp_path, servers | flags, SOME)
        stub.stop()

    assert ready < alone + READY
    assert max(ended(home)[before:]) < 2.0  # a poll that hangs is given up then
    assert raw.llen("queue:work") == 5
    assert how == "down" or stub.asked()
