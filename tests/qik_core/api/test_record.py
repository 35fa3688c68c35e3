from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qik_core.api import JobRecord, Location, State
from qik_core.payload import Payload, Unique
from qik_core.retry import failed, set_aside
from tests.qik_core.api.places import WHERE, foreign, record

AT = datetime(2026, 11, 22, 2, 3, 4, 500_000, UTC)
SECONDS = AT.timestamp()


@pytest.mark.parametrize("value", [SECONDS, int(SECONDS * 1000)])
@pytest.mark.parametrize("name", ["created_at", "enqueued_at", "failed_at", "retried_at"])
def test_times_are_read_in_seconds_and_in_milliseconds(name: str, value: float) -> None:
    assert getattr(record(**{name: value}), name) == AT


@pytest.mark.parametrize("value", [None, "x", True, -1, float(10**30), 10**400, [], {}])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert record(created_at=value).created_at is None


def test_a_failed_job_shows_its_error_as_ruby_stores_it() -> None:
    with pytest.raises(KeyError) as caught:
        dict[str, int]()["missing"]
    payload = failed(Payload.decode(foreign(backtrace=True)), caught.value, SECONDS)

    job = JobRecord.of(payload.encode(), WHERE, SECONDS)

    assert (job.error_class, job.error_message, job.retry_count) == ("KeyError", "'missing'", 0)
    assert job.failed_at == job.at == AT
    assert "test_record" in job.error_backtrace[0]


def test_a_backtrace_of_an_old_ruby_has_line_breaks() -> None:
    lines = [f"app/jobs/a.rb:{n}:in `perform'" for n in range(200)]
    packed = base64.encodebytes(zlib.compress(json.dumps(lines).encode())).decode()

    assert record(error_backtrace=packed).error_backtrace == lines
    assert record(error_backtrace=lines).error_backtrace == lines


@pytest.mark.parametrize(
    "value",
    [
        "",
        "äöü",
        "AAAA",
        7,
        base64.b64encode(zlib.compress(b"{}")).decode(),
        base64.b64encode(zlib.compress(b"x" * 100_000_000)).decode(),
    ],
    ids=range(6),
)
def test_a_backtrace_that_cannot_be_read_is_empty(value: Any) -> None:
    assert record(error_backtrace=value).error_backtrace == []


@pytest.mark.parametrize(
    "raw", [b"", b"\xff\xfe", b"[]", b"null", b"7", b'{"args":[]}', b'{"class":1}', b"{"]
)
def test_bytes_that_are_no_job_are_shown_as_such(raw: bytes) -> None:
    job = JobRecord.of(raw, WHERE, 5.0)

    assert job.malformed
    assert (job.raw, job.original) == (raw, raw)
    assert (job.jid, job.class_name, list(job.args), list(job.tags)) == ("", "", [], [])
    assert job.error_class == "MalformedPayload"
    assert job.error_message
    assert (job.created_at, job.enqueued_at, job.retry_count, job.unique) == (None,) * 4
    assert job.for_queue(retried=True) is None


def test_an_envelope_around_such_bytes_gives_them_back() -> None:
    aside = set_aside(b"\xffbroken", "low", "not JSON: x", "abc", SECONDS)
    job = JobRecord.of(aside.encode(), Location(State.DEAD, b"dead"), SECONDS)

    assert job.malformed
    assert job.original == b"\xffbroken"
    assert (job.jid, job.queue, job.error_message) == ("abc", "low", "not JSON: x")
    assert job.for_queue(retried=True) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"jid": 7},
        {"queue": 7, "tags": 7, "args": None},
        {"retry_count": "x", "error_class": [], "error_message": {}},
        {"tags": [1, "a"], "qik": 7, "wrapped": 7, "display_class": []},
    ],
)
def test_fields_of_wrong_types_are_shown_as_absent(fields: dict[str, Any]) -> None:
    job = record(**fields)

    assert not job.malformed
    assert (
        type(job.jid) is type(job.queue) is type(job.display_class) is type(job.error_class) is str
    )
    assert (job.retry_count, job.unique) == (None, None)
    assert list(job.tags) in ([], ["a"])


def test_what_a_job_holds_for_people_is_shown() -> None:
    job = record(tags=["a"], display_class="Charge card", encrypt=True, args=[1, "secret"])

    assert (job.class_name, job.display_class) == ("Charge", "Charge card")
    assert job.display_args == [1, "[encrypted]"]
    assert job.args == [1, "secret"]
    assert job.tags == ["a"]


def test_a_lock_is_read_from_the_payload_whoever_wrote_it_last() -> None:
    mark = "abcdefghijklmnopqrstuvS60"
    ours = JobRecord.of(
        b'{"qik":"%s","jid":"j","queue":"q","class":"X","args":[]}' % mark.encode(), WHERE
    )
    rubys = record(qik=mark)

    assert ours.unique == rubys.unique == Unique(mark[:22], 60)
    assert (ours.foreign, rubys.foreign) == (False, True)
    assert rubys.claim()[1:4] == ("j1", mark[:22], 60)


@given(st.binary(max_size=60))
def test_no_bytes_make_a_record_fail(raw: bytes) -> None:
    job = JobRecord.of(raw, WHERE, 1.0)

    assert job.claim().raw == raw
    assert job.malformed or job.class_name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["jid", "queue", "args", "tags", "created_at", "failed_at", "retry_count", "wrapped",
             "error_class", "error_backtrace", "qik", "encrypt", "display_class", "raw"]
        ),
        JSON,
    )
)  # fmt: skip
def test_no_field_makes_a_record_fail(fields: dict[str, Any]) -> None:
    job = record(**{"jid": "j", **fields})

    for name in dir(JobRecord):
        if isinstance(getattr(JobRecord, name), property):
            getattr(job, name)
    job.claim()
    job.for_queue(retried=True)
