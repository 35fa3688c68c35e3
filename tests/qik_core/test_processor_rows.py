"""A job of a reconciled class: its row is asked for before it runs and after, and its end is noted."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from qik_core import Job
from qik_core.context import Context
from qik_core.errors import QikError
from qik_core.outcomes import Discard, RequeueAfter, RetryIn, Terminal
from qik_core.payload import Payload
from qik_core.store.exchange import Done, Kind, Other, Outcome
from tests.qik_core.acting import (
    LOCK,
    NOW,
    fetched,
    gone,
    job_that,
    other,
    own_names,
    process,
    process_later,
    raising,
)
from tests.qik_core.telling import Table
from tests.waiting import eventually

__all__ = ["own_names"]

pytestmark = pytest.mark.usefixtures("own_names")


def noted(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """The kind of the note that goes with an outcome, and what it says."""
    assert isinstance(outcome, Other)
    kind, _, rest = outcome.note.partition(b" ")
    return kind.decode(), json.loads(rest) if rest else {}


# --- before ----------------------------------------------------------------------------


def test_a_job_whose_row_is_gone_is_skipped_whoever_pushed_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[int] = []
    job_that(lambda _, n: ran.append(n))
    with caplog.at_level(logging.INFO, "qik_core.jobs"):
        outcome = process(fetched(qik=LOCK, retry_count=2), rows=Table())

    gone(outcome, "stale")
    assert isinstance(outcome, Other)
    assert (ran, outcome.note, str(outcome.unique)) == ([], b"", LOCK)
    assert "retry_count" not in Payload.decode(outcome.again).fields
    assert [each.message for each in caplog.records] == ["job stale"]


def test_a_job_runs_whose_row_cannot_be_asked_for() -> None:
    ran: list[int] = []
    job_that(lambda _, n: ran.append(n))
    table = Table()
    table.down = True

    assert process(fetched(), rows=table) == Done(fetched())
    assert ran == [7]


def test_a_class_without_a_reconciler_is_not_asked_for() -> None:
    job_that(lambda _, n: None)
    table = Table()
    table.others = frozenset({"Acts"})

    assert process(fetched(), rows=table) == Done(fetched())
    assert (table.looks, table.held) == ([], [])


def test_a_row_is_asked_for_by_the_name_of_its_class_and_by_converted_arguments() -> None:
    seen: list[Any] = []

    class Acts(Job, aliases=("Old",), unique_for=60):
        def perform(self, at: int, text: str = "x") -> None: ...

    table = Table(7)
    ask = table.look

    def look(asked: Any, /) -> Any:
        seen.extend(asked)
        return ask(asked)

    table.look = look  # type: ignore[method-assign]
    table.progresses = False
    process(fetched(**{"class": "Old", "qik": LOCK}), rows=table)

    assert seen == [("Acts", (7, "x"), LOCK[:22])]


def test_a_run_that_is_not_wanted_any_more_when_its_row_was_asked_for_does_not_begin() -> None:
    ran: list[int] = []
    job_that(lambda _, n: ran.append(n))
    table = Table(7)
    contexts: list[Context] = []
    ask = table.look

    def look(asked: Any, /) -> Any:
        contexts[0].cancel()
        return ask(asked)

    table.look = look  # type: ignore[method-assign]
    gone(process(fetched(), rows=table, entered=contexts.append), "cancelled")
    assert (ran, table.held) == ([], [])


# --- after -----------------------------------------------------------------------------


def test_a_job_that_leaves_its_row_pending_has_made_no_progress() -> None:
    job_that(lambda _, n: None)
    outcome = process(fetched(qik=LOCK), rows=Table(7))

    gone(outcome, "")
    kind, said = noted(outcome)
    assert kind == "no_progress"
    assert said == {"name": "Acts", "digest": LOCK[:22], "args": [7], "jid": "j1", "error": ""}


def test_a_job_that_takes_its_row_away_is_done() -> None:
    table = Table(7)
    job_that(lambda _, n: table.pending.discard(n))

    assert process(fetched(), rows=table) == Done(fetched())
    assert table.looks == [[7], [7]]


def test_no_progress_is_no_matter_where_none_is_expected() -> None:
    job_that(lambda _, n: None)
    table = Table(7)
    table.progresses = False

    assert process(fetched(), rows=table) == Done(fetched())
    assert table.looks == [[7]]


def test_a_job_that_was_discarded_and_leaves_its_row_has_made_no_progress_either() -> None:
    job_that(raising(Discard("not wanted")))

    idle = process(fetched(retry=0), rows=Table(7))
    assert noted(idle)[0] == "no_progress"
    assert isinstance(idle, Other)
    assert idle.counter == "discarded"
    table = Table(7)

    def act(_: Job, n: int) -> None:
        table.pending.discard(n)
        raise Discard("no")

    job_that(act)
    moved = process(fetched(retry=0), rows=table)
    assert isinstance(moved, Other)
    assert (moved.counter, moved.note) == ("discarded", b"")


def test_a_job_that_asks_to_run_again_is_not_asked_about() -> None:
    job_that(raising(RequeueAfter(60)))
    table = Table(7)

    assert noted(process(fetched(), rows=table)) == ("", {})
    assert table.looks == [[7]]


def test_the_thread_of_a_run_does_not_wait_for_what_its_row_is_like_afterwards() -> None:
    job_that(lambda _, n: None)
    table, outcomes = Table(7), list[Outcome]()

    assert process_later(fetched(qik=LOCK), outcomes.append, rows=table) is None
    eventually(lambda: outcomes)
    (idle,) = outcomes
    assert noted(idle)[0] == "no_progress"
    assert table.looks == [[7], [7]]


def test_only_a_run_that_ended_well_and_is_expected_to_make_progress_ends_later() -> None:
    job_that(raising(ValueError("no")))
    table, later = Table(7), list[Outcome]()
    assert process_later(fetched(retry=3), later.append, rows=table) is not None
    job_that(lambda _, n: None)
    assert process_later(fetched(), later.append, rows=Table()) is not None  # stale
    table.progresses = False
    assert process_later(fetched(), later.append, rows=table) == Done(fetched())
    assert process_later(fetched(), later.append) == Done(fetched())
    assert later == []


# --- ends that leave a row pending ---------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "fields", "kind", "then"),
    [
        (ValueError("no\nway"), {"retry": 0}, "died", Kind.DEAD),
        (ValueError("no\nway"), {"retry": 3, "retry_count": 2}, "died", Kind.DEAD),
        (ValueError("no\nway"), {"retry": False}, "died", Kind.GONE),
        (ValueError("no\nway"), {"retry": 0, "dead": False}, "died", Kind.GONE),
        (ValueError("no\nway"), {"retry": 3}, "", Kind.RETRY),
        (RetryIn(5, "later"), {"retry": 3}, "", Kind.RETRY),
        (Terminal("never"), {"retry": 3}, "terminal", Kind.DEAD),
        (Terminal("never"), {"retry": 3, "dead": False}, "terminal", Kind.GONE),
        (Terminal("never"), {"retry": False}, "terminal", Kind.GONE),
    ],
)
def test_the_end_of_a_failed_job_is_noted_by_how_it_ended(
    error: BaseException, fields: dict[str, Any], kind: str, then: Kind
) -> None:
    job_that(raising(error))
    outcome = process(fetched(qik=LOCK, **fields), rows=Table(7))

    other(outcome, then)
    assert noted(outcome)[0] == kind
    if kind == "died":
        assert noted(outcome)[1]["error"] == "ValueError: no way"


def test_a_class_that_calls_an_error_terminal_ends_so() -> None:
    class Acts(Job, unique_for=60):
        @classmethod
        def retry_in(cls, count: int, error: BaseException, job: Payload) -> Terminal:
            return Terminal("by its rule")

        def perform(self, n: int) -> None:
            raise ValueError("no")

    assert noted(process(fetched(qik=LOCK), rows=Table(7)))[0] == "terminal"


def test_a_condemned_job_is_noted_as_crashed() -> None:
    job_that(lambda _, n: None)
    kind, said = noted(process(fetched(qik=LOCK, deaths=3), rows=Table(7)))

    assert kind == "crashed"
    assert "3 processes died" in said["error"]


def test_a_job_that_stayed_unknown_for_a_day_is_noted_as_died() -> None:
    fields = {"class": "Gone", "unknown_at": NOW - 90_000}

    assert noted(process(fetched(**fields), rows=Table(7)))[0] == "died"
    assert noted(process(fetched(**{"class": "Gone"}), rows=Table(7)))[0] == ""


def test_nothing_is_noted_without_anybody_who_knows_rows() -> None:
    job_that(raising(Terminal("never")))

    assert noted(process(fetched()))[0] == ""


# --- guards ------------------------------------------------------------------------------


def test_a_job_whose_row_another_run_has_waits_and_does_not_run() -> None:
    ran: list[int] = []
    job_that(lambda _, n: ran.append(n))
    table = Table(7)
    table.taken = {7}
    outcome = process(fetched(qik=LOCK), rows=table, dice=0.5)

    other(outcome, Kind.LATER)
    assert isinstance(outcome, Other)
    assert (ran, outcome.delay, outcome.failed, outcome.note) == ([], 10.0, False, b"")


def test_a_guard_is_held_while_the_job_runs_and_left_before_its_row_is_asked_for_again() -> None:
    table = Table(7)
    during: list[Any] = []
    job_that(lambda _, n: during.extend(table.held))
    ask = table.look

    def look(asked: Any, /) -> Any:
        table.held.append(("looked", asked[0].args[0]))
        return ask(asked)

    table.look = look  # type: ignore[method-assign]
    process(fetched(), rows=table)
    assert during == [("looked", 7), ("taken", 7)]
    assert [what for what, _ in table.held] == ["looked", "taken", "left", "looked"]


def test_a_guard_sees_what_the_job_raised() -> None:
    job_that(raising(ValueError("no")))
    table = Table(7)

    other(process(fetched(retry=3), rows=table), Kind.RETRY)
    assert table.held == [("taken", 7), ("failed", 7)]


def test_a_guard_that_cannot_be_had_is_a_failure_of_the_job() -> None:
    ran: list[int] = []
    job_that(lambda _, n: ran.append(n))
    table = Table(7)
    table.guarded = raising(QikError("no database"))  # type: ignore[assignment,method-assign]

    after = other(process(fetched(retry=3), rows=table), Kind.RETRY)
    assert after["error_message"] == "no database"
    assert ran == []
