"""Each cause planted once, and named first."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from qik_core.passes import Passes
from qik_core.switches import Condition, Field, Operator, Rule, Snapshot
from reconciler import Backpressure, Fair, Quarantine
from reconciler.causes.found import Reason
from reconciler.definition import Definition
from reconciler.passes import Tools
from reconciler.quarantine import RowStates
from reconciler.report import Outcome
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.settling import By
from tests.reconciler.ends import end
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.whys import PENDING, Ask, passed, run, utc


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


HELD: dict[Reason, dict[str, Any]] = {
    Reason.SHADOW: {"shadow": True},
    Reason.GATED: {"backpressure": Backpressure(health=[lambda: "the bank is closed"])},
    Reason.OVER_SHARE: {"tenant": Item.note, "fair": Fair(per_tenant=1)},
    Reason.LATE: {"run_at": Item.since, "late": "skip", "grace": 600},
    Reason.QUARANTINED: {"quarantine": Quarantine(after=1)},
    Reason.WAITING: {"quarantine": Quarantine(after=5)},
}


@pytest.mark.parametrize("reason", HELD)
def test_a_row_that_something_holds_back_is_not_said_to_be_told_by_the_next_pass(
    reason: Reason,
    ask: Ask,
    home: Engine,
    seam: Passes,
    raw: Any,
    led: Callable[[Definition], None],
) -> None:
    fill(home, [1, 2], note="big", since=utc(hours=2))
    definition = items(PENDING, **HELD[reason])
    if reason in (Reason.QUARANTINED, Reason.WAITING):
        end(raw, definition, (2,))
        RowStates(home, seam).drain()
    passed(home, definition, "completed")
    led(definition)

    answer = ask(definition, 2)

    assert [each.reason for each in answer.found] == [reason]


SQLITE = pytest.mark.parametrize("database_url", ["sqlite_url"], indirect=True)


def off(seam: Passes, **rule: Any) -> None:
    """Switch the job of items off, for whom the rule says."""
    version = max(int(time.time() * 1000), seam.switches().version + 1)
    seam.publish(Snapshot(version, {"disable_work": (Rule(source="sql", **rule),)}))


@SQLITE
def test_a_kill_switch(
    ask: Ask, home: Engine, tools: Tools, led: Callable[[Definition], None], seam: Passes
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    off(seam, reason="double charging")
    assert run(definition, tools) is Outcome.GATED
    led(definition)

    answer = ask(definition, 1)

    assert [each.reason for each in answer.found] == [Reason.SWITCHED_OFF]
    assert "switched off by disable_work (sql): double charging" in answer.cause.text
    assert "reconciler enable disable_work" in answer.cause.text


@SQLITE
def test_a_kill_switch_that_keeps_back_some_rows_is_named_for_those_alone(
    ask: Ask, home: Engine, led: Callable[[Definition], None], seam: Passes
) -> None:
    for key in (1, 2):
        fill(home, [key], rank=key)
    definition = items(PENDING, tenant=Item.rank)
    off(seam, where=(Condition(Field.TENANT, Operator.IN, ("2",)),))
    led(definition)

    assert ask(definition, 1).cause.reason is Reason.LOST
    assert ask(definition, 2).cause.reason is Reason.SWITCHED_OFF


@SQLITE
def test_a_kill_switch_that_redis_does_not_know_is_found_in_sql(
    ask: Ask, home: Engine, led: Callable[[Definition], None]
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    Switcher(home, None).disable(Order(flag="disable_reconciler_items", by=By("ana", "why not")))
    led(definition)

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.SWITCHED_OFF
    assert "disable_reconciler_items" in answer.cause.text


@SQLITE
def test_a_job_that_waits_under_a_kill_switch_is_said_to_be_dropped(
    ask: Ask, home: Engine, tools: Tools, worker: Any, seam: Passes
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    run(definition, tools)
    off(seam)

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.QUEUED
    found = {each.reason: each.text for each in answer.found}
    assert "drops it" in found[Reason.SWITCHED_OFF]
