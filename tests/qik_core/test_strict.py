from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable

import pytest

from qik_core import strict
from qik_core.errors import ArgumentError, MalformedPayload
from tests.qik_core.jobs_of_tests import BAD, GOOD

LIMIT = 1_048_576


@pytest.mark.parametrize("name", BAD)
def test_what_json_would_change_is_refused_with_a_remedy(name: str) -> None:
    make, text = BAD[name]

    with pytest.raises(ArgumentError) as caught, strict.limited(LIMIT):
        strict.encode(make(), "Charge: args[0]")

    assert str(caught.value).startswith("Charge: args[0]")
    assert text in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_what_json_carries_comes_back_equal_and_of_the_same_type(name: str) -> None:
    value = GOOD[name]

    back = strict.decode(strict.encode(value))

    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)  # also tells -0.0 from 0.0 and the order of keys


def test_the_path_names_the_place_inside_the_value() -> None:
    with pytest.raises(ArgumentError, match=r"args\[1\]\.user\.id is a set"):
        strict.check({"user": {"id": {1}}}, "args[1]")

    with pytest.raises(ArgumentError, match=r"args\[1\]\['a b'\]\[2\] is nan"):
        strict.check({"a b": [1, 2, math.nan]}, "args[1]")


@pytest.mark.parametrize(
    "make", [lambda: "x" * 100_000_000, lambda: ["x" * 900_000] * 1000], ids=["one", "many"]
)
def test_a_value_above_the_limit_is_refused_quickly_and_without_a_copy(
    make: Callable[[], object],
) -> None:
    value = make()
    tracemalloc.start()
    began = time.monotonic()

    with pytest.raises(ArgumentError, match="larger than"), strict.limited(LIMIT):
        strict.encode(value)

    seconds = time.monotonic() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1
    assert peak < 1_000_000


def test_canonical_bytes_do_not_depend_on_the_order_of_keys() -> None:
    one, other = {"a": [{"x": 1, "y": 2}], "b": 1}, {"b": 1, "a": [{"y": 2, "x": 1}]}

    assert strict.canonical(one) == strict.canonical(other)
    assert strict.encode(one) != strict.encode(other)


@pytest.mark.parametrize(
    "raw",
    [b"", b"null x", b"NaN", b'{"a":', b"\xff", b'"\\ud800"', b"[" * 100_000, "x".encode("utf-16")],
)
def test_bytes_that_are_not_json_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedPayload):
        strict.decode(raw)


def test_the_limit_is_of_a_push_and_a_reader_takes_what_redis_can_hold() -> None:
    value = "x" * 2000
    with strict.limited(1000):
        with pytest.raises(
            ArgumentError, match=r"larger than 1,000 bytes as JSON \(2,000 or more\)"
        ):
            strict.check_str(value, "Charge: args[0]")
        with strict.limited(3000):
            strict.check_str(value, "Charge: args[0]")
        with pytest.raises(ArgumentError, match="max_payload: store it, and pass its id"):
            strict.check(["x" * 600, "x" * 600], "Charge: args[0]")

    strict.check_str(value, "Charge: args[0]")
    assert strict.limit() == strict.LARGEST
