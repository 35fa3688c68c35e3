from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.reconciler.commands import Command, command, database_url
from tests.reconciler.sharded import shard
from tests.reconciler.test_cli import APP

__all__ = ["APP", "command", "database_url"]

SHARDED = """
from pathlib import Path
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, Shards, derive_sharded
from tests.reconciler.shop import Item

HERE = Path(__file__).parent

class Work(Job, queue="work", unique_for=3600):
    def perform(self, shard: str, item_id: int) -> None: ...

class Items(Reconciler, every=60, shards=Shards(lambda: {
    path.stem: f"sqlite:///{path}" for path in HERE.glob("*.db") if path.stem != "test"
})):
    pending = derive_sharded(Work, select(Item.id).where(Item.state == "pending"))
"""


@pytest.fixture
def shards(command: Command, home: Engine) -> Callable[[str, int], str]:
    (command.folder / "shop_app.py").write_text(SHARDED)
    return lambda name, rows: shard(command.folder, name, rows)


def test_a_pass_by_hand_runs_every_shard(
    command: Command, shards: Callable[[str, int], str], raw: Any
) -> None:
    shards("eu1", 2), shards("us1", 3)

    text, data = command("pass", "Items"), command("pass", "Items", "--json")

    assert text.returncode == 0, text.stderr
    assert [line.split(" in ")[0] for line in text.stdout.splitlines()] == [
        "Items/eu1: completed",
        "Items/us1: completed",
    ]
    whole = json.loads(data.stdout)
    assert whole["reconciler"] == "Items"
    assert [(each["reconciler"], each["codes"]) for each in whole["shards"]] == [
        ("Items/eu1", {"told": 2}),
        ("Items/us1", {"told": 3}),
    ]
    assert raw.llen("queue:work") == 5
    status = command("status", "--json")
    assert [
        (each["reconciler"], each["shard"]) for each in json.loads(status.stdout)["reconcilers"]
    ] == [
        ("Items", "eu1"),
        ("Items", "us1"),
    ]
    assert "Items/us1" in command("status").stdout


def test_a_pass_by_hand_may_run_one_shard(
    command: Command, shards: Callable[[str, int], str], raw: Any
) -> None:
    shards("eu1", 2), shards("us1", 3)

    done = command("pass", "Items", "--shard", "us1", "--json")

    assert json.loads(done.stdout)["codes"] == {"enqueued": 3}
    assert raw.llen("queue:work") == 3


def test_a_shard_that_does_not_exist_is_a_finding_with_those_that_do(
    command: Command, shards: Callable[[str, int], str]
) -> None:
    shards("eu1", 2)

    done = command("pass", "Items", "--shard", "eu2")

    assert done.returncode == 1
    assert "Items has no shard 'eu2' (known: eu1)" in done.stderr


def test_a_shard_of_a_reconciler_without_any_is_a_usage_error(
    command: Command, home: Engine
) -> None:
    done = command("pass", "Items", "--shard", "eu1")

    assert done.returncode == 2
    assert "Items has no shards: leave --shard out" in done.stderr
