from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from qik_core.passes import Passes
from qik_core.switches import Condition, Field, Operator, Rule, Snapshot
from reconciler import audit
from reconciler.bookmarks import Bookmarks
from tests.reconciler.shop import fill
from tests.reconciler.test_cli import APP, NOWHERE, Command
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: what the commands call is tested on each."""
    return sqlite_url


@pytest.fixture
def command(tmp_path: Path, database_url: str, redis_url: str) -> Command:
    (tmp_path / "shop_app.py").write_text(APP)
    return Command(tmp_path, DATABASE_URL=database_url, REDIS_URL=redis_url, QIK_APP="shop_app")


@pytest.fixture
def started(command: Command) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of a test; none is left behind."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for each in found:
        each.kill()
        each.communicate()


def cursor(home: Engine) -> str | None:
    """Where the rebuild of the items stands, as SQL has it."""
    mark = Bookmarks(home).read().get("Items")
    return None if mark is None else mark.cursor


def start(
    command: Command, started: list[subprocess.Popen[str]], *arguments: str
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli", "rebuild", "--yes", *arguments],
        cwd=command.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **command.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    return process


def test_a_rebuild_tells_says_how_fast_and_is_in_the_audit(
    command: Command, home: Engine, raw: Any
) -> None:
    fill(home, range(1, 41))

    text = command("rebuild", "--yes", "--rate", "max", "--reason", "after a flush")
    data = command("rebuild", "Items", "--yes", "--json")

    assert (text.returncode, data.returncode) == (0, 0), text.stderr + data.stderr
    assert "Items: completed · scanned 40 · enqueued 40" in text.stdout
    assert "rows/s" in text.stdout
    assert "rebuild: " in text.stderr
    assert json.loads(data.stdout)["codes"] == {"told": 40}
    assert raw.llen("queue:work") == 40
    assert audit.read(home, 0.0)[0].reason == "after a flush"


def test_nobody_who_could_confirm_means_no_rebuild(
    command: Command, home: Engine, raw: Any
) -> None:
    fill(home, range(1, 4))

    done = command("rebuild")

    assert done.returncode == 3
    assert (
        "tell every pending row without a job of Items, 500 rows a second? Add --yes" in done.stderr
    )
    assert raw.llen("queue:work") == 0


def test_a_switched_off_reconciler_is_refused_and_can_be_overridden(
    command: Command, home: Engine, raw: Any, seam: Passes
) -> None:
    fill(home, range(1, 4))
    rule = Rule(source="sql", reason="an incident")
    seam.publish(Snapshot(1, {"disable_reconciler_items": (rule,)}))

    refused = command("rebuild", "--yes")
    forced = command("rebuild", "--yes", "--override-switch")

    assert (refused.returncode, forced.returncode) == (3, 0), refused.stderr + forced.stderr
    assert "Items: switched_off" in refused.stdout
    assert "disable_reconciler_items (sql): an incident" in refused.stdout
    assert "overridden: Items is switched off by disable_reconciler_items" in forced.stderr
    assert raw.llen("queue:work") == 3


def test_rows_that_a_switch_of_some_keys_keeps_back_are_a_finding(
    command: Command, home: Engine, raw: Any, seam: Passes
) -> None:
    fill(home, range(1, 4))
    of_two = Condition(Field.KEY, Operator.IN, ("2",))
    rule = Rule(source="sql", reason="an incident", where=(of_two,))
    seam.publish(Snapshot(1, {"disable_work": (rule,)}))

    some = command("rebuild", "--yes")
    seam.publish(Snapshot(2, {}))
    rest = command("rebuild", "--yes")

    assert (some.returncode, rest.returncode) == (1, 0), some.stderr + rest.stderr
    kept = "1 rows of Work stay in SQL: switched off by disable_work (sql): an incident"
    assert f"Items: completed · scanned 3 · enqueued 2 · refused 1 · {kept}" in some.stdout
    assert raw.llen("queue:work") == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "fast"), "write 500/s, 10000/min, or max"),
        (("--rate", "0"), "write 500/s, 10000/min, or max"),
        (("--jitter", "soon"), "write 90s, 15min, 2h or 3d"),
        (("Itmes",), "did you mean 'Items'"),
    ],
    ids=["a word", "nothing", "no span", "no reconciler"],
)
def test_what_cannot_be_meant_is_said_with_what_can(
    command: Command, arguments: tuple[str, ...], said: str
) -> None:
    done = command("rebuild", "--yes", *arguments)

    assert done.returncode == 2
    assert said in done.stderr


def test_a_database_that_cannot_be_reached_is_exit_code_5(command: Command) -> None:
    assert command("rebuild", "--yes", "--database-url", NOWHERE).returncode == 5


def test_a_rebuild_killed_half_way_goes_on_and_ctrl_c_ends_it_cleanly(
    command: Command, home: Engine, raw: Any, started: list[subprocess.Popen[str]]
) -> None:
    """X9: at most one live job a row, whatever becomes of the command."""
    fill(home, range(1, 2_001))
    first = start(command, started, "--rate", "300/s")
    eventually(lambda: cursor(home), 60.0)
    first.kill()
    first.communicate()
    told = raw.llen("queue:work")
    assert told < 2_000

    second = start(command, started, "--rate", "300/s")
    eventually(lambda: raw.llen("queue:work") >= told + 300, 60.0)
    second.send_signal(signal.SIGINT)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 130
    assert "stopped; run it again to go on from here" in out
    assert "goes on where it was cut off, behind" in err, err

    third = command("rebuild", "--yes", "--rate", "max", "--json")
    assert third.returncode == 0
    said = json.loads(third.stdout)
    assert said["parts"][0]["resumed"]
    assert said["scanned"] < 2_000 - told
    keys = {
        each.partition(b'"args":')[2].partition(b"]")[0] for each in raw.lrange("queue:work", 0, -1)
    }
    assert raw.llen("queue:work") == len(keys) == 2_000
