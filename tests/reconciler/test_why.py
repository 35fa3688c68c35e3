"""Each cause planted once, and named first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, inspect, select, text

from qik_core import Job
from qik_core.embedded import Embedded
from qik_core.passes import Passes
from qik_core.store.exchange import Kind
from qik_core.store.records import Records
from reconciler import Backpressure, Fair, Occurrences, Quarantine, derive
from reconciler.causes.found import Reason
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.inquiry import Means, inquire
from reconciler.lease import Leases
from reconciler.passes import Pass, Tools
from reconciler.quarantine import RowStates
from reconciler.report import Outcome
from reconciler.sql import clock
from reconciler.tables import passes
from reconciler.why import Answer, why
from tests.qik_core.store.rig import Rig, Worker, other
from tests.reconciler.ends import end
from tests.reconciler.sharded import shard, sharded
from tests.reconciler.shop import Item, change, fill, items
from tests.reconciler.test_cli import NOWHERE

PENDING = select(Item.id).where(Item.state == "pending")
Ask = Callable[..., Answer]


@pytest.fixture(params=["sqlite_url", "postgres_url"], ids=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """What differs in MariaDB is the SQL of conditions: `test_clauses` asks it."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def ask(engines: Engines, home: Engine, seam: Passes) -> Ask:
    """Ask why, with all the time in the world: what is tested is the answer."""

    def asked(definition: Definition, *key: Any) -> Answer:
        return why(inquire(definition, key, Means(engines, seam), patience=20))

    return asked


@pytest.fixture
def rig(redis_url: str, raw: Any) -> Rig:
    return Rig(redis_url, raw)


@pytest.fixture
def worker(rig: Rig) -> Worker:
    """A process that works on the queue by hand, and is seen to do so."""
    made = rig.worker("host:7:beef")
    rig.raw.sadd("processes", made.identity)
    beat = {"info": json.dumps({"queues": ["work"]}), "beat": str(datetime.now(UTC).timestamp())}
    rig.raw.hset(made.identity, mapping=beat)
    return made


@pytest.fixture
def led(home: Engine) -> Iterator[Callable[[Definition], None]]:
    """Let somebody hold the lease of a reconciler."""
    made: list[Leases] = []

    def lead(definition: Definition) -> None:
        leases = Leases(home, [definition.unit], 30.0, holder="somebody")
        leases.register()
        leases.renew()
        made.append(leases)

    yield lead
    for each in made:
        each.release()


def utc(**ago: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(**ago)


def run(definition: Definition, tools: Tools) -> Outcome:
    return Pass(definition, tools, 0, lambda: None).run().outcome


def passed(home: Engine, definition: Definition, outcome: str, reason: str = "") -> None:
    """Write the line of a pass that ended just now."""
    now = clock(home.dialect.name)
    row = {
        "reconciler": definition.name,
        "job_class": definition.facts.name,
        "holder": "test",
        "term": 1,
        "started_at": now,
        "ended_at": now,
        "outcome": outcome,
        "reason": reason,
        "codes": "{}",
    }
    with home.begin() as connection:
        connection.execute(insert(passes).values(row))


# --- the row ------------------------------------------------------------------------------------


def test_a_row_that_does_not_exist(ask: Ask, home: Engine) -> None:
    fill(home, [1])

    answer = ask(items(PENDING), 2)

    assert answer.cause.reason is Reason.NO_ROW
    assert "2" in answer.cause.text


def test_a_row_that_does_not_match_with_the_condition_that_fails_and_what_the_row_has(
    ask: Ask, home: Engine
) -> None:
    fill(home, [1], state="done", rank=5)
    definition = items(select(Item.id).where(Item.state == "pending", Item.rank > 3))

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.NOT_MATCHING
    assert "item.state = 'pending'" in answer.cause.text
    assert "state is 'done'" in answer.cause.text
    assert "rank" not in answer.cause.text


def test_a_row_that_does_not_match_any_more_and_whose_job_waits_still(
    ask: Ask, home: Engine, tools: Tools, worker: Worker
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    change(home, 1, state="done")

    answer = ask(definition, 1)

    assert [each.reason for each in answer.found][:2] == [Reason.NOT_MATCHING, Reason.QUEUED]


def test_a_row_whose_arguments_cannot_travel(ask: Ask, home: Engine) -> None:
    fill(home, [1])
    definition = items(
        select(Item.id, Item.note).where(Item.state == "pending"),
        args=lambda row: (f"no. {row[0]}",),
        key=Item.id,
    )

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.INVALID
    assert "item_id" in answer.cause.text


def test_a_slot_that_is_none_is_done_or_is_left_to_another_one(
    ask: Ask, home: Engine, seam: Passes
) -> None:
    class Report(Job, queue="work", unique_for=3600):
        def perform(self, slot: datetime) -> None: ...

    class Hourly(Occurrences, schedule="0 * * * *", overlap="one", catchup=timedelta(hours=3)):
        done = derive(  # type: ignore[misc]  # the column may be NULL, and the rows selected are not
            Report, select(Item.since).where(Item.since.is_not(None))
        )

    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    done, first, second = (now - timedelta(hours=each) for each in (2, 1, 0))
    fill(home, [1], since=done.replace(tzinfo=None))
    seam.push(Report, [(first,)])

    causes = {
        slot: ask(Hourly.definition, slot).cause
        for slot in (now + timedelta(minutes=7), done, first, second)
    }

    reasons = [each.reason for each in causes.values()]
    assert reasons == [Reason.NO_ROW, Reason.NOT_MATCHING, Reason.QUEUED, Reason.NOT_MATCHING]
    assert "is done" in causes[done].text
    assert "overlap=" in causes[second].text


# --- its job ------------------------------------------------------------------------------------


def test_a_queued_job_with_its_place(ask: Ask, home: Engine, tools: Tools, worker: Worker) -> None:
    fill(home, [1, 2, 3])
    definition = items(PENDING)
    run(definition, tools)

    answer = ask(definition, 2)

    assert answer.cause.reason is Reason.QUEUED
    assert "number 2 of 3 on work" in answer.cause.text
    assert answer.cause.details["position"] == 2


def test_a_queued_job_on_a_queue_from_which_nobody_fetches(
    ask: Ask, home: Engine, tools: Tools
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)

    answer = ask(definition, 1)

    assert [each.reason for each in answer.found] == [Reason.QUEUED, Reason.UNSERVED]
    assert "no process fetches" in answer.cause.text


def test_a_job_on_a_paused_queue(
    ask: Ask, home: Engine, tools: Tools, rig: Rig, worker: Worker
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    Records(rig.store).pause("work", on=True)

    answer = ask(definition, 1)

    assert [each.reason for each in answer.found] == [Reason.PAUSED, Reason.QUEUED]
    assert "qik resume work" in answer.cause.text


def test_a_scheduled_job_with_its_time(ask: Ask, home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, [1])
    definition = items(PENDING, every=3_600, jitter=3_000)
    run(definition, tools)
    ((_, due),) = raw.zrange("qik:later:work", 0, -1, withscores=True)

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.SCHEDULED
    assert answer.next_at == pytest.approx(due)


def test_a_running_job_with_its_process(
    ask: Ask, home: Engine, tools: Tools, worker: Worker
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    (held,) = worker.exchange(queues=("work",)).jobs
    worker.rig.raw.hset(f"{worker.identity}:work", held.field, '{"run_at": 1700000000}')

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.RUNNING
    assert "host:7:beef" in answer.cause.text
    assert answer.cause.details["since"] == 1_700_000_000.0


def test_a_retrying_job_with_its_error_and_its_next_try(
    ask: Ask, home: Engine, tools: Tools, worker: Worker
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    (held,) = worker.exchange(queues=("work",)).jobs
    failed = other(held, Kind.RETRY, delay=40)
    error = b'"retry_count":1,"error_class":"TypeError","error_message":"no total"'
    worker.exchange(
        replace(failed, payload=failed.payload.replace(b'"retry_count":0', error)),
        queues=("work",),
    )

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.RETRYING
    assert "2 times" in answer.cause.text
    assert "TypeError: no total" in answer.cause.text
    assert answer.next_at is not None
    assert 30 < answer.next_at - datetime.now(UTC).timestamp() < 50


def test_a_dead_job_with_its_error(ask: Ask, home: Engine, tools: Tools, worker: Worker) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    (held,) = worker.exchange(queues=("work",)).jobs
    died = other(held, Kind.DEAD)
    error = b'"retry_count":0,"error_class":"TypeError","error_message":"no total"'
    worker.exchange(
        replace(died, payload=died.payload.replace(b'"retry_count":0', error)), queues=("work",)
    )

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.DEAD
    assert "TypeError: no total" in answer.cause.text


def test_a_job_that_died_before_the_last_pass_is_told_of_last(
    ask: Ask, home: Engine, tools: Tools, worker: Worker, led: Callable[[Definition], None]
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    (held,) = worker.exchange(queues=("work",)).jobs
    worker.exchange(other(held, Kind.DEAD), queues=("work",))
    ((dead, at),) = worker.rig.raw.zrange("dead", 0, -1, withscores=True)
    worker.rig.raw.zadd("dead", {dead: at - 60})
    passed(home, definition, "completed")
    led(definition)

    answer = ask(definition, 1)

    assert [each.reason for each in answer.found] == [Reason.LOST, Reason.DEAD]


def test_a_lock_whose_job_somebody_deleted(ask: Ask, home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    raw.delete("queue:work")

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.ORPHAN


# --- its time -------------------------------------------------------------------------------------


def test_a_row_that_is_too_young_and_by_how_much(ask: Ask, home: Engine) -> None:
    fill(home, [1], since=utc(seconds=10))

    answer = ask(items(PENDING, age=Item.since, min_age=60), 1)

    assert answer.cause.reason is Reason.TOO_YOUNG
    assert answer.next_at is not None
    assert 30 < answer.next_at - datetime.now(UTC).timestamp() <= 50


def test_a_row_that_is_due_too_far_ahead(ask: Ask, home: Engine) -> None:
    fill(home, [1], since=utc(hours=-2))

    answer = ask(items(PENDING, run_at=Item.since, horizon=600), 1)

    assert answer.cause.reason is Reason.NOT_DUE
    assert answer.next_at is not None
    assert 6_500 < answer.next_at - datetime.now(UTC).timestamp() < 6_700


def test_a_row_that_was_due_too_long_ago(ask: Ask, home: Engine) -> None:
    fill(home, [1], since=utc(hours=2))

    answer = ask(items(PENDING, run_at=Item.since, late="skip", grace=600), 1)

    assert answer.cause.reason is Reason.LATE


# --- held back ------------------------------------------------------------------------------------


def test_a_row_that_waits_after_a_bad_end(ask: Ask, home: Engine, seam: Passes, raw: Any) -> None:
    fill(home, [1])
    definition = items(PENDING)
    end(raw, definition, (1,), error="TypeError: no total")
    RowStates(home, seam).drain()

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.WAITING
    assert "died once: TypeError: no total" in answer.cause.text
    assert answer.next_at is not None
    assert answer.next_at == answer.cause.details["next_at"]


def test_a_row_that_is_quarantined(ask: Ask, home: Engine, seam: Passes, raw: Any) -> None:
    fill(home, [1])
    definition = items(PENDING, quarantine=Quarantine(after=1))
    end(raw, definition, (1,), error="TypeError: no total")
    RowStates(home, seam).drain()

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.QUARANTINED
    assert "TypeError: no total" in answer.cause.text
    assert "reconciler quarantine" in answer.cause.text


# --- passes ---------------------------------------------------------------------------------------


def test_back_pressure_now(
    ask: Ask, home: Engine, tools: Tools, led: Callable[[Definition], None]
) -> None:
    fill(home, [1, 2, 3])
    definition = items(PENDING, backpressure=Backpressure(high=2), batch_size=1)
    assert run(definition, tools) is Outcome.GATED
    led(definition)

    answer = ask(definition, 3)

    assert answer.cause.reason is Reason.GATED
    assert "2 jobs" in answer.cause.text


def test_a_hook_that_says_why_passes_should_wait(
    ask: Ask, home: Engine, led: Callable[[Definition], None]
) -> None:
    fill(home, [1])
    definition = items(PENDING, backpressure=Backpressure(health=[lambda: "the bank is closed"]))
    led(definition)

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.GATED
    assert "the bank is closed" in answer.cause.text


def test_a_last_pass_that_was_gated(
    ask: Ask, home: Engine, led: Callable[[Definition], None]
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    passed(home, definition, "gated", "Redis was full")
    led(definition)

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.GATED
    assert "Redis was full" in answer.cause.text


def test_a_reconciler_in_shadow(
    ask: Ask, home: Engine, tools: Tools, led: Callable[[Definition], None]
) -> None:
    fill(home, [1])
    definition = items(PENDING, shadow=True)
    run(definition, tools)
    led(definition)

    assert ask(definition, 1).cause.reason is Reason.SHADOW


def test_a_reconciler_that_nobody_runs_and_how_its_last_pass_ended(ask: Ask, home: Engine) -> None:
    fill(home, [1])
    definition = items(PENDING)
    passed(home, definition, "deposed", "the lease is gone")

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.NO_PROCESS
    assert "deposed, the lease is gone" in answer.cause.text


def test_a_pass_that_failed(ask: Ask, home: Engine, led: Callable[[Definition], None]) -> None:
    fill(home, [1])
    definition = items(PENDING)
    passed(home, definition, "failed", "no such column: total")
    led(definition)

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.PASS_FAILED
    assert "no such column: total" in answer.cause.text


def test_a_row_of_a_tenant_that_has_more_than_its_share(
    ask: Ask, home: Engine, tools: Tools, led: Callable[[Definition], None]
) -> None:
    fill(home, range(1, 6), note="big")
    definition = items(PENDING, tenant=Item.note, fair=Fair(per_tenant=2))
    run(definition, tools)
    led(definition)

    answer = ask(definition, 5)

    assert ask(definition, 2).cause.reason is Reason.QUEUED
    assert answer.cause.reason is Reason.OVER_SHARE
    assert "number 5" in answer.cause.text


def test_a_row_whose_job_was_lost_and_when_it_is_told(
    ask: Ask, home: Engine, tools: Tools, raw: Any, led: Callable[[Definition], None]
) -> None:
    fill(home, [1], since=utc(hours=1))
    definition = items(PENDING, every=300, age=Item.since)
    run(definition, tools)
    led(definition)
    raw.flushall()

    answer = ask(definition, 1)

    assert [each.reason for each in answer.found] == [Reason.LOST]
    assert answer.next_at is not None
    assert 200 < answer.next_at - datetime.now(UTC).timestamp() <= 301


# --- who can be reached -------------------------------------------------------------------------


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


def test_a_database_that_hangs_does_not_hold_up_the_answer(
    seam: Passes, home: Engine, engines: Engines
) -> None:
    fill(home, [1])
    if home.dialect.name == "sqlite":
        pytest.skip("it has no server that could hang")
    slow = items(select(Item.id).where(func.pg_sleep(30).is_not(None)), statement_timeout=60)
    began = datetime.now(UTC)

    answer = why(inquire(slow, (1,), Means(engines, seam), patience=1.0))

    assert (datetime.now(UTC) - began).total_seconds() < 4
    assert answer.known.errors


# --- the rest -----------------------------------------------------------------------------------


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

    guide = Path(__file__).parents[2] / "docs" / "how-to" / "ask-why.md"
    told = guide.read_text(encoding="utf-8")

    assert [each for each in Reason if f"| `{each}` |" not in told] == []
