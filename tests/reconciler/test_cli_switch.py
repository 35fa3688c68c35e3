from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from qik_core.passes import Passes
from qik_core.switches import Rule, Snapshot
from reconciler import audit
from reconciler.sql import read_clock
from reconciler.switches.settling import copy, settle
from reconciler.switches.table import Health, Table, Writer
from reconciler.tables import passes
from tests.reconciler.shop import fill
from tests.reconciler.test_cli import NOWHERE, Command

APP = """
from datetime import timedelta
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Mail(Job, queue="mail"):
    def perform(self, to: str) -> None: ...

class Items(Reconciler, every=timedelta(minutes=1)):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))
"""
WHY = ("--reason", "double charging", "--wait", "0")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: what the commands call is tested on each."""
    return sqlite_url


@pytest.fixture
def command(tmp_path: Path, database_url: str, redis_url: str) -> Command:
    (tmp_path / "shop_app.py").write_text(APP)
    return Command(tmp_path, DATABASE_URL=database_url, REDIS_URL=redis_url, QIK_APP="shop_app")


def alive(raw: Any, identity: str, version: int) -> None:
    """Let a worker process be alive, that goes by this version of the switches."""
    raw.zadd("qik:alive", {identity: time.time()})
    raw.hset(identity, mapping={"beat": str(time.time()), "switches": version})


def test_to_disable_a_class_says_who_has_seen_it_and_that_all_of_it_comes_back(
    command: Command, home: Engine, raw: Any
) -> None:
    fill(home, [1])
    alive(raw, "host:1:beef", 9_999_999_999_999)
    alive(raw, "host:2:beef", 5)

    text = command("disable", "Work", *WHY, "--expires", "2h")

    assert text.returncode == 0, text.stderr
    lines = text.stdout.splitlines()
    assert lines[0] == "disable_work (class Work) is disabled"
    assert "double charging" in lines[1]
    assert ", until " in lines[1]
    assert "Work is told by Items: what is dropped is told again when it is enabled" in text.stdout
    assert "seen by 1 of 2 worker processes within" in text.stdout
    assert "dropped or refused so far: 0" in text.stdout

    gated = command("pass", "Items", "--json")
    assert json.loads(gated.stdout)["outcome"] == "gated"
    (entry,) = audit.read(home, 0.0)
    assert (entry.action, entry.reason) == ("disabled", "double charging")
    assert "@" in entry.who

    status = command("status")
    assert "disable_work is switched off: sql, by " in status.stdout
    assert "Items: gated: switched off by disable_work (sql): double" in status.stdout


def test_to_enable_it_again_says_what_was_stopped(command: Command, home: Engine, raw: Any) -> None:
    command("disable", "Work", *WHY)
    raw.hset("qik:switched", "disable_work", 12)

    listed = json.loads(command("switches", "--json").stdout)
    done = json.loads(
        command("enable", "Work", "--reason", "mended", "--wait", "0", "--json").stdout
    )

    (switch,) = listed["switches"]
    assert (switch["switch"], switch["on"], switch["dropped"]) == ("disable_work", True, 12)
    assert (done["action"], done["now"], done["before"][0]["reason"]) == (
        "enabled",
        [],
        "double charging",
    )
    assert done["dropped"] == 12
    assert audit.read(home, 0.0)[-1].details["dropped"] == 12
    assert command("switches").stdout.startswith("nothing is switched off")


def test_a_class_that_nothing_tells_again_is_said_to_be_held(
    command: Command, home: Engine
) -> None:
    done = command("disable", "queue:mail", *WHY, "--percent", "10", "--tenant", "a", "--json")

    said = json.loads(done.stdout)
    assert (said["switch"], said["of"]) == ("disable_queue_mail", {"kind": "queue", "name": "mail"})
    assert said["held"] == ["Mail"]
    assert said["now"][0]["percent"] == 10
    assert said["now"][0]["where"] == [{"field": "tenant", "operator": "in", "values": ["a"]}]
    assert (said["processes"], said["running"]) == (0, [])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Wrok", "no job class or reconciler is called 'Wrok'; did you mean 'Work'?"),
        ("queue:mial", "uses a queue 'mial'; did you mean 'mail'?"),
        ("class:Items", "no job class or reconciler is called 'class:Items'"),
    ],
)
def test_a_name_that_nothing_has_is_refused_with_the_one_that_was_meant(
    command: Command, home: Engine, name: str, said: str
) -> None:
    done = command("disable", name, *WHY)

    assert done.returncode == 2
    assert said in done.stderr
    assert Table(home).read().said == {}


def test_without_the_application_the_names_are_those_that_sql_and_redis_have_seen(
    command: Command, home: Engine, seam: Passes
) -> None:
    row = {"reconciler": "Items", "job_class": "Work", "holder": "x", "term": 1, "codes": "{}"}
    with home.begin() as connection:
        connection.execute(insert(passes).values(started_at=read_clock(home), **row))
    (command.folder / "shop_app.py").write_text("import gone_for_good\n")

    done = command("disable", "Work", *WHY)
    wrong = command("disable", "Item", *WHY)
    flag = command("disable", "disable_mail", *WHY)

    assert (done.returncode, wrong.returncode, flag.returncode) == (0, 2, 0)
    assert "cannot be imported" in done.stderr
    assert "Work is told by Items" in done.stdout
    assert "did you mean 'Items'" in wrong.stderr
    assert "seen at work" in wrong.stderr
    assert sorted(seam.switches().rules) == ["disable_mail", "disable_work"]


def test_without_redis_it_is_written_and_said(command: Command, home: Engine) -> None:
    done = command("disable", "Work", *WHY, REDIS_URL="redis://127.0.0.1:1/0")

    assert done.returncode == 4
    assert "not in Redis yet" in done.stdout
    assert "disable_work" in Table(home).read().of("sql")


def test_without_sql_it_stands_in_redis_and_is_said(
    command: Command, home: Engine, seam: Passes
) -> None:
    done = command("disable", "Work", *WHY, DATABASE_URL=NOWHERE)
    listed = command("switches", DATABASE_URL=NOWHERE)

    assert (done.returncode, listed.returncode) == (5, 5)
    assert "not in SQL yet" in done.stdout
    assert "disable_work: off" in listed.stdout
    assert seam.switches().rules["disable_work"][0].source == "redis"


def test_without_both_nothing_is_done_and_that_is_said(command: Command, home: Engine) -> None:
    done = command("disable", "Work", *WHY, DATABASE_URL=NOWHERE, REDIS_URL="redis://127.0.0.1:1/0")

    assert done.returncode == 5
    assert "disable_work (class Work) is not disabled: neither SQL nor Redis answers" in done.stdout


def test_a_switch_that_cannot_be_kept_is_refused_and_that_is_said(
    command: Command, home: Engine
) -> None:
    done = command("disable", "Work", "--reason", "x" * 20_000)

    assert done.returncode == 2
    assert "disable_work (class Work) is not disabled: it was refused" in done.stdout
    assert "use at most 16,000" in done.stderr


def test_a_switch_for_no_time_at_all_is_refused(command: Command, home: Engine) -> None:
    done = command("disable", "Work", *WHY, "--expires", "0s")

    assert (done.returncode, "--expires is 0" in done.stderr) == (2, True)


def test_the_list_shows_what_a_provider_says_and_what_is_passed_over(
    command: Command, home: Engine
) -> None:
    def say(writer: Writer) -> None:
        copy(writer, "unleash", {"disable_work": (Rule(source="unleash", percent=50.0),)})
        writer.note("unleash", Health("no answer", writer.before.now - 60))
        settle(writer, None)

    Table(home).change(say)
    before = command("switches").stdout
    command("enable", "Work", *WHY)
    after = command("switches").stdout

    assert before.startswith("disable_work: off since ")
    assert "unleash, 50 % of keys" in before
    assert "published by nobody: start `reconciler run`" in before
    assert "unleash: for 1.0 min: no answer" in before
    assert after.startswith("disable_work: runs, by hand")
    assert "passed over: unleash, 50 % of keys" in after


def test_a_switch_that_all_processes_have_seen_is_not_waited_for(
    command: Command, home: Engine, raw: Any, seam: Passes
) -> None:
    seam.publish(Snapshot(5, {}))
    alive(raw, "host:1:beef", 9_999_999_999_999)

    done = json.loads(command("disable", "Items", "--reason", "x", "--wait", "60", "--json").stdout)

    assert (done["switch"], done["seen"], done["processes"]) == ("disable_reconciler_items", 1, 1)
    assert done["seconds"] < 30
