from __future__ import annotations

import json
import re
import socket
import time

import pytest
from sqlalchemy import Engine

from qik_core.embedded import Embedded
from tests.reconciler.commands import NOWHERE, Command, command, database_url
from tests.reconciler.shop import fill

__all__ = ["command", "database_url"]

APP = """
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, Shards, derive
from tests.reconciler.shop import Item, Member

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Join(Job, queue="join", unique_for=3600):
    def perform(self, org_id: int, user_id: int) -> None: ...

class Deliver(Job, unique_for=3600):
    def perform(self, shard: str, item_id: int) -> None: ...

class Items(Reconciler, every=60):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))

class Members(Reconciler, every=60):
    pending = derive(Join, select(Member.org_id, Member.user_id))

class Spread(Reconciler, every=60, shards=Shards(lambda: {"north": "default", "south": "default"})):
    pending = derive(Deliver, select(Item.id))
"""


def test_the_cause_comes_first_and_then_the_last_passes(command: Command, home: Engine) -> None:
    fill(home, [1, 2])
    command("pass", "Items")

    done = command("why", "Items", "2")
    data = json.loads(command("why", "Items", "2", "--json").stdout)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "Items 2 (Work): queued"
    assert "number 2 of 2 on work" in done.stdout.splitlines()[1]
    assert "pass    completed" in done.stdout
    assert data["cause"]["details"]["position"] == 2


def test_a_row_is_found_by_the_jid_of_its_job(command: Command, home: Engine) -> None:
    fill(home, [1])
    command("pass", "Items")
    jid = json.loads(command("why", "Items", "1", "--json").stdout)["jid"]

    found, lost = command("why", "--jid", jid), command("why", "--jid", "0" * 24)

    assert found.stdout.splitlines()[0] == "Items 1 (Work): queued"
    assert lost.returncode == 1
    assert "no job has the jid" in lost.stderr


def test_a_composite_key_and_a_shard_are_named(command: Command, home: Engine) -> None:
    fill(home, [1])

    both, one = command("why", "Members", "org_id=1", "user_id=2"), command("why", "Members", "1")
    shard, none = command("why", "Spread", "1", "--shard", "north"), command("why", "Spread", "1")

    assert both.stdout.splitlines()[0] == "Members 1, 2 (Join): no-row"
    assert one.returncode == 2
    assert "the key of Members is org_id=… user_id=…" in one.stderr
    assert shard.stdout.splitlines()[0].startswith("Spread/north 1 (Deliver): ")
    assert none.returncode == 2
    assert "north, south" in none.stderr


@pytest.mark.parametrize(
    "arguments",
    [["Itmes", "1"], ["Items"], [], ["Items", "1", "--jid", "x"], ["Items", "1", "--shard", "x"]],
)
def test_what_cannot_be_meant_is_a_mistake_of_usage(
    command: Command, home: Engine, arguments: list[str]
) -> None:
    assert command("why", *arguments).returncode == 2


def test_without_redis_it_answers_in_time_with_what_sql_knows(
    command: Command, home: Engine, redis_server: Embedded
) -> None:
    fill(home, [1], state="done")
    redis_server.kill()
    began = time.monotonic()

    done = command("why", "Items", "1")

    assert time.monotonic() - began < 30  # a machine may be busy
    assert done.returncode == 4
    assert done.stdout.splitlines()[0] == "Items 1 (Work): not-matching"
    assert "redis.sock" in done.stderr


def test_without_sql_it_answers_with_what_redis_knows(command: Command, home: Engine) -> None:
    fill(home, [1])
    command("pass", "Items")

    done = command("why", "Items", "1", DATABASE_URL=NOWHERE)

    assert done.returncode == 5
    assert done.stdout.splitlines()[0] == "Items 1 (Work): queued"
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.parametrize("meant", [["Items", "1"], ["--jid", "0" * 24]], ids=["key", "jid"])
def test_what_the_import_of_the_application_takes_is_taken_off_the_time_for_the_questions(
    command: Command, meant: list[str]
) -> None:
    slow = "import time; time.sleep(1.3)\n" + APP
    (command.folder / "slow_app.py").write_text(slow)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        urls = {
            "REDIS_URL": f"redis://127.0.0.1:{port}",
            "DATABASE_URL": f"postgresql+psycopg://127.0.0.1:{port}/x",
        }
        done = command("why", *meant, QIK_APP="slow_app", **urls)

    waited = [float(each) for each in re.findall(r"within (\d\.\d) s", done.stderr)]
    assert done.returncode in (4, 5), done.stderr
    assert waited
    assert max(waited) < 2.1  # of 2.5
    assert len(waited) == len(set(re.findall(r"from (.*) within", done.stderr)))
