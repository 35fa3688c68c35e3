"""A worker looks at its server before it works there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from qik_core.embedded import Embedded
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
APP = "from qik_core import Job\n\nclass Noop(Job):\n    def perform(self) -> None: ...\n"


def start(folder: Path, url: str, app: str = APP, **environment: str) -> subprocess.Popen[str]:
    (folder / "shop.py").write_text(app)
    return subprocess.Popen(
        [sys.executable, "-m", "qik_core.cli", "work", "shop"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": url, **environment},
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_worker_refuses_a_server_that_may_evict_and_names_the_remedy(tmp_path: Path) -> None:
    with Embedded(config={"maxmemory-policy": "volatile-ttl"}) as server:
        worker = start(tmp_path, server.url)
        _, said = worker.communicate(timeout=30)
        assert worker.returncode == 1
        assert "maxmemory-policy is volatile-ttl" in said
        assert "maxmemory-policy noeviction" in said
        assert "no worker can start" in said
        with redis.Redis.from_url(server.url) as raw:
            assert raw.scard("processes") == 0


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_a_worker_starts_where_it_is_told_to(tmp_path: Path, policy: str) -> None:
    with Embedded(config={"maxmemory-policy": policy}) as server:
        worker = start(tmp_path, server.url, QIK_ALLOW_EVICTION="true", QIK_HEARTBEAT="0.5")
        with redis.Redis.from_url(server.url) as raw:
            eventually(lambda: raw.scard("processes") == 1, 20)
        worker.terminate()
        _, said = worker.communicate(timeout=30)
        assert worker.returncode == 0
        assert ("allkeys-lru" in said) == (policy == "allkeys-lru")
        assert "keeps nothing on disk" in said


def test_a_worker_says_why_nothing_starts_yet_and_that_an_application_has_no_job(
    tmp_path: Path,
) -> None:
    with Embedded() as server:
        worker = start(tmp_path, server.url, app="", QIK_HEARTBEAT="0.5", QIK_LEASE="3")
        with redis.Redis.from_url(server.url) as raw:
            eventually(lambda: raw.scard("processes") == 1, 20)
        worker.terminate()
        _, said = worker.communicate(timeout=30)
    assert "Redis is new or was emptied: nothing starts until" in said
    assert "the application defines no job" in said


def test_a_worker_names_the_queues_of_its_application_that_it_does_not_serve(
    tmp_path: Path,
) -> None:
    app = (
        "from sqlalchemy import Column, Integer, MetaData, Table, select\n"
        "from qik_core import Job\n"
        "from reconciler import Reconciler, derive\n"
        "items = Table('item', MetaData(), Column('id', Integer, primary_key=True))\n"
        "class Export(Job, queue='exports', unique_for=60):\n    def perform(self, id: int) -> None: ...\n"
        "class Items(Reconciler, every=1, queue='sites'):\n"
        "    pending = derive(Export, select(items.c.id))\n"
    )
    with Embedded() as server, redis.Redis.from_url(server.url) as raw:
        worker = start(tmp_path, server.url, app=app, QIK_HEARTBEAT="0.5", QIK_LEASE="3")
        eventually(lambda: raw.scard("processes") == 1, 20)
        worker.terminate()
        _, said = worker.communicate(timeout=30)
    assert "not served here: exports (Export), sites (Items)" in said
