from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from qik_core import Job, hooks, registry, verdict
from qik_core.outcomes import Discard, RetryIn, Terminal
from qik_core.payload import Payload
from qik_core.retry import Again, Bury, Decision, Drop

NOW = 1_800_000_000.0
ERROR = ValueError("no")


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    with registry.scope():
        yield
    hooks.clear()


def decide(job: type[Job], error: BaseException = ERROR, **fields: Any) -> Decision:
    payload = Payload({"class": "Acts", "args": [], "jid": "j", **job.definition.fields, **fields})
    return verdict.decide(payload, error, job.definition, now=NOW, dice=0.0, many=25)


def job_with(retry_in: Any = None, exhausted: Any = None, **options: Any) -> type[Job]:
    """A job class whose methods answer like these functions; without one it does not have the method."""
    own: dict[str, Any] = {"perform": lambda self: None}
    if retry_in is not None:
        own["retry_in"] = classmethod(lambda _, *told: retry_in(*told))
    if exhausted is not None:
        own["retries_exhausted"] = classmethod(lambda _, *told: exhausted(*told))
    return types.new_class("Acts", (Job,), options, lambda body: body.update(own))


# --- options ---------------------------------------------------------------------


def test_without_a_word_from_anybody_the_wait_is_sidekiqs() -> None:
    assert decide(job_with()) == Again(15)
    assert decide(job_with(), retry_count=1) == Again(31)


def test_only_the_errors_of_retry_on_are_retried() -> None:
    job = job_with(retry_on=(OSError,))

    assert decide(job, TimeoutError()) == Again(15)
    assert decide(job, ValueError()) == Bury()
    assert decide(job, RetryIn(5)) == Again(5)


def test_the_errors_of_discard_on_drop_the_job_whatever_retry_on_says() -> None:
    job = job_with(discard_on=(FileNotFoundError,), retry_on=(OSError,))

    assert decide(job, FileNotFoundError()) == Drop("discarded")
    assert decide(job, OSError()) == Again(15)


def test_with_retry_for_time_counts_and_the_number_of_retries_does_not() -> None:
    job = job_with(retry_for=timedelta(hours=1), retry=2)

    assert decide(job) == Again(15)
    assert decide(job, retry_count=9, failed_at=NOW - 3599) == Again(10_015)
    assert decide(job, retry_count=0, failed_at=NOW - 3600) == Bury()
    assert decide(job, retry_count=0, failed_at=int((NOW - 3600) * 1000)) == Bury()
    assert decide(job_with(retry_for=60, retry=False)) == Drop("dropped")


def test_true_means_the_number_of_retries_that_the_settings_say() -> None:
    job = job_with()
    payload = Payload({"class": "Acts", "args": [], "retry": True, "retry_count": 2})
    assert verdict.decide(payload, ERROR, job.definition, now=NOW, dice=0.0, many=3) == Bury()


def test_a_payload_without_retry_is_treated_as_its_class_says() -> None:
    assert decide(job_with(retry=0), retry=None) == Bury()
    assert decide(job_with(retry=False), retry=None) == Drop("dropped")


# --- the job's own word ------------------------------------------------------------


def test_a_job_may_say_when_it_wants_to_be_retried_within_its_retries() -> None:
    assert decide(job_with(), RetryIn(timedelta(minutes=2))) == Again(120)
    assert decide(job_with(retry=1), RetryIn(1), retry_count=0) == Bury()
    assert decide(job_with(retry=False), RetryIn(1)) == Drop("dropped")


def test_a_job_may_end_itself() -> None:
    assert decide(job_with(), Terminal("no such account")) == Bury()
    assert decide(job_with(), Discard("superseded by hand")) == Drop("discarded")
    assert decide(job_with(dead=False), Terminal("x")) == Drop("dropped")
    assert decide(job_with(retry=False), Terminal("x")) == Drop("dropped")


# --- retry_in ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "decision"),
    [
        (60, Again(60)),
        (1.5, Again(1.5)),
        (timedelta(hours=1), Again(3600)),
        (RetryIn(7), Again(7)),
        (None, Again(15)),
        (0, Again(15)),
        (-5, Again(15)),
        (True, Again(15)),
        ("soon", Again(15)),
        (float("nan"), Again(15)),
        (float("inf"), Again(15)),
        (Discard("x"), Drop("discarded")),
        (Terminal("x"), Bury()),
    ],
)
def test_a_class_may_say_when_and_whether_it_is_retried(said: object, decision: Decision) -> None:
    assert decide(job_with(retry_in=lambda *_: said)) == decision


def test_the_jitter_is_added_to_what_retry_in_says() -> None:
    job = job_with(retry_in=lambda *_: 60)
    payload = Payload({"class": "Acts", "args": [], "retry": 5, "retry_count": 0})
    decision = verdict.decide(payload, ERROR, job.definition, now=NOW, dice=0.99, many=25)

    assert decision == Again(60 + 19)


def test_retry_in_is_told_how_many_failures_came_before_and_which_this_is() -> None:
    seen: list[object] = []
    decide(job_with(retry_in=lambda *told: seen.extend(told)), retry_count=1)

    assert seen[:2] == [2, ERROR]
    assert isinstance(seen[2], Payload)


@pytest.mark.parametrize("raised", [KeyError("x"), SystemExit(1), KeyboardInterrupt()])
def test_a_retry_in_that_raises_is_reported_and_the_default_holds(raised: BaseException) -> None:
    seen: list[BaseException] = []
    hooks.on_error(lambda error, _: seen.append(error))

    def fail(*_: object) -> None:
        raise raised

    assert decide(job_with(retry_in=fail)) == Again(15)
    assert seen == [raised]


# --- retries_exhausted ---------------------------------------------------------------


def test_exhausted_is_called_exactly_when_a_job_is_at_its_end() -> None:
    seen: list[str] = []
    job = job_with(exhausted=lambda job, error: seen.append(f"{job.jid} {error}"), retry=1)

    decide(job)
    assert seen == []
    decide(job, retry_count=0)
    decide(job, Terminal("gone"))
    assert seen == ["j no", "j gone"]


@pytest.mark.parametrize("options", [{"retry": False}, {"discard_on": (ValueError,)}])
def test_exhausted_is_not_called_for_a_job_that_is_dropped(options: dict[str, Any]) -> None:
    seen: list[object] = []
    decide(job_with(exhausted=lambda *told: seen.extend(told), **options))
    assert seen == []


def test_exhausted_may_keep_the_job_out_of_the_dead_set() -> None:
    assert decide(job_with(exhausted=lambda *_: Discard("handled"), retry=0)) == Drop("discarded")
    assert decide(job_with(exhausted=lambda *_: "discard", retry=0)) == Bury()


def test_an_exhausted_that_raises_is_reported_and_the_job_is_dead() -> None:
    seen: list[BaseException] = []
    hooks.on_error(lambda error, _: seen.append(error))

    assert decide(job_with(exhausted=lambda *_: 1 / 0, retry=0)) == Bury()
    assert [type(error) for error in seen] == [ZeroDivisionError]
