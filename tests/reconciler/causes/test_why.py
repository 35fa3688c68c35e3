"""Who can be reached answers, and nobody is written to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, func, inspect, select, text

from qik_core.embedded import Embedded
from qik_core.passes import Passes
from reconciler.causes.found import Reason
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.inquiry import Means, inquire
from reconciler.memory import Memory
from reconciler.passes import Tools
from reconciler.states import Hold, State
from reconciler.why import why
from tests.qik_core.store.rig import Worker
from tests.reconciler.commands import NOWHERE
from tests.reconciler.sharded import shard, sharded
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.whys import PENDING, Ask, run
from tests.waiting import eventually


def test_without_redis_sql_still_answers(
    ask: Ask, home: Engine, redis_server: Embedded, led: Callable[[Definition], None]
) -> None:
    fill(home, [1])
    fill(home, [2], state="done")
    definition = items(PENDING)
    led(definition)
    redis_server.kill()

    pending, done = ask(definition, 1), ask(definition, 2)

    assert (pending.cause.reason, done.cause.reason) == (Reason.UNKNOWN, Reason.NOT_MATCHING)
    assert len(pending.known.errors) == 1


def test_without_sql_redis_still_answers(
    home: Engine, seam: Passes, tools: Tools, worker: Worker
) -> None:
    fill(home, [1, 2])
    definition = items(PENDING)
    run(definition, tools)
    away = Engines({"default": NOWHERE})

    answer = why(inquire(definition, (2,), Means(away, seam), patience=5))
    away.dispose()

    assert answer.cause.reason is Reason.QUEUED
    assert "number 2 of 2" in answer.cause.text
    assert {type(each) for each in answer.known.errors} == {SqlUnavailable}


# SQLite has no server that could hang.
@pytest.mark.parametrize("database_url", ["postgres_url"], indirect=True)
def test_a_database_that_hangs_does_not_hold_up_the_answer(
    seam: Passes, home: Engine, engines: Engines
) -> None:
    fill(home, [1])
    slow = items(select(Item.id).where(func.pg_sleep(30).is_not(None)), statement_timeout=60)
    (lock,) = seam.digests(slow.job, [(1,)])
    held = State(job="Work", digest=lock.decode(), hold=Hold.QUARANTINED, error="by hand")
    note = {"action": "x", "who": "x", "subject": "x", "reason": "x"}
    Memory(home).keep(held, note)
    began = datetime.now(UTC)

    answer = why(inquire(slow, (1,), Means(engines, seam), patience=1.8))

    assert (datetime.now(UTC) - began).total_seconds() < 4
    assert answer.known.errors
    assert answer.cause.reason is Reason.QUARANTINED  # which is not in that row's database
    eventually(lambda: "reconciler-asked" not in {each.name for each in threading.enumerate()})


def test_asking_writes_nothing_anywhere(
    ask: Ask, home: Engine, tools: Tools, raw: Any, worker: Worker
) -> None:
    fill(home, [1, 2])
    definition = items(PENDING, version=Item.version)
    run(definition, tools)

    def everything() -> tuple[Any, Any]:
        with home.connect() as connection:
            names = inspect(home).get_table_names()
            rows = {
                n: sorted(map(repr, connection.execute(text(f"SELECT * FROM {n}")))) for n in names
            }
        return {key: raw.dump(key) for key in raw.scan_iter()}, rows

    before = everything()
    ask(definition, 1)
    ask(definition, 9)

    assert everything() == before


def test_a_key_of_two_columns_and_a_shard(
    tmp_path: Any, home: Engine, seam: Passes, engines: Engines
) -> None:
    url = shard(tmp_path, "north", 3)
    definition = sharded(lambda: {"north": url}).in_shard("north")

    answer = why(inquire(definition, (2,), Means(engines, seam), patience=20))
    seam.push(definition.job, [("north", 2)])
    told = why(inquire(definition, (2,), Means(engines, seam), patience=20))

    assert answer.cause.reason is Reason.NO_PROCESS
    assert answer.as_json()["args"] == ["north", 2]
    assert told.cause.reason is Reason.QUEUED


def test_the_answer_is_plain_json_with_the_last_passes(
    ask: Ask, home: Engine, tools: Tools, worker: Worker
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    for _ in range(7):
        run(definition, tools)

    said = json.loads(json.dumps(ask(definition, 1).as_json()))

    assert (said["reconciler"], said["key"], said["args"]) == ("Items", [1], [1])
    assert said["cause"]["reason"] == "queued"
    assert [each["outcome"] for each in said["passes"]] == ["completed"] * 5
    assert said["passes"][-1]["codes"] == {"told": 1}
    assert len(said["jid"]) == 24


def test_every_reason_has_its_row_in_the_guide() -> None:
    from pathlib import Path

    guide = Path(__file__).parents[3] / "docs" / "how-to" / "ask-why.md"
    told = guide.read_text(encoding="utf-8")

    assert [each for each in Reason if f"| `{each}` |" not in told] == []
