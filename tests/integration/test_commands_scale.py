"""Every list command on a Redis and a database that are as full as they get: a second of CPU, and a megabyte."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner
from sqlalchemy import Engine

from qik_core import cli, settings
from tests.integration import crowd_sql
from tests.integration.crowd import cpu
from tests.servers import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

START = 0.3
"""Seconds that Python takes to start, and to import what a command needs."""
LISTS = (
    ("status",),
    ("queues",),
    ("queues", "--bytes"),
    ("queues", "--by", "class"),
    ("queues", "jobs", "--limit", "250"),
    ("queues", "jobs", "class:Nobody"),
    ("scheduled", "--limit", "250"),
    ("scheduled", "class:Nobody"),
    ("retries", "--limit", "250"),
    ("retries", "class:Charge99", "args:7"),
    ("dead", "--limit", "250"),
    ("dead", "no such error"),
    ("held", "--limit", "250"),
    ("held", "class:Nobody"),
    ("busy", "--limit", "250"),
    ("processes", "--limit", "250"),
    ("top", "-n", "1"),
)
OF_SQL = (
    ("status",),
    ("switches",),
    ("quarantine", "list"),
    ("quarantine", "list", "--waiting"),
    ("quarantine", "list", "--reconciler", "Items"),
    ("timeline",),
    ("timeline", "--since", "7d"),
    ("shadow", "--app", "shadow_app"),
)
APP = """
from sqlalchemy import select

from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item


class Work(Job, unique_for=3600):
    def perform(self, item_id: int) -> None: ...


class Items(Reconciler, every=60, min_age=0, shadow=True):
    pending = derive(Work, select(Item.id))
"""


def test_every_list_takes_less_than_a_second_of_cpu_and_a_megabyte(
    full: redis.Redis, redis_url: str
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    slow, long = {}, {}
    for words in (each for plain in LISTS for each in (plain, (*plain, "--json"))):
        began = cpu(full)
        told = CliRunner().invoke(cli.main, [*words, "--redis-url", redis_url])
        took, size = cpu(full) - began, len(told.output.encode())
        assert told.exit_code == 0, told.output
        assert "--json" not in words or json.loads(told.stdout).get("of", 1), f"{words}: empty"
        slow.update({words: took} if took >= 1 - START else {})
        long.update({words: size} if size >= 1_000_000 else {})
    settings.use(None)
    signal.signal(signal.SIGTERM, before)
    assert (slow, long) == ({}, {})


def test_every_list_of_reconcilers_takes_less_than_a_second_of_cpu_and_a_megabyte(
    raw: redis.Redis, redis_url: str, large: Engine, postgres: Postgres, tmp_path: Path
) -> None:
    (tmp_path / "shadow_app.py").write_text(APP)
    url = large.url.render_as_string(hide_password=False)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = {**os.environ, "REDIS_URL": redis_url, "DATABASE_URL": url, "PYTHONPATH": path}

    def taken() -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + cpu(raw) + crowd_sql.cpu(postgres)

    slow, long = {}, {}
    for words in (each for plain in OF_SQL for each in (plain, (*plain, "--json"))):
        began, command = taken(), [sys.executable, "-m", "reconciler.cli", *words]
        told = subprocess.run(command, env=environment, capture_output=True, check=False)
        took, size = taken() - began, len(told.stdout)
        assert told.returncode == 0, (words, told.stderr)
        assert size > 100, f"{words}: empty"
        slow.update({words: took} if took >= 1 else {})
        long.update({words: size} if size >= 1_000_000 else {})
    assert (slow, long) == ({}, {})
