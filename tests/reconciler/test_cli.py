from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from qik_core.embedded import Embedded
from reconciler import migrate
from reconciler.lease import Leases
from tests.reconciler.commands import NOWHERE, Command, command, database_url
from tests.reconciler.shop import fill

__all__ = ["NOWHERE", "Command", "command", "database_url"]

APP = """
from datetime import timedelta
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Items(Reconciler, every=timedelta(minutes=1)):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))
"""


def test_upgrade_says_what_it_did_and_a_second_time_that_there_was_nothing_to_do(
    command: Command,
) -> None:
    first, second = command("upgrade"), command("upgrade", "--json")

    assert (first.returncode, second.returncode) == (0, 0)
    assert f"no tables → {migrate.head()}" in first.stdout
    said = json.loads(second.stdout)
    assert (said["from"], said["to"]) == (migrate.head(), migrate.head())


def test_upgrade_prints_sql_without_a_database(tmp_path: Path) -> None:
    done = Command(tmp_path)("upgrade", "--sql", "postgresql")

    assert done.returncode == 0
    assert "CREATE TABLE IF NOT EXISTS reconciler_lease" in done.stdout


def test_sql_is_not_printed_where_an_object_was_asked_for(tmp_path: Path) -> None:
    done = Command(tmp_path)("upgrade", "--sql", "postgresql", "--json")

    assert (done.returncode, done.stdout) == (2, "")
    assert "leave --json out" in done.stderr


def test_a_pass_tells_and_says_so(command: Command, home: Engine, raw: Any) -> None:
    fill(home, range(1, 6))

    text, data = command("pass", "Items"), command("pass", "Items", "--json")

    assert (text.returncode, data.returncode) == (0, 0), text.stderr
    assert "Items: completed" in text.stdout
    assert "enqueued 5" in text.stdout
    assert json.loads(data.stdout)["codes"] == {"told": 5}
    assert raw.llen("queue:work") == 5


def test_a_pass_by_hand_says_how_far_it_is(command: Command, home: Engine) -> None:
    fill(home, range(1, 6))
    app = APP.replace("minutes=1)", "minutes=1), batch_size=2")
    often = "from qik_core.cli import screen\nscreen._SELDOM = 0.0\n"
    (command.folder / "shop_app.py").write_text(app + often)

    done = command("pass", "Items", "--json")

    assert "2 rows of Items are read" in done.stderr
    assert json.loads(done.stdout)["scanned"] == 5


def test_an_unknown_reconciler_is_a_mistake_of_usage(command: Command, home: Engine) -> None:
    done = command("pass", "Itmes")

    assert done.returncode == 2
    assert "there are: Items" in done.stderr


@pytest.mark.parametrize("arguments", [("run",), ("pass", "Items")])
def test_a_missing_application_is_named_with_the_remedy(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = Command(tmp_path)(*arguments)

    assert done.returncode == 2
    assert "QIK_APP" in done.stderr


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("no_such_module", "there is no module 'no_such_module'"),
        ("json", "defines no reconciler"),
        ("broken_app", "ZeroDivisionError"),
        ("wrong_app", "[every]"),
    ],
)
def test_an_application_that_cannot_be_used_is_a_mistake_of_usage(
    command: Command, tmp_path: Path, app: str, said: str
) -> None:
    (tmp_path / "broken_app.py").write_text("1 / 0\n")
    (tmp_path / "wrong_app.py").write_text(APP.replace("minutes=1", "minutes=0"))

    done = command("run", app)

    assert done.returncode == 2
    assert said in done.stderr
    assert (
        "Traceback" not in done.stderr.replace("Traceback (most recent call last)", "", 0)
        or app == "broken_app"
    )


def test_no_redis_named_is_a_mistake_of_usage(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "shop_app.py").write_text(APP)

    done = Command(tmp_path, DATABASE_URL=sqlite_url, QIK_APP="shop_app")("run")

    assert done.returncode == 2
    assert "REDIS_URL" in done.stderr


def test_no_database_named_is_a_mistake_of_usage(tmp_path: Path) -> None:
    done = Command(tmp_path)("upgrade")

    assert done.returncode == 2
    assert "DATABASE_URL" in done.stderr


@pytest.mark.parametrize("arguments", [("upgrade",), ("status",), ("pass", "Items"), ("run",)])
def test_an_unreachable_database_is_exit_code_5(
    command: Command, arguments: tuple[str, ...]
) -> None:
    done = command(*arguments, DATABASE_URL=NOWHERE)

    assert done.returncode == 5, done.stderr
    assert "127.0.0.1:1" in done.stderr


def test_an_unreachable_redis_is_exit_code_4(
    command: Command, home: Engine, redis_server: Embedded
) -> None:
    redis_server.kill()

    passed, status = command("pass", "Items"), command("status", "--json")

    assert (passed.returncode, status.returncode) == (4, 4)
    assert "redis.sock" in passed.stderr
    assert json.loads(status.stdout)["sql"] == "ok"
    assert json.loads(status.stdout)["time_to_whole"] is None


def test_a_database_without_our_tables_is_exit_code_5_with_the_remedy(command: Command) -> None:
    for arguments in (("run",), ("status",), ("pass", "Items")):
        done = command(*arguments)
        assert done.returncode == 5, done.stderr
        assert "reconciler upgrade" in done.stderr


def test_a_pass_that_fails_is_a_finding(command: Command, home: Engine) -> None:
    with home.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE item RENAME TO gone")

    done = command("pass", "Items")

    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "item" in done.stderr


def test_status_shows_every_reconciler(command: Command, home: Engine) -> None:
    with_edges = APP.replace("minutes=1)", "minutes=1), edges=True")
    (command.folder / "shop_app.py").write_text(with_edges)
    empty = command("status")
    fill(home, [1])
    command("pass", "Items")
    unheld, unknown = command("status"), json.loads(command("status", "--json").stdout)
    leases = Leases(home, ["Items"], 60.0, holder="host:100:cafe")  # `:100:` is a picture elsewhere
    leases.register()
    leases.renew()
    full, data = command("status"), json.loads(command("status", "--json").stdout)

    assert "no reconciler has ever run here" in empty.stdout
    assert "is not known: Items is run by nobody" in unheld.stdout
    assert unknown["time_to_whole"] is None
    assert "Items" in full.stdout
    assert "completed" in full.stdout
    assert "host:100:cafe" in full.stdout
    assert "Items: the last pass told rows whose job was lost: untold:1" in full.stdout
    assert re.search(r"every row would be told again within 1\.\d s", full.stdout)
    assert data["redis"] == data["sql"] == "ok"
    assert data["reconcilers"][0]["last"]["outcome"] == "completed"
    assert 1 < data["time_to_whole"] < 2


def test_status_answers_in_three_seconds_though_nobody_answers_it(tmp_path: Path) -> None:
    silent = "192.0.2.1"  # reserved for documentation: packets go nowhere
    began = time.monotonic()

    done = Command(
        tmp_path,
        DATABASE_URL=f"postgresql+psycopg://{silent}/x",
        REDIS_URL=f"redis://{silent}:6379",
    )("status", "--json")

    assert time.monotonic() - began < 4.0  # with the start of Python on a busy machine
    assert done.returncode in (4, 5)
    said = json.loads(done.stdout)
    assert said["sql"] != "ok"
    assert said["redis"] != "ok"


def test_flags_win_over_the_environment(command: Command, database_url: str, home: Engine) -> None:
    done = command("status", "--database-url", database_url, DATABASE_URL=NOWHERE)

    assert done.returncode == 0, done.stderr


def test_help_names_every_command(tmp_path: Path) -> None:
    done = Command(tmp_path)("--help")

    assert done.returncode == 0
    for name in ("upgrade", "run", "pass", "status"):
        assert name in done.stdout
