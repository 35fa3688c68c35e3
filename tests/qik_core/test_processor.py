from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from qik_core import Job
from qik_core.ends import unique_of
from qik_core.errors import Cancelled
from qik_core.middleware import Next, ServerMiddleware
from qik_core.payload import Payload
from qik_core.store.exchange import Done, Fetched, Kind, Other
from tests.qik_core.acting import (
    LOCK,
    NOW,
    fetched,
    gone,
    job_that,
    other,
    own_names,
    process,
    raising,
)

__all__ = ["own_names"]

pytestmark = pytest.mark.usefixtures("own_names")


# --- outcomes ------------------------------------------------------------------


def test_a_job_that_returns_is_done_and_got_its_arguments() -> None:
    seen: list[int] = []
    job_that(lambda _, n: seen.append(n))

    assert process(fetched()) == Done(fetched())
    assert seen == [7]


def test_a_retried_job_that_ends_well_forgets_its_failures_for_its_next_run() -> None:
    job_that(lambda _, n: None)
    outcome = process(fetched(retry_count=2, failed_at=1.5, error_class="X", error_message="y"))

    assert isinstance(outcome, Done)
    assert (
        not {"retry_count", "failed_at", "error_class"}
        & Payload.decode(outcome.again).fields.keys()
    )


def test_a_failed_job_is_retried_under_its_lock() -> None:
    job_that(raising(ValueError("no")))
    outcome = process(fetched(qik=LOCK, retry=3))
    after = other(outcome, Kind.RETRY)

    assert isinstance(outcome, Other)
    assert (outcome.delay, outcome.jid, str(outcome.unique)) == (15, "j1", LOCK)
    assert (after["retry_count"], after["failed_at"], after["error_message"]) == (0, NOW, "no")
    assert "retry_count" not in Payload.decode(outcome.again).fields


@pytest.mark.parametrize(
    ("options", "then"),
    [
        ({}, "retry in 15.0 s"),
        ({"retry": 0}, "dead"),
        ({"retry": False}, "dropped"),
        ({"discard_on": (ValueError,)}, "discarded"),
    ],
)
def test_the_line_of_a_failure_says_what_becomes_of_the_job(
    caplog: pytest.LogCaptureFixture, options: dict[str, Any], then: str
) -> None:
    job_that(raising(ValueError("no")), **options)
    wire = {key: value for key, value in options.items() if key == "retry"}
    process(fetched(**wire))

    (line,) = [each for each in caplog.records if each.message == "job failed"]
    assert line.__dict__["then"] == then


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"retry": 3, "retry_count": 1}, Kind.RETRY),
        ({"retry": 3, "retry_count": 2}, Kind.DEAD),
        ({"retry": 0}, Kind.DEAD),
        ({"retry": False}, Kind.GONE),
        ({"retry": 0, "dead": False}, Kind.GONE),
        ({"retry": 1, "dead": False}, Kind.RETRY),
        ({"retry": "x"}, Kind.RETRY),
        ({"retry_count": "x", "retry": 0}, Kind.DEAD),
        ({"retry_count": 10**9}, Kind.DEAD),
    ],
)
def test_the_payload_says_how_often_and_whether_it_is_kept(
    fields: dict[str, Any], kind: Kind
) -> None:
    job_that(raising(ValueError("no")), retry=5)

    other(process(fetched(**fields)), kind)


def test_an_unknown_class_waits_30_seconds_for_a_deploy() -> None:
    outcome = process(fetched(**{"class": "os.system", "args": ["true"]}))

    assert (
        "no imported module defines the job 'os.system'"
        in other(outcome, Kind.RETRY)["error_message"]
    )
    assert isinstance(outcome, Other)
    assert outcome.delay == 30
    other(process(fetched(**{"class": "Gone", "unknown_at": NOW - 90_000})), Kind.DEAD)


@pytest.mark.parametrize("args", [[], [1, 2], ["7"], [None], [[7]]])
def test_arguments_that_do_not_fit_wait_for_a_deploy_and_do_not_run(args: list[Any]) -> None:
    seen: list[int] = []
    job_that(lambda _, n: seen.append(n))

    assert (
        "the arguments do not fit"
        in other(process(fetched(args=args)), Kind.RETRY)["error_message"]
    )
    assert seen == []


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"5", b"{", b"\xff", b'{"class":5}'])
def test_what_is_no_job_goes_to_the_dead_set_with_its_bytes(raw: bytes) -> None:
    outcome = process(Fetched(b"1.1", raw, "low"))
    envelope = other(outcome, Kind.DEAD)

    assert base64.b64decode(envelope["raw"]) == raw
    assert isinstance(outcome, Other)
    assert (envelope.jid, envelope.queue) == (outcome.jid, "low")
    assert len(outcome.jid) == 24


def test_an_envelope_that_somebody_retries_is_dead_again_and_is_not_wrapped_twice() -> None:
    first = process(Fetched(b"1.1", b"no job", "low"))
    assert isinstance(first, Other)
    again = process(Fetched(b"2.1", first.payload, "low"))

    assert isinstance(again, Other)
    assert (again.kind, again.jid, again.payload) == (Kind.DEAD, first.jid, first.payload)


def test_what_our_header_stands_in_front_of_lets_its_lock_go_even_if_the_rest_is_broken() -> None:
    whole = fetched(qik=LOCK)
    outcome = process(Fetched(b"1.1", whole.raw[:-5], "low"))

    other(outcome, Kind.DEAD)
    assert isinstance(outcome, Other)
    assert (str(outcome.unique), outcome.jid) == (LOCK, "j1")


def test_a_job_that_waited_past_its_expiry_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    job_that(lambda _, n: seen.append(n))

    gone(process(fetched(expiry=NOW - 1)), "expired")
    assert seen == []
    assert "job expired" in caplog.text
    process(fetched(expiry=NOW + 1))
    process(fetched(expiry="tomorrow"))
    assert seen == [7, 7]


def test_a_cancelled_run_is_over_and_not_failed() -> None:
    def act(job: Job, n: int) -> None:
        job.context.cancel()
        job.context.checkpoint()

    job_that(act)
    gone(process(fetched()), "cancelled")


def test_a_job_from_ruby_without_jid_retry_and_queue_gets_what_it_lacks() -> None:
    job_that(raising(ValueError("no")))
    outcome = process(fetched(qik=None, jid=None, queue=None, retry=None))
    after = other(outcome, Kind.RETRY)

    assert len(after.jid) == 24
    assert after.queue == "low"
    assert isinstance(outcome, Other)
    assert outcome.unique is None


@pytest.mark.parametrize("queue", [5, None, "", "a b", [], "x" * 129])
def test_a_retry_can_go_back_to_a_queue_whatever_the_payload_calls_it(queue: Any) -> None:
    job_that(raising(ValueError("no")))
    job = Fetched(
        b"1.1", json.dumps({"class": "Acts", "args": [7], "queue": queue}).encode(), "low"
    )

    assert other(process(job), Kind.RETRY)["queue"] == "low"


def test_a_retry_goes_back_to_the_queue_that_it_came_from_or_to_its_retry_queue() -> None:
    job_that(raising(ValueError("no")))

    assert other(process(fetched(queue="high")), Kind.RETRY)["queue"] == "low"
    assert other(process(fetched(retry_queue="calm")), Kind.RETRY)["queue"] == "calm"


# --- middleware and context ----------------------------------------------------


def test_server_middleware_stands_around_the_run_the_first_outermost() -> None:
    seen: list[str] = []
    job_that(lambda _, n: seen.append(f"perform {n}"))

    def around(name: str) -> ServerMiddleware:
        def middleware(job: Payload, call_next: Callable[[Payload], None]) -> None:
            seen.append(f"{name} {job.jid}")
            call_next(job)
            seen.append(f"{name} after")

        return middleware

    process(fetched(), middleware=[around("a"), around("b")])
    assert seen == ["a j1", "b j1", "perform 7", "b after", "a after"]


def test_a_middleware_that_does_not_go_on_skips_the_job_which_is_counted() -> None:
    seen: list[int] = []
    job_that(lambda _, n: seen.append(n))

    gone(process(fetched(), middleware=[lambda job, call_next: None]), "skipped")
    assert seen == []


@pytest.mark.parametrize("error", [ValueError("quota"), SystemExit(1)])
def test_a_middleware_that_raises_fails_the_job(error: BaseException) -> None:
    job_that(lambda _, n: None)

    def refuse(job: Payload, call_next: Callable[[Payload], None]) -> None:
        raise error

    assert (
        other(process(fetched(), middleware=[refuse]), Kind.RETRY)["error_class"]
        == type(error).__name__
    )


def test_a_middleware_may_turn_a_failure_into_a_success() -> None:
    job_that(raising(ValueError("no")))

    def forgive(job: Payload, call_next: Callable[[Payload], None]) -> None:
        try:
            call_next(job)
        except ValueError:
            return

    assert process(fetched(), middleware=[forgive]) == Done(fetched())


def test_a_middleware_may_cancel_a_run() -> None:
    job_that(lambda _, n: None)

    def cancel(job: Payload, call_next: Callable[[Payload], None]) -> None:
        raise Cancelled("not today")

    gone(process(fetched(), middleware=[cancel]), "cancelled")


def test_the_context_is_told_before_the_run_begins_and_is_the_jobs_own() -> None:
    seen: list[object] = []
    job_that(lambda job, _: seen.append(job.context))
    process(fetched(), entered=seen.append)

    assert seen[0] is seen[1]


def test_every_run_writes_who_ran_and_how_it_ended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "qik_core.jobs")
    job_that(lambda _, n: None)
    process(fetched(retry_count=0))

    assert [record.message for record in caplog.records] == ["job started", "job done"]
    kept = vars(caplog.records[1])
    assert (kept["jid"], kept["job"], kept["queue"], kept["attempt"]) == ("j1", "Acts", "low", 2)


def test_the_lock_and_the_jid_of_a_job_are_read_from_its_payload() -> None:
    unique, jid = unique_of(fetched(qik=LOCK))

    assert (str(unique), jid) == (LOCK, "j1")
    assert unique_of(Fetched(b"1.1", b"no job", "low")) == (None, "")


@pytest.mark.parametrize("fails", [True, False])
def test_what_a_job_and_its_middleware_change_in_place_is_not_in_its_next_run(fails: bool) -> None:
    class Spoils(Job):
        def perform(self, lines: Any) -> None:
            seen.append(list(lines))
            lines.append("changed")
            self.context.payload.args.append("changed")
            if fails:
                raise LookupError

    def spoils(job: Payload, call_next: Next[None]) -> None:
        job.args[0].append("changed")
        cast("dict[str, Any]", job.fields)["retry"] = False
        call_next(job)

    seen: list[list[str]] = []
    job = fetched(**{"class": "Spoils"}, args=[["a"]], retry_count=0, retry=3)

    outcome = process(job, middleware=[spoils])

    assert seen == [["a"]]
    if fails:
        assert other(outcome, Kind.RETRY).args == [["a"]]
    else:
        assert isinstance(outcome, Done)
    assert Payload.decode(cast("Other", outcome).again).args == [["a"]]
