"""Each cause planted once, and named first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core import Job
from qik_core.passes import EndedKind, Passes
from reconciler import Occurrences, Quarantine, derive
from reconciler.causes.found import Reason
from reconciler.passes import Tools
from reconciler.quarantine import RowStates
from tests.qik_core.store.rig import Worker
from tests.reconciler.ends import end
from tests.reconciler.shop import Item, change, fill, items
from tests.reconciler.whys import PENDING, Ask, run, utc


def test_a_select_that_fails(ask: Ask, home: Engine) -> None:
    fill(home, [1])
    with home.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE item RENAME COLUMN state TO status")

    answer = ask(items(PENDING), 1)

    assert answer.cause.reason is Reason.BROKEN
    assert "state" in answer.cause.text
    assert answer.known.errors == []


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


@pytest.mark.parametrize("before", [0, 2])
def test_a_row_whose_job_said_that_it_can_never_succeed(
    ask: Ask, home: Engine, seam: Passes, raw: Any, before: int
) -> None:
    fill(home, [1])
    definition = items(PENDING)
    for _ in range(before):
        end(raw, definition, (1,))
    error = "qik_core.outcomes.Terminal: closed for ever"
    end(raw, definition, (1,), EndedKind.TERMINAL, error=error)
    RowStates(home, seam).drain()

    said = ask(definition, 1).cause.text

    earlier = " (before that it died 2 times)" if before else ""
    assert said.startswith(
        f"it is quarantined: its job said Terminal: closed for ever{earlier}. A newer row version"
    )


def test_a_row_that_is_quarantined(ask: Ask, home: Engine, seam: Passes, raw: Any) -> None:
    fill(home, [1])
    definition = items(PENDING, quarantine=Quarantine(after=1))
    end(raw, definition, (1,), error="TypeError: no total")
    RowStates(home, seam).drain()

    answer = ask(definition, 1)

    assert answer.cause.reason is Reason.QUARANTINED
    assert "TypeError: no total" in answer.cause.text
    assert "reconciler quarantine" in answer.cause.text
