from __future__ import annotations

import asyncio
import base64
import json
import zlib
from typing import Any

import pytest

from qik_core import retry
from qik_core.payload import Payload

NOW = 1_800_000_000.25
JOB = Payload(
    {"qik": "-", "jid": "a", "queue": "low", "class": "X", "args": [7], "enqueued_at": 1.5}
)


def raised(error: BaseException) -> BaseException:
    """The error as an except clause sees it: with a traceback."""
    try:
        raise error  # noqa: TRY301 - the point
    except BaseException as caught:  # noqa: BLE001 - the point
        return caught


def lines(payload: Payload) -> list[str]:
    """What Sidekiq's Web shows of a backtrace."""
    found: list[str] = json.loads(zlib.decompress(base64.b64decode(payload["error_backtrace"])))
    return found


@pytest.mark.parametrize(
    ("count", "base"),
    [(0, 15), (1, 16), (2, 31), (3, 96), (4, 271), (5, 640), (10, 10_015), (24, 331_791)],
)
def test_the_wait_is_sidekiqs_and_grows_with_the_fourth_power(count: int, base: int) -> None:
    assert retry.decide(count, 25, dead=True, dice=0.0) == retry.Again(base)
    most = retry.decide(count, 25, dead=True, dice=0.999_999_9)
    assert most == retry.Again(base + 10 * (count + 1) - 1)


@pytest.mark.parametrize(
    ("count", "limit", "dead", "decision"),
    [
        (24, 25, True, retry.Again(331_791)),
        (25, 25, True, retry.Bury()),
        (26, 25, True, retry.Bury()),
        (25, 25, False, retry.Drop()),
        (0, 0, True, retry.Bury()),
        (0, 0, False, retry.Drop()),
        (0, -1, True, retry.Drop()),
    ],
)
def test_the_last_retry_is_followed_by_death_or_nothing(
    count: int, limit: int, dead: bool, decision: retry.Decision
) -> None:
    assert retry.decide(count, limit, dead=dead, dice=0.0) == decision


@pytest.mark.parametrize(
    ("said", "limit"),
    [(True, 25), (False, -1), (0, 0), (3, 3), (-1, 7), ("5", 7), (2.5, 7), (None, 7), ([], 7)],
)
def test_a_limit_that_cannot_be_is_the_one_of_the_class(said: Any, limit: int) -> None:
    assert retry.limit_of(JOB.replace(retry=said), 7) == limit


@pytest.mark.parametrize(
    ("count", "failures"), [(None, 0), (0, 1), (3, 4), (-1, 0), ("x", 0), (True, 0), (1.0, 0)]
)
def test_sidekiq_writes_0_for_the_first_failure(count: Any, failures: int) -> None:
    assert retry.failures_of(JOB.replace(retry_count=count)) == failures


def test_an_unknown_job_comes_again_after_30_seconds_then_less_often_then_every_hour() -> None:
    payload, waits = JOB, []
    for _ in range(10):
        decision = retry.decide_unknown(payload, NOW)
        assert isinstance(decision, retry.Again)
        waits.append(decision.delay)
        payload = retry.unknown(payload, "no such job", NOW)
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_an_unknown_job_is_dead_after_24_hours_counted_from_the_first_time() -> None:
    first = retry.unknown(JOB, "no such job", NOW)
    later = retry.unknown(first, "no such job", NOW + 80_000)

    assert later["unknown_at"] == NOW
    assert isinstance(retry.decide_unknown(later, NOW + 86_399), retry.Again)
    assert retry.decide_unknown(later, NOW + 86_401) == retry.Bury()


@pytest.mark.parametrize("forged", ["x", None, [], {}, True])
def test_an_unknown_job_with_a_forged_date_does_not_live_for_ever(forged: Any) -> None:
    later = retry.unknown(JOB.replace(unknown_at=forged), "no such job", NOW)

    assert retry.decide_unknown(later, NOW + 86_401) == retry.Bury()


@pytest.mark.parametrize("forged", ["x", -1, 10**9, 2.5, True])
def test_a_forged_count_of_an_unknown_job_gives_a_wait_all_the_same(forged: Any) -> None:
    decision = retry.decide_unknown(JOB.replace(unknown_count=forged), NOW)

    assert isinstance(decision, retry.Again)
    assert 30 <= decision.delay <= 3600


def test_an_unknown_job_keeps_its_failures_apart_from_its_own_count() -> None:
    payload = retry.unknown(JOB.replace(retry_count=3), "no module defines it", NOW)

    assert (payload["retry_count"], payload["unknown_count"]) == (3, 1)
    assert payload["error_message"] == "no module defines it"
    assert "enqueued_at" not in payload.fields


@pytest.mark.parametrize(("milliseconds", "stamp"), [(False, NOW), (True, 1_800_000_000_250)])
def test_the_first_failure_is_failed_at_and_later_ones_are_retried_at(
    milliseconds: bool, stamp: float
) -> None:
    first = retry.failed(JOB, raised(KeyError("id")), NOW, milliseconds=milliseconds)
    second = retry.failed(first, raised(ValueError("no")), NOW, milliseconds=milliseconds)

    assert (first["retry_count"], first["failed_at"]) == (0, stamp)
    assert type(first["failed_at"]) is type(stamp)
    assert "retried_at" not in first.fields
    assert (second["retry_count"], second["retried_at"]) == (1, stamp)
    assert second["failed_at"] == first["failed_at"]
    assert (second["error_class"], second["error_message"]) == ("ValueError", "no")


def test_a_job_that_waits_for_its_retry_is_on_no_queue() -> None:
    assert "enqueued_at" not in retry.failed(JOB, raised(KeyError()), NOW).fields
    assert JOB["enqueued_at"] == 1.5


def test_a_class_of_errors_is_named_with_its_module_unless_python_brings_it() -> None:
    assert retry.class_of(KeyError()) == "KeyError"
    assert retry.class_of(json.JSONDecodeError("", "", 0)) == "json.decoder.JSONDecodeError"
    assert retry.class_of(asyncio.CancelledError()) == "asyncio.exceptions.CancelledError"


class Unprintable(Exception):
    def __init__(self, second: BaseException) -> None:
        super().__init__()
        self.second = second

    def __str__(self) -> str:
        raise self.second


@pytest.mark.parametrize(
    "second", [ValueError("x"), RecursionError(), SystemExit(1), KeyboardInterrupt()]
)
def test_an_error_that_cannot_print_itself_is_written_all_the_same(second: BaseException) -> None:
    payload = retry.failed(JOB, raised(Unprintable(second)), NOW)

    assert payload["error_class"].endswith("Unprintable")
    assert type(second).__name__ in payload["error_message"]
    assert Payload.decode(payload.encode()).fields == payload.fields


def test_a_message_with_lone_surrogates_can_be_encoded() -> None:
    payload = retry.failed(JOB, raised(ValueError("a\ud800b")), NOW)

    assert payload["error_message"] == "a?b"
    assert Payload.decode(payload.encode())["error_message"] == "a?b"


def test_a_message_of_100_mb_is_cut() -> None:
    assert len(retry.message_of(ValueError("x" * 100_000_000))) == retry.MESSAGE


def _outer(deep: int) -> None:
    if deep:
        _outer(deep - 1)
    raise ValueError("at the bottom")


def test_a_backtrace_is_what_sidekiqs_pages_can_show_the_innermost_line_first() -> None:
    with pytest.raises(ValueError, match="bottom") as caught:
        _outer(2)
    whole = retry.failed(JOB.replace(backtrace=True), caught.value, NOW)
    cut = retry.failed(JOB.replace(backtrace=2), caught.value, NOW)

    assert 'raise ValueError("at the bottom")' in lines(whole)[0]
    assert len(lines(whole)) == 4
    assert lines(cut) == lines(whole)[:2]


@pytest.mark.parametrize("wanted", [False, None, 0, -1, "yes", []])
def test_no_backtrace_is_kept_unless_it_is_asked_for(wanted: Any) -> None:
    payload = retry.failed(JOB.replace(backtrace=wanted), raised(ValueError()), NOW)

    assert "error_backtrace" not in payload.fields


def test_a_fresh_payload_has_forgotten_every_failure_and_nothing_else() -> None:
    failed = retry.failed(JOB.replace(backtrace=True), raised(ValueError()), NOW)
    again = retry.fresh(retry.unknown(retry.failed(failed, raised(KeyError()), NOW), "?", NOW))

    rest = {name: value for name, value in JOB.fields.items() if name != "enqueued_at"}
    assert again.fields == {**rest, "backtrace": True}


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe\x00", b"not a job", b"\x1f\x8b" + bytes(99)])
def test_bytes_that_are_no_job_are_kept_in_an_envelope_that_is_one(raw: bytes) -> None:
    envelope = retry.set_aside(raw, "low", "not JSON", "f" * 24, NOW)
    read = Payload.decode(envelope.encode())

    assert base64.b64decode(read["raw"]) == raw
    assert (read.jid, read.queue, read.args) == ("f" * 24, "low", [])
    assert (read["error_class"], read["error_message"]) == ("MalformedPayload", "not JSON")
