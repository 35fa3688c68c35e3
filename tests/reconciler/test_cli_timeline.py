from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from reconciler import audit
from reconciler.audit import Action
from tests.reconciler.test_cli import NOWHERE, Command


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: what the command calls is tested on each."""
    return sqlite_url


@pytest.fixture
def command(tmp_path: Path, database_url: str) -> Command:
    """An application that cannot be imported, and a Redis that is not there."""
    (tmp_path / "shop_app.py").write_text("1 / 0")
    nowhere = "redis://127.0.0.1:1/0"
    return Command(tmp_path, DATABASE_URL=database_url, REDIS_URL=nowhere, QIK_APP="shop_app")


def test_the_timeline_needs_neither_redis_nor_the_application(
    command: Command, home: Engine
) -> None:
    audit.record(home, Action.DISABLED, "disable_work", "ann@host", "double charging", {})

    text, data = command("timeline"), command("timeline", "--since", "15min", "--json")

    assert (text.returncode, data.returncode) == (0, 0), text.stderr + data.stderr
    line = text.stdout.splitlines()[-1]
    assert line.split()[2:] == [
        "switch",
        "disable_work",
        "disabled:",
        "double",
        "charging",
        "ann@host",
    ]
    said: dict[str, Any] = json.loads(data.stdout)
    assert [each["what"] for each in said["events"]] == ["switch"]
    assert said["now"] - said["since"] == pytest.approx(900.0)


def test_where_nothing_happened_it_says_so(command: Command, home: Engine) -> None:
    assert command("timeline", "--since", "3d").stdout == "nothing happened in the last 3.0 d\n"


def test_it_says_how_many_older_events_it_leaves_out(command: Command, home: Engine) -> None:
    for number in range(3):
        audit.record(home, Action.DEPLOYED, f"r{number}", "host:1", "a release", {})

    done = command("timeline", "--limit", "1")

    assert "2 older events are left out: --limit 3" in done.stdout
    assert "r2" in done.stdout
    assert "r1" not in done.stdout


def test_a_span_that_is_none_is_a_mistake_of_usage(command: Command) -> None:
    done = command("timeline", "--since", "yesterday")

    assert done.returncode == 2
    assert "write 90s, 15min, 2h or 3d" in done.stderr


def test_a_database_that_cannot_be_reached_is_exit_code_5(command: Command) -> None:
    assert command("timeline", "--database-url", NOWHERE).returncode == 5
