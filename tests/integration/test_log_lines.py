"""docs/reference/logs.md beside the lines of real processes: `qik work` and `reconciler run` with `--log-format json`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from reconciler.engines import Engines
from tests.integration.shop import TENTH
from tests.reconciler import tables
from tests.reconciler.shop import fill
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "logs.md"
APP = """
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None:
        if item_id == 2:
            raise ValueError("no\\nsuch \\x1b[31mitem")

class Items(Reconciler, every=3600):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))
"""


@pytest.fixture
def home(sqlite_url: str) -> Iterator[Engine]:
    engines = Engines({"default": sqlite_url})
    tables.make(engines.home())
    fill(engines.home(), range(1, 3))
    yield engines.home()
    engines.dispose()


def section(title: str) -> str:
    return PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> dict[str, set[str]]:
    """Return the first cell of each row of a section's table → the names in its second."""
    found = re.findall(r"^\| `([^`|]+)` \| (.*) \|$", section(title), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in found}


def test_events_have_the_fields_that_the_page_names(
    tmp_path: Path, home: Engine, sqlite_url: str, redis_url: str, raw: Any
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    about = {"PYTHONPATH": str(ROOT), "DATABASE_URL": sqlite_url, "REDIS_URL": redis_url}
    environment = {**os.environ, **TENTH, **about}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (
            ["reconciler.cli", "run", "shop"],
            ["qik_core.cli", "work", "shop", "-q", "work"],
        ):
            with (tmp_path / f"log{len(started)}").open("wb") as log:
                line = [sys.executable, "-m", *command, "--log-format", "json"]
                started.append(subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=log))
        eventually(lambda: int(raw.get("stat:processed") or 0) == 2, 30.0)
        for each in started:
            each.send_signal(signal.SIGTERM)
        for each in started:
            each.wait(20)
    finally:
        for each in started:
            each.kill()
            each.wait()

    text = "".join((tmp_path / f"log{n}").read_text() for n in range(2))
    lines = [json.loads(line) for line in text.splitlines()]
    always, events = (
        set(rows("Fields of every line")) - {"trace"},
        rows("Events of jobs and passes"),
    )
    for line in lines:
        assert always - set(line) <= ({"thread"} if line["logger"] == "parent" else set()), line
    for event, fields in events.items():
        found = [line for line in lines if line["event"] == event]
        assert found, event
        assert {frozenset(set(line) - always) for line in found} == {frozenset(fields)}, event
    assert "\x1b" not in text
