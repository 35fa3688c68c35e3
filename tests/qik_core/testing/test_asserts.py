from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import pytest

from qik_core import ArgumentError, Job, push
from qik_core.testing import (
    Fake,
    Inline,
    approx,
    assert_enqueued,
    assert_enqueued_count,
    assert_not_enqueued,
    within,
)
from tests.pytests import run_pytest
from tests.qik_core.testing.jobs_of_apps import Charge, Greet, Mail, Once, Tree, users

RUN = UUID(int=1)
NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


def refused(*args: Any, **options: Any) -> str:
    """Return what the assertion says when it fails."""
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(*args, **options)
    return str(caught.value)


def test_an_enqueued_job_is_found_by_class_arguments_and_queue(jobs: Fake) -> None:
    result = Charge.perform_async(7, RUN)

    assert assert_enqueued(Charge).jid == getattr(result, "jid", "")
    assert_enqueued(Charge, 7, RUN)
    assert_enqueued(Charge, 7, ANY)
    assert_enqueued(Charge, kwargs={"invoice_id": 7, "run": RUN}, queue="billing")
    assert_enqueued("Charge", 7, RUN)
    assert_not_enqueued(Charge, 8, RUN)
    assert_not_enqueued(Charge, queue="default")
    assert_not_enqueued(Mail)


def test_defaults_are_filled_in_before_arguments_are_compared(jobs: Fake) -> None:
    class Remind(Job):
        def perform(self, user: int, again: bool = False) -> None: ...

    Remind.perform_async(1)

    assert_enqueued(Remind, 1)
    assert_enqueued(Remind, 1, False)
    assert_not_enqueued(Remind, 1, True)
    assert_not_enqueued(Remind, 1, 0)


def test_functions_and_jobs_of_other_programs_are_asserted_as_well(jobs: Fake) -> None:
    Greet.perform_async("a")
    push("Ruby::Job", ["x", 1], queue="ruby")

    assert_enqueued(Greet, "a")
    assert_enqueued("Ruby::Job", "x", 1, queue="ruby")


def test_a_failure_lists_the_nearest_first_each_with_its_differences(jobs: Fake) -> None:
    Mail.perform_async("a@example.org")
    Charge.set(queue="slow").perform_async(8, RUN)
    Charge.perform_async(8, RUN)

    assert refused(Charge, 7, RUN, queue="billing") == (
        f"Charge(7, {RUN!r}) on billing is not enqueued. What is enqueued:\n"
        f"  Charge(8, {RUN!r}) on billing: args[0] is 8, expected 7\n"
        f"  Charge(8, {RUN!r}) on slow: args[0] is 8, expected 7; queue is 'slow', expected 'billing'\n"
        "  Mail('a@example.org') on mail"
    )


def test_a_failure_says_when_nothing_is_enqueued(jobs: Fake) -> None:
    assert refused(Mail) == "Mail(…) is not enqueued. What is enqueued:\n  nothing"


def test_a_failure_lists_twenty_jobs_at_the_most(jobs: Fake) -> None:
    Mail.perform_bulk([(f"{n}",) for n in range(30)])

    said = refused(Charge)
    assert len(said.splitlines()) == 22
    assert said.endswith("  and 10 more")


def test_arguments_that_do_not_fit_are_an_error_and_not_a_difference(jobs: Fake) -> None:
    with pytest.raises(ArgumentError, match="run"):
        assert_enqueued(Charge, 7)


def test_another_number_of_arguments_is_said_for_a_job_of_another_program(jobs: Fake) -> None:
    push("Ruby::Job", ["x", 1])

    assert "2 arguments, expected 1" in refused("Ruby::Job", "x")


def test_a_delay_is_compared_with_the_time_of_the_push(jobs: Fake) -> None:
    Mail.perform_in(timedelta(minutes=5), "in")
    Mail.perform_async("now")

    assert_enqueued(Mail, "in", at=timedelta(minutes=5))
    assert_enqueued(Mail, "now", at=timedelta(0))
    assert_not_enqueued(Mail, "in", at=timedelta(minutes=5, seconds=1))
    assert_not_enqueued(Mail, "in", at=timedelta(0))
    assert_enqueued(Mail, "in", at=approx(timedelta(minutes=5, seconds=1), timedelta(seconds=2)))
    assert_enqueued(Mail, "in", at=within(timedelta(minutes=4), timedelta(minutes=6)))


def test_a_moment_is_compared_with_when_a_job_is_due(jobs: Fake) -> None:
    Mail.perform_at(NEW_YEAR, "at")

    assert_enqueued(Mail, at=NEW_YEAR)
    assert_enqueued(Mail, at=NEW_YEAR.timestamp())
    assert_enqueued(Mail, at=approx(NEW_YEAR + timedelta(seconds=1)))
    assert_enqueued(Mail, at=within(NEW_YEAR - timedelta(days=1), NEW_YEAR))
    assert_not_enqueued(Mail, at=NEW_YEAR + timedelta(seconds=1))


def test_a_failure_says_when_a_job_is_due_and_when_it_was_expected(jobs: Fake) -> None:
    Mail.perform_async("now")
    assert refused(Mail, at=timedelta(minutes=5)).endswith(
        "\n  Mail('now') on mail: due at once, expected 300 s after its push"
    )

    jobs.clear()
    Mail.perform_at(NEW_YEAR, "at")
    said = refused(Mail, at=within(NEW_YEAR - timedelta(days=2), NEW_YEAR - timedelta(days=1)))
    assert "due from 2029-12-30 00:00:00+00:00 to 2029-12-31 00:00:00+00:00 is not" in said
    assert "s after its push, 2030-01-01 00:00:00+00:00, expected from 2029-12-30" in said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (timedelta(0), NEW_YEAR, "one end is a delay and the other a moment"),
        (timedelta(2), timedelta(1), "give the earlier one first"),
    ],
)
def test_a_span_that_cannot_be_is_refused(low: Any, high: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        within(low, high)


def test_what_must_not_be_enqueued_is_listed_when_it_is(jobs: Fake) -> None:
    Mail.perform_async("a@example.org")

    with pytest.raises(AssertionError) as caught:
        assert_not_enqueued(Mail, "a@example.org")
    assert str(caught.value) == (
        "Mail('a@example.org') is enqueued, and must not be:\n  Mail('a@example.org') on mail"
    )


def test_jobs_are_counted_in_all_by_class_and_by_queue(jobs: Fake) -> None:
    Mail.perform_bulk([("a",), ("b",)])
    Tree.perform_async(0)

    assert_enqueued_count(3)
    assert_enqueued_count(2, Mail)
    assert_enqueued_count(1, queue="default")
    assert_enqueued_count(0, Once)
    with pytest.raises(AssertionError) as caught:
        assert_enqueued_count(1, Mail, queue="mail")
    assert str(caught.value).startswith(
        "2 jobs of Mail on mail are enqueued, not 1. What is enqueued:\n  Mail('a') on mail\n"
    )


def test_with_jobs_performed_at_push_the_assertions_are_about_those(at_once: Inline) -> None:
    Mail.perform_async("a@example.org")

    assert_enqueued(Mail, "a@example.org")
    assert_enqueued_count(1)


def test_a_failed_assertion_hides_its_own_lines_from_the_traceback(tmp_path: Path) -> None:
    source = """
        from qik_core import job
        from qik_core.testing import assert_enqueued

        @job
        def mail(): ...

        def test_it(qik_fake):
            assert_enqueued(mail)
        """
    result = run_pytest(tmp_path, users(source))

    assert result.outcomes == {"failed": 1}
    assert "asserts.py" not in result.said
