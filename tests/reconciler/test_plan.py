from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, inspect, select, text

from qik_core.embedded import Embedded
from qik_core.passes import Passes
from qik_core.store import Store
from qik_core.switches import Rule, Snapshot
from reconciler import Backpressure, Fair, Quarantine
from reconciler.engines import Engines
from reconciler.passes import Pass, Tools
from reconciler.plan import Means, lease_of, plan
from reconciler.quarantine import RowStates
from reconciler.rows import tag
from reconciler.units import units
from tests.reconciler.ends import end
from tests.reconciler.sharded import shard, sharded
from tests.reconciler.shop import Base, Item, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


@pytest.fixture
def means(engines: Engines, home: Engine, seam: Passes) -> Means:
    return Means(engines, seam)


def redis_now(raw: Any) -> dict[bytes, bytes]:
    return {key: raw.dump(key) for key in raw.scan_iter()}


def sql_now(engine: Engine) -> dict[str, list[str]]:
    """Return every row of every table, in an order that does not change."""
    with engine.connect() as connection:
        return {
            name: sorted(map(repr, connection.execute(text(f"SELECT * FROM {name}"))))
            for name in inspect(engine).get_table_names()
        }


def test_a_plan_counts_what_the_pass_after_it_does(
    means: Means, home: Engine, tools: Tools
) -> None:
    fill(home, range(1, 8))
    fill(home, range(8, 10), state="done")
    definition = items(PENDING)

    before = plan(definition, means)
    report = Pass(definition, tools, 0, lambda: None).run()
    after = plan(definition, means)

    assert (str(before.pending), before.told, before.errors) == ("7", 0, [])
    assert report.codes == {"enqueued": 7}
    assert (str(after.pending), after.told) == ("7", 7)
    assert [row.told for row in after.rows] == [True] * 7


@pytest.mark.parametrize("told", [False, True], ids=["on an empty Redis", "beside told rows"])
def test_a_plan_writes_nothing_anywhere(
    means: Means, home: Engine, tools: Tools, raw: Any, *, told: bool
) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    fill(home, range(1, 30), since=now - timedelta(hours=5))
    fill(home, range(30, 40), since=now + timedelta(seconds=2))
    definition = items(PENDING, age=Item.since, min_age=5, version=Item.version, jitter=10)
    if told:
        Pass(definition, tools, 0, lambda: None).run()
        raw.delete("qik:roll")
    before = redis_now(raw), sql_now(home)

    made = plan(definition, means)

    assert (redis_now(raw), sql_now(home)) == before
    assert (made.errors, made.findings) == ([], [])
    assert made.pending is not None
    assert made.pending.rows >= 29
    assert bool(before[0]) == told


def test_counting_ends_at_the_limit_and_says_so(
    engines: Engines, home: Engine, seam: Passes
) -> None:
    fill(home, range(1, 8))
    definition = items(PENDING, batch_size=2)

    counts = {
        limit: str(plan(definition, Means(engines, seam, limit=limit)).pending)
        for limit in (5, 7, 9)
    }

    assert counts == {5: "at least 5", 7: "7", 9: "7"}


def test_only_the_first_rows_are_shown_in_the_order_of_telling(
    engines: Engines, home: Engine, seam: Passes
) -> None:
    fill(home, range(1, 10))
    definition = items(PENDING, order_by=Item.id.desc(), batch_size=2)

    made = plan(definition, Means(engines, seam, rows=3))

    assert [row.key for row in made.rows] == [(9,), (8,), (7,)]


def test_rows_that_are_too_young_are_counted_apart(means: Means, home: Engine) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    fill(home, [1], since=now - timedelta(hours=2))
    fill(home, [2, 3], since=now - timedelta(seconds=30))
    fill(home, [4], since=None)

    made = plan(items(PENDING, age=Item.since, min_age=timedelta(hours=1)), means)

    assert made.young is not None
    assert (str(made.pending), str(made.young)) == ("2", "2")


def test_the_delay_shown_is_the_one_that_a_pass_would_give(
    means: Means, home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1])
    definition = items(PENDING, every=3600, jitter=3000)

    (row,) = plan(definition, means).rows
    clock = raw.time()
    Pass(definition, tools, 0, lambda: None).run()
    ((_, due),) = raw.zrange("qik:later:work", 0, -1, withscores=True)

    assert 0 <= row.delay < 3000
    assert abs((due - clock[0] - row.delay + 1500) % 3000 - 1500) < 20


def test_a_row_whose_arguments_cannot_travel_is_counted_and_stops_nothing(
    means: Means, home: Engine
) -> None:
    fill(home, [1, 2, 3])
    definition = items(
        select(Item.id, Item.note).where(Item.state == "pending"),
        args=lambda row: ("two" if row[0] == 2 else row[0],),
        key=Item.id,
    )

    made = plan(definition, means)

    assert (made.invalid, str(made.pending), [row.key for row in made.rows]) == (
        1,
        "3",
        [(1,), (3,)],
    )


def test_the_sql_of_page_and_check_has_its_values(means: Means, home: Engine) -> None:
    fill(home, [7])

    made = plan(items(select(Item.id).where(Item.state == "it's 5 %")), means)
    with_row = plan(items(PENDING), means)

    assert made.page is not None
    assert "'it''s 5 %'" in made.page.sql
    assert "LIMIT 1000" in made.page.sql
    assert "item.id = :key_0" in made.check_sql
    assert with_row.check is not None
    assert "item.id = 7" in with_row.check.sql
    assert with_row.check.plan


def test_rows_that_are_held_back_are_told_by_why_and_are_not_counted_as_new(
    engines: Engines, home: Engine, seam: Passes, raw: Any
) -> None:
    fill(home, range(1, 6))
    definition = items(PENDING, version=Item.version, quarantine=Quarantine(after=2))
    for key, times in ((1, 1), (2, 2)):
        for _ in range(times):
            end(raw, definition, (key,), version=tag(1))
    end(
        raw, definition, (3,), version=tag(0)
    )  # changed since: a pass would free it, and write that
    states = RowStates(home, seam)
    states.drain()
    before = redis_now(raw), sql_now(home)

    made = plan(definition, Means(engines, seam, states=states))

    assert (redis_now(raw), sql_now(home)) == before
    assert (made.left_out, made.new) == ({"waiting": 1, "quarantined": 1}, 3)
    assert [each.left_out for each in made.rows] == ["waiting", "quarantined", "", "", ""]


def test_rows_that_are_late_or_due_too_far_ahead_are_counted_apart(
    means: Means, home: Engine
) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    fill(home, [1], since=now - timedelta(hours=2))
    fill(home, [2], since=now + timedelta(seconds=300))
    fill(home, [3, 4], since=now + timedelta(hours=2))
    definition = items(PENDING, run_at=Item.since, horizon=600, late="skip", grace=600)

    made = plan(definition, means)

    assert (made.left_out, made.new, str(made.ahead)) == ({"late": 1}, 1, "2")
    assert [each.key for each in made.rows if not each.left_out] == [(2,)]
    assert all(290 < each.delay <= 300 for each in made.rows if not each.left_out)


def test_the_rows_of_tenants_are_shared_out_as_in_a_pass(
    means: Means, home: Engine, tools: Tools
) -> None:
    fill(home, range(1, 6), note="big")
    fill(home, [6], note="small")
    definition = items(PENDING, tenant=Item.note, fair=Fair(per_tenant=2))

    made = plan(definition, means)
    report = Pass(definition, tools, 0, lambda: None).run()

    assert (made.tenants, made.new) == (2, 3)
    assert report.codes["enqueued"] == 3


def test_back_pressure_is_said_with_the_room_that_is_left(
    means: Means, home: Engine, tools: Tools
) -> None:
    fill(home, range(1, 6))
    definition = items(PENDING, backpressure=Backpressure(high=3), batch_size=2)

    before = plan(definition, means)
    Pass(definition, tools, 0, lambda: None).run()
    after = plan(definition, means)

    assert (before.room, before.new) == (3, 5)
    assert (after.room, after.new) == (0, 2)
    assert "3 jobs wait on work" in after.gate


def test_a_kill_switch_leaves_no_room_and_is_named(
    means: Means, home: Engine, seam: Passes
) -> None:
    fill(home, [1, 2])
    seam.publish(Snapshot(5, {"disable_work": (Rule(source="sql", reason="double charging"),)}))

    made = plan(items(PENDING), means)

    assert (made.room, made.new) == (0, 2)
    assert made.gate == "switched off by disable_work (sql): double charging"


def test_each_shard_has_a_plan_of_its_own(tmp_path: Any, home: Engine, seam: Passes) -> None:
    urls = {name: shard(tmp_path, name, rows) for name, rows in (("north", 2), ("south", 3))}
    definition, databases = sharded(lambda: urls), Engines({"default": home})

    plans = {
        each.unit: plan(each, Means(databases, seam)) for each in units([definition], databases)
    }
    databases.dispose()

    assert {unit: str(each.pending) for unit, each in plans.items()} == {
        "Items/north": "2",
        "Items/south": "3",
    }
    assert [row.args for row in plans["Items/north"].rows] == [("north", 1), ("north", 2)]


def test_without_redis_all_but_told_is_answered(
    means: Means, home: Engine, redis_server: Embedded
) -> None:
    fill(home, [1, 2])
    redis_server.kill()

    lost, absent = plan(items(PENDING), means), plan(items(PENDING), Means(means.engines, None))

    assert (str(lost.pending), lost.told, [row.told for row in lost.rows]) == (
        "2",
        None,
        [None] * 2,
    )
    assert len(lost.errors) == 1
    assert (str(absent.pending), absent.told, absent.errors) == ("2", None, [])


def test_a_statement_that_fails_is_a_finding(means: Means, home: Engine) -> None:
    with home.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE item RENAME COLUMN state TO status")

    made = plan(items(PENDING), means)

    assert "the statement fails" in made.findings[0]
    assert "state" in made.findings[0]
    assert made.pending is None


def test_a_page_that_takes_too_long_is_a_finding_and_its_plan_is_shown(
    postgres_url: str, redis_url: str
) -> None:
    engines, store = Engines({"default": postgres_url}), Store(redis_url)
    Base.metadata.create_all(engines.home())
    fill(engines.home(), range(1, 5))
    slow = select(Item.id).where(func.pg_sleep(Item.id).is_not(None))

    made = plan(items(slow, statement_timeout=0.2), Means(engines, Passes(store)))
    engines.dispose()
    store.close()

    assert [each[:33] for each in made.findings] == ["a page takes longer than 0.2 s: p"]
    assert made.page is not None
    assert (made.pending, made.errors) == (None, [])


def test_a_plan_is_plain_json(means: Means, home: Engine) -> None:
    fill(home, [1])

    shown = plan(items(PENDING), means).as_json()

    assert (shown["pending"], shown["at_least"], shown["told"]) == (1, False, 0)
    row = {"key": ["1"], "args": ["1"], "told": False, "delay": 0.0, "left_out": ""}
    assert shown["rows"] == [row]
    assert (shown["would_tell"], shown["left_out"], shown["gate"]) == (1, {}, "")
    assert shown["page"]["plan"]


def test_a_lease_that_nobody_asked_for_is_not_told_from_one_that_nobody_holds() -> None:
    assert lease_of("Items", None) is None
    assert lease_of("Items", []) == {"holder": None, "term": 0, "expires_in": None}
