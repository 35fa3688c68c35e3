from __future__ import annotations

import json

from sqlalchemy import Engine

from qik_core.embedded import Embedded
from reconciler.explain import BIG
from tests.reconciler.commands import NOWHERE, Command, command, database_url
from tests.reconciler.shop import fill

__all__ = ["command", "database_url"]

APP = """
from datetime import timedelta
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item, Member

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Join(Job, queue="join", unique_for=3600):
    def perform(self, org_id: int, user_id: int) -> None: ...

class Items(Reconciler, every=timedelta(minutes=1)):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))

class Members(Reconciler, every=timedelta(minutes=1), queue="slow"):
    pending = derive(Join, select(Member.org_id, Member.user_id))
"""


def test_a_plan_of_all_reconcilers_or_of_those_that_are_named(
    command: Command, home: Engine
) -> None:
    fill(home, range(1, 4))

    every, one = command("plan"), json.loads(command("plan", "Items", "--json").stdout)

    assert every.returncode == 0, every.stderr
    assert "Items: Work on work" in every.stdout
    assert "Members: Join on slow" in every.stdout
    assert "3 rows, 0 of them told" in every.stdout
    assert "lease held by nobody" in every.stdout
    assert [each["reconciler"] for each in one["plans"]] == ["Items"]
    assert one["plans"][0]["lease"] == {"holder": None, "term": 0, "expires_in": None}


def test_without_a_row_a_plan_says_why_the_look_at_one_row_is_not_planned(
    command: Command, home: Engine
) -> None:
    nothing = command("plan", "Items").stdout
    fill(home, [1])
    something = command("plan", "Items").stdout

    why = "→ not planned: it looks at one row by its key, and no row is pending"
    assert [line.strip() for line in nothing.splitlines()][-1] == why
    assert "not planned" not in something


def test_an_unknown_reconciler_is_a_mistake_of_usage_with_the_nearest_name(
    command: Command, home: Engine
) -> None:
    done = command("plan", "Itmes")

    assert done.returncode == 2
    assert "did you mean 'Items'" in done.stderr


def test_a_big_table_read_whole_is_a_finding_with_the_index_to_add(
    command: Command, home: Engine
) -> None:
    fill(home, range(1, BIG + 2), state="done")

    done = command("plan", "Items")

    assert done.returncode == 1
    assert "sequential scan of item" in done.stdout
    assert "CREATE INDEX ix_item_state_id ON item (state, id)" in done.stdout


def test_without_redis_the_database_still_answers(
    command: Command, home: Engine, redis_server: Embedded
) -> None:
    fill(home, [1])
    redis_server.kill()

    text, data = command("plan", "Items"), command("plan", "Items", "--json")

    assert (text.returncode, data.returncode) == (4, 4), text.stderr
    assert "told or not: unknown" in text.stdout
    assert "redis.sock" in text.stderr
    (plan,) = json.loads(data.stdout)["plans"]
    assert (plan["pending"], plan["told"]) == (1, None)


def test_without_its_database_a_plan_says_what_it_knows_all_the_same(command: Command) -> None:
    done = command("plan", "--json", DATABASE_URL=NOWHERE)

    assert done.returncode == 5, done.stderr
    said = json.loads(done.stdout)
    assert [each["queue"] for each in said["plans"]] == ["work", "slow"]
    assert "127.0.0.1:1" in said["plans"][0]["errors"][0]
    assert said["plans"][0]["lease"] is None


def test_tables_of_ours_that_are_missing_are_a_finding_with_the_remedy(command: Command) -> None:
    done = command("plan", "Items")

    assert done.returncode == 5
    assert "reconciler upgrade" in done.stderr


def test_the_limit_of_counting_is_said(command: Command, home: Engine) -> None:
    fill(home, range(1, 9))

    done = command("plan", "Items", "--limit", "5", "--rows", "2")

    assert "at least 5 rows" in done.stdout
    assert done.stdout.count("not told") == 2
