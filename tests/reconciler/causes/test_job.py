"""Each cause planted once, and named first."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from qik_core.api import DeadSet
from qik_core.store.exchange import Kind
from qik_core.store.flush import FlushStore, Home, Place
from qik_core.store.records import Records
from reconciler.causes.found import Reason
from reconciler.definition import Definition
from reconciler.passes import Tools
from tests.qik_core.store.rig import Rig, Worker, other
from tests.reconciler.shop import change, fill, items
from tests.reconciler.whys import PENDING, Ask, passed, run


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


def test_a_job_that_a_flush_has_left_aside(
    ask: Ask, home: Engine, tools: Tools, rig: Rig, worker: Worker
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    flush = FlushStore(rig.store, "alice")
    flush.turn()
    flush.aside(Home(Place.QUEUED, b"queue:work"))

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.QUEUED
    assert "a flush is under way, or has died" in answer.cause.text


def test_a_suspect_on_a_queue_from_which_nobody_fetches_is_said_in_whole_sentences(
    ask: Ask, home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    raw.lmove("queue:work", "qik:suspect:work")
    raw.sadd("qik:suspects", "work")

    text = ask(definition, 1).cause.text

    assert text.endswith(
        "is number 1 of 1 on work among the suspects: "
        "two processes died while it ran, so it runs alone; no process fetches from work"
    )


def test_a_job_that_is_due_on_a_queue_from_which_nobody_fetches(
    ask: Ask, home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1])
    definition = items(PENDING, every=3_600, jitter=3_000)
    run(definition, tools)
    ((job, due),) = raw.zrange("qik:later:work", 0, -1, withscores=True)
    raw.zadd("qik:later:work", {job: due - 3_600})

    answer = ask(definition, 1)

    assert [each.reason for each in answer.found] == [Reason.SCHEDULED, Reason.UNSERVED]
    assert "it has been due" in answer.cause.text
    assert answer.cause.text.endswith("no process fetches from work")
    assert "qik work --queue work" in answer.found[1].text


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


def test_a_dead_job_is_run_again_by_a_call_that_exists_and_only_if_its_row_wants_it(
    ask: Ask, home: Engine, tools: Tools, worker: Worker
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    (held,) = worker.exchange(queues=("work",)).jobs
    worker.exchange(other(held, Kind.DEAD), queues=("work",))

    pending = ask(definition, 1)
    change(home, 1, state="done")
    done = ask(definition, 1)

    (advised,) = re.findall(r'DeadSet\(\)\.retry_all\("(.*?)"\)', pending.cause.text)
    assert [each.reason for each in done.found][:2] == [Reason.NOT_MATCHING, Reason.DEAD]
    assert "again" not in done.found[1].text
    assert DeadSet(worker.rig.store).retry_all(advised).done == 1


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
