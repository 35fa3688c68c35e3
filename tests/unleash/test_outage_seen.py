"""A real Unleash dies before an open page and whoever asks: each says so within 3 s, and comes back; no setting is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from qik_core.store import Store
from qik_core.web import Secrets, app
from reconciler.web import tabs
from tests.chromium import Tab, chromium
from tests.qik_core.web.site import served
from tests.reconciler import tables
from tests.unleash.server import BACKEND, UnleashServer
from tests.waiting import busy, eventually

ROOT = Path(__file__).parents[2]
SEEN = 3.0
SHOP = """
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Work(Job, unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Items(Reconciler, every=60):
    pending = derive(Work, select(Item.id), age=Item.since)
"""


@pytest.fixture
def home(postgres_url: str) -> Iterator[Engine]:
    made = create_engine(postgres_url)
    tables.make(made)
    yield made
    made.dispose()


@pytest.fixture
def environment(
    tmp_path: Path, home: Engine, redis_url: str, postgres_url: str, unleash: UnleashServer
) -> Iterator[Mapping[str, str]]:
    """What commands are told; `reconciler run` goes on meanwhile."""
    (tmp_path / "shop.py").write_text(SHOP)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": redis_url,
        "DATABASE_URL": postgres_url,
        "UNLEASH_URL": unleash.url,
        "UNLEASH_API_TOKEN": BACKEND,
        "QIK_SWITCHES_CACHE": str(tmp_path / "kept"),
    }
    command = [sys.executable, "-m", "reconciler.cli", "run", "shop"]
    with (tmp_path / "run.log").open("wb") as log:
        running = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=log)
    yield environment
    running.kill()
    running.wait()


@pytest.fixture
def tab(tmp_path: Path, home: Engine, redis_url: str) -> Iterator[Tab]:
    """The page of switches, open in a browser."""
    store = Store(redis_url)
    store.look()
    with ExitStack() as stack:
        stack.callback(store.close)
        dashboard = app(store, secrets=Secrets(), tabs=tabs({"default": home}))
        url = stack.enter_context(served(dashboard))
        tab = stack.enter_context(chromium(tmp_path / "profile"))
        tab.open(f"{url}/switches")
        yield tab


def provider(environment: Mapping[str, str]) -> dict[str, Any]:
    """What `reconciler switches` says of Unleash."""
    command = [sys.executable, "-m", "reconciler.cli", "switches", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["providers"]["unleash"]
    return found


def test_a_page_and_a_command_say_that_unleash_does_not_answer(
    environment: Mapping[str, str], tab: Tab, unleash: UnleashServer
) -> None:
    eventually(lambda: "unleash: answers, as of" in tab.text(), 60.0)
    assert provider(environment)["problem"] == ""

    unleash.kill()
    eventually(lambda: "its last word counts" in tab.text(), SEEN * busy())
    assert "cannot be reached" in provider(environment)["problem"]
    unleash.start()

    eventually(lambda: "unleash: answers, as of" in tab.text(), 90.0)
    assert provider(environment)["problem"] == ""
