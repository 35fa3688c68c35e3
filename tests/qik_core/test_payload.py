from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qik_core.errors import MalformedPayload
from qik_core.payload import (
    Payload,
    Template,
    Unique,
    encode_fields,
    header,
    new_jid,
    new_jids,
    stamps,
)

FIELDS = {"class": "Charge", "retry": 8, "tags": ["100%", 'a"b', "%s"]}


def test_a_template_builds_what_an_encoder_would() -> None:
    raw = Template("billing", FIELDS).build(b"-", b"a" * 24, b"[7]", stamps(1.5, queued=True))

    assert json.loads(raw) == {
        "qik": "-",
        "jid": "a" * 24,
        "queue": "billing",
        "class": "Charge",
        "args": [7],
        "retry": 8,
        "tags": ["100%", 'a"b', "%s"],
        "created_at": 1.5,
        "enqueued_at": 1.5,
    }
    assert list(json.loads(raw))[-1] == "enqueued_at"


@pytest.mark.parametrize("each_its_own", [False, True])
def test_many_are_built_as_one_by_one(each_its_own: bool) -> None:
    template = Template("billing", FIELDS)
    marks, jids, args = [b"-", b"x" * 22 + b"S60"], new_jids(2), [b"[1]", b'["%d"]']
    times = [stamps(1.5, queued=False, expiry=2.5), stamps(1.5, queued=False, expiry=3.5)]
    one = stamps(1.5, queued=True)

    many = template.build_many(marks, jids, args, times if each_its_own else one)

    ends = times if each_its_own else [one, one]
    assert many == [template.build(*each) for each in zip(marks, jids, args, ends, strict=True)]


def test_the_header_is_known_without_parsing_what_is_behind_it() -> None:
    raw = Template("q:1", {"class": "X"}).build(
        b"-", b"j-1", b'["{\\"qik\\":"]', stamps(1.0, queued=True)
    )

    assert header(raw) == ("-", "j-1", "q:1")


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"class":"X","args":[]}',
        b'{"jid":"a","qik":"-","queue":"q",',
        b'{"qik": "-","jid":"a","queue":"q",',
    ],
)
def test_what_has_no_such_header_is_foreign(raw: bytes) -> None:
    assert header(raw) is None


def test_times_are_float_seconds_or_integer_milliseconds() -> None:
    assert stamps(1.25, queued=False) == b',"created_at":1.250000}'
    assert stamps(1.25, queued=True, milliseconds=True) == b',"created_at":1250,"enqueued_at":1250}'
    assert json.loads(b'{"a":1' + stamps(1.25, queued=True, expiry=9.5))["expiry"] == 9.5


def test_an_encoded_payload_keeps_unknown_fields_and_ends_with_enqueued_at() -> None:
    fields = {
        "enqueued_at": 1.0,
        "bid": "b",
        "class": "X",
        "args": [2**63, []],
        "jid": "j",
        "queue": "q",
    }

    raw = encode_fields(fields)

    assert header(raw) == ("-", "j", "q")
    assert raw.endswith(b'"enqueued_at":1.0}')
    assert json.loads(raw) == {**fields, "qik": "-"}


def test_a_lock_is_read_from_its_header_form() -> None:
    lock = Unique("A" * 22, 3600, "start")

    assert Unique.parse(str(lock)) == lock
    assert Unique.parse("-") is None
    assert Payload({"qik": str(lock)}).unique == lock
    assert Payload({"qik": 7}).unique is None


def test_a_foreign_payload_may_lack_jid_queue_and_args() -> None:
    payload = Payload.decode(b'{"class":"Ruby::Job"}')

    assert (payload.jid, payload.queue, payload.args, payload.unique) == ("", "default", [], None)


MALFORMED: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"5",
    b'{"class":"X","args":',
    b"\xef\xbb\xbf{}",
    b"\x1f\x8b\x08",
    b"\xff",
    b'{"args":[]}',
    b'{"class":7}',
    b'{"class":null}',
    b'{"class":"X","args":{}}',
    b'{"class":"X","args":null}',
    b'{"class":"X","args":[NaN]}',
    b'{"class":"X","args":["\\ud800"]}',
    b'{"class":"X","args":' + b"[" * 100_000,
    '{"class":"X"}'.encode("utf-16"),
]


@pytest.mark.parametrize("raw", MALFORMED, ids=range(len(MALFORMED)))
def test_bytes_that_are_no_job_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedPayload):
        Payload.decode(raw)


def test_jids_are_24_hexadecimal_characters_and_never_the_same() -> None:
    jids = [*new_jids(10_000), new_jid().encode()]

    assert len(set(jids)) == 10_001
    assert all(len(jid) == 24 and not set(jid) - set(b"0123456789abcdef") for jid in jids)
    assert new_jids(0) == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(args=st.lists(JSON, max_size=4))
def test_any_arguments_come_back_from_any_payload(args: list[Any]) -> None:
    raw = encode_fields({"class": "X", "args": args, "jid": "j", "queue": "q"})

    back = Payload.decode(raw)

    assert repr(back.args) == repr(args)
    assert back.encode() == raw
    assert header(raw) == ("-", "j", "q")
