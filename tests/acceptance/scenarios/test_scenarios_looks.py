"""Scenarios 51 and 52: what is wrong is said before it hurts, and looking writes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import insert, text

from reconciler.sql import read_clock
from reconciler.tables import passes
from tests.acceptance.scenarios.world import PLAIN, Size, World, locks, sizes

UNTOLD = """
class Forgotten(Job, queue="work"):
    def perform(self, item_id: int) -> None: ...
"""
ARITY = PLAIN.replace("PENDING)", "select(Item.id, Item.version))")
TIES = """
class Work(Job, queue="work", unique_for=600):
    def perform(self, tenant: str) -> None: ...

class Items(Reconciler, every=2):
    pending = derive(Work, select(Item.tenant), key=Item.tenant)
"""
WIDE = PLAIN.replace("every={every}", "every=3_600, jitter=900")
SHORT = PLAIN.replace("every={every}", "every=1")
FINDINGS = [
    pytest.param(UNTOLD, "unreconciled", "Forgotten", id="no-reconciler", marks=pytest.mark.slow),
    pytest.param(ARITY, "columns-fit", "Items", id="arity"),
    pytest.param(TIES, "key-unique", "Items", id="no-tie-break", marks=pytest.mark.slow),
    pytest.param(
        WIDE,
        "jitter-below-unique-for",
        "Items",
        id="unique-for-below-jitter",
        marks=pytest.mark.slow,
    ),
    pytest.param(SHORT, "slow-pass", "Items", id="every-below-pass-time"),
]


@pytest.mark.parametrize("size", [Size("sqlite", 1, full=False)], ids=["small-sqlite"])
@pytest.mark.parametrize(("app", "rule", "name"), FINDINGS)
def test_scenario_51_lint_names_the_class_and_the_rule_of_each_mistake(
    world: World, size: Size, app: str, rule: str, name: str
) -> None:
    world.define(app, seconds=0.0, every=2.0)
    now = read_clock(world.engine)
    slow = {"reconciler": "Items", "job_class": "Work", "holder": "x", "term": 1, "codes": "{}"}
    moments = {"started_at": now - 40, "ended_at": now - 10, "outcome": "completed"}
    with world.engine.begin() as connection:
        connection.execute(insert(passes), [{**slow, **moments}] * 5)

    found = world.command("lint", "shop", check=False)

    said = found.stdout + found.stderr
    assert found.returncode in (1, 2), said  # a finding, or an application that cannot be imported
    assert name in said
    assert rule in said


QUIET = PLAIN.replace("every={every}", "every={every}, batch_size=100")
WRITTEN = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
"""The number of the next transaction that writes: PostgreSQL numbers no others."""


@sizes(fast=300, full=5_000)
def test_scenario_52_a_plan_writes_nothing_and_counts_what_a_pass_then_does(
    world: World, size: Size, raw: Any
) -> None:
    world.plain()
    world.fill(range(1, size.rows + 1))
    if not world.on_sqlite:
        with world.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE item SET (autovacuum_enabled = false)")
    world.python(f"Work.perform_bulk([(n,) for n in range(1, {size.rows // 3 + 1})])")
    before = _written(world, raw)

    with raw.monitor() as monitor:
        planned = json.loads(world.command("plan", "--app", "shop", "--json").stdout)
        raw.echo("end")
        seen = list(_commands(monitor))

    assert _written(world, raw) == before
    assert not [line for line in seen if line.split()[0].upper() in WRITES], seen
    (plan,) = planned["plans"]
    report = json.loads(world.command("pass", "Items", "--app", "shop", "--json").stdout)
    assert plan["pending"] == report["scanned"] == size.rows
    assert plan["told"] == report["codes"]["told"] == size.rows // 3


SHADOW = PLAIN.replace("edges=True", "shadow={shadow}")


@sizes(fast=None, full=2_000)
def test_scenario_52_a_shadow_pass_counts_what_it_would_tell_and_tells_nothing(
    world: World, size: Size, raw: Any
) -> None:
    world.define(SHADOW, seconds=0.0, every=2.0, shadow=True)
    world.fill(range(1, size.rows + 1))
    world.python(f"Work.perform_bulk([(n,) for n in range(1, {size.rows // 3 + 1})])")
    before = locks(raw)

    seen = json.loads(world.command("pass", "Items", "--app", "shop", "--json").stdout)["codes"]

    assert locks(raw) == before
    assert raw.llen("queue:work") == len(before) == size.rows // 3
    assert raw.zcard("qik:later:work") == 0
    world.define(SHADOW, seconds=0.0, every=2.0, shadow=False)
    done = json.loads(world.command("pass", "Items", "--app", "shop", "--json").stdout)["codes"]
    assert seen == {"told": size.rows // 3, "shadow": size.rows - size.rows // 3}
    assert done == {"told": seen["told"], "enqueued": seen["shadow"]}


WRITES = {"LPUSH", "RPUSH", "ZADD", "SADD", "SET", "HSET", "HDEL", "ZREM", "EXPIRE", "HINCRBY"}


def _commands(monitor: Any) -> Any:
    for each in monitor.listen():
        if each["command"] == "ECHO end":
            return
        yield each["command"]


def _written(world: World, raw: Any) -> tuple[int, int]:
    """Return marks that move with each write in Redis and in SQL."""
    with world.engine.connect() as connection:
        if world.on_sqlite:
            mark = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        else:
            mark = connection.execute(text(WRITTEN)).scalar_one()
    return raw.info("persistence")["rdb_changes_since_last_save"], int(mark)
