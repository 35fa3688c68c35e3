"""Options, delays, moments, rows and jids that cannot work: refused at definition or at the call, before anything is written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from qik_core import ArgumentError, DefinitionError, Job, push, registry
from qik_core.results import BulkResult, Enqueued
from tests.qik_core.jobs_of_tests import TakesInt, UniqueAnything, UniqueInt, names, stored

NOW = datetime(2026, 5, 6, tzinfo=UTC)


def _shown(value: object) -> str:
    text = re.sub(
        r" at 0x\w+",
        "",
        f"{type(value).__name__} {value!r}" if not isinstance(value, (list, dict)) else repr(value),
    )
    return text if len(text) < 60 else f"{text[:40]} of {len(text)}"


pytestmark = pytest.mark.usefixtures("default_client")


def empty(raw: redis.Redis) -> bool:
    """Nothing but the epoch, and the hash of locks that belongs to it."""
    return all(key == b"qik:epoch" or key.startswith(b"qik:unique:") for key in names(raw))


DELAYS: list[Any] = [
    -5,
    float("nan"),
    float("inf"),
    "5",
    True,
    None,
    timedelta(seconds=-1),
    10**400,
    timedelta.max,
]


@pytest.mark.parametrize("delay", DELAYS, ids=_shown)
def test_b24_a_delay_that_cannot_be_is_refused(delay: Any, raw: redis.Redis) -> None:
    calls: list[Callable[[], object]] = [
        lambda: TakesInt.perform_in(delay, 7),
        lambda: TakesInt.set(wait=delay).perform_async(7),
        lambda: TakesInt.set(jitter=delay).perform_async(7),
        lambda: asyncio.run(TakesInt.aio.perform_in(delay, 7)),
        lambda: push(TakesInt, [7], wait=delay),
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match="TakesInt"):
            call()

    assert empty(raw)


def test_b24_zero_is_now(raw: redis.Redis) -> None:
    assert TakesInt.perform_in(0, 7)
    assert TakesInt.perform_in(timedelta(0), 7)

    assert raw.llen("queue:ints") == 2


MOMENTS: list[tuple[Any, str]] = [
    (datetime(2026, 1, 1), "naive"),  # noqa: DTZ001 - the point
    (datetime(1, 1, 1, tzinfo=UTC), "outside of 2001 to 2255"),
    (datetime(9999, 1, 1, tzinfo=UTC), "outside of 2001 to 2255"),
    (1e18, "milliseconds"),
    (1_800_000_000_000, "milliseconds"),
    (60, "for a delay, perform_in"),
    (-1, "outside"),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (10**400, "milliseconds"),
    ("2026-01-01", "is a str"),
    (True, "is a bool"),
    (None, "is a NoneType"),
    (timedelta(1), "is a timedelta"),
]


@pytest.mark.parametrize(("moment", "text"), MOMENTS, ids=_shown)
def test_b25_a_moment_that_cannot_be_is_refused(moment: Any, text: str, raw: redis.Redis) -> None:
    calls: list[Callable[[], object]] = [
        lambda: TakesInt.perform_at(moment, 7),
        lambda: TakesInt.set(wait_until=moment).perform_async(7),
        lambda: asyncio.run(TakesInt.aio.perform_at(moment, 7)),
    ]
    if moment is not None:
        calls.append(lambda: TakesInt.perform_bulk([(7,)], at=moment))
        calls.append(lambda: TakesInt.set(queue="x").perform_bulk([(7,)], at=[moment]))
        calls.append(lambda: TakesInt.after_commit(object()).perform_bulk([(7,)], at=[moment]))
    for call in calls:
        with pytest.raises(ArgumentError, match=text):
            call()

    assert empty(raw)


def test_b25_a_moment_among_many_is_named_by_its_place(raw: redis.Redis) -> None:
    with pytest.raises(
        ArgumentError, match=r"TakesInt\.perform_bulk: at\[1\] is 60, .*for a delay"
    ):
        TakesInt.perform_bulk([(7,), (8,)], at=[4_000_000_000, 60])
    for pusher in (TakesInt.set(wait=60), TakesInt.set(wait_until=4_000_000_000)):
        with pytest.raises(ArgumentError, match="was set already: give one time"):
            pusher.perform_bulk([(7,)], at=[4_000_000_000])

    assert empty(raw)


def test_b25_the_past_is_now(raw: redis.Redis) -> None:
    assert TakesInt.perform_at(datetime(2020, 1, 1, tzinfo=UTC), 7)

    assert raw.llen("queue:ints") == 1


ROWS: list[tuple[Any, str]] = [
    (None, "NoneType"),
    ("ab", "str"),
    ({"a": 1}, "dict"),
    (7, "int"),
    ([1, 2], r"item 0.*use a tuple"),
    ([{"number": 1}], r"item 0.*use a tuple"),
    (["ab"], r"item 0.*use a tuple"),
    ([(1,), None], r"item 1.*use a tuple"),
    ([(1,), (1, 2)], r"item 1.*2 arguments"),
]


@pytest.mark.parametrize(("rows", "text"), ROWS, ids=_shown)
def test_b26_rows_that_are_none_are_refused(rows: Any, text: str, raw: redis.Redis) -> None:
    with pytest.raises(ArgumentError, match=text):
        TakesInt.perform_bulk(rows)

    assert empty(raw)


def test_b26_no_rows_are_no_jobs(raw: redis.Redis) -> None:
    assert TakesInt.perform_bulk([]) == BulkResult([], [])
    assert empty(raw)


@pytest.mark.parametrize("size", [0, -1, 1.5, "10", True, None, 10**9], ids=repr)
def test_b26_a_batch_size_that_cannot_be_is_refused(size: Any) -> None:
    with pytest.raises(ArgumentError, match="batch_size"):
        TakesInt.perform_bulk([(1,)], batch_size=size)


def test_b26_a_bad_item_is_named_and_earlier_batches_stay_written(raw: redis.Redis) -> None:
    rows = ((number if number != 2617 else "x",) for number in range(10_000))

    with pytest.raises(ArgumentError, match=r"^item 2617: TakesInt: args\[0\] \(number\) is a str"):
        TakesInt.perform_bulk(rows)  # type: ignore[arg-type]

    assert raw.llen("queue:ints") == 2000
    assert next(rows) == (3000,)  # nothing beyond its batch was taken


def test_b26_an_iterable_that_raises_stops_with_its_own_error(raw: redis.Redis) -> None:
    def rows() -> Iterator[tuple[int]]:
        for number in range(1500):
            yield (number,)
        raise LookupError("the cursor is gone")

    with pytest.raises(LookupError, match="the cursor is gone"):
        TakesInt.perform_bulk(rows())

    assert raw.llen("queue:ints") == 1000


@pytest.mark.slow
def test_b26_a_million_rows_go_through_a_batch_at_a_time(raw: redis.Redis) -> None:
    result = TakesInt.perform_bulk((number,) for number in range(1_000_000))

    assert (len(result), result.told, raw.llen("queue:ints")) == (1_000_000, True, 1_000_000)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"retrys": 3}, "did you mean 'retry'"),
    ({"unique": 3}, "no option 'unique'"),
    ({"retry": -1}, "retry is -1"),
    ({"retry": "5"}, "retry is '5'"),
    ({"retry": 1e9}, "retry is 1000000000.0"),
    ({"retry": 10**9}, "retry is 1000000000"),
    ({"retry": float("nan")}, "retry is nan"),
    ({"retry": None}, "retry is None"),
    ({"backtrace": -1}, "backtrace is -1"),
    ({"backtrace": "yes"}, "backtrace is 'yes'"),
    ({"dead": 0}, "dead is 0"),
    ({"tags": "a"}, "tags is 'a'"),
    ({"tags": [1]}, "tags is"),
    ({"unique_for": 0}, "unique_for is 0 s"),
    ({"unique_for": -1}, "unique_for is -1 s"),
    ({"unique_for": 1e12}, "unique_for is inf s"),
    ({"unique_for": "1h"}, "unique_for is a str"),
    ({"unique_for": True}, "unique_for is a bool"),
    ({"unique_for": float("nan")}, "unique_for is nan"),
    ({"unique_for": timedelta(days=36500)}, "10 years"),
    ({"unique_until": "start"}, "no meaning without unique_for"),
    ({"unique_for": None, "unique_until": "success"}, "no meaning without unique_for"),
    ({"unique_for": 60, "unique_until": "never"}, "use 'success' or 'start'"),
    ({"unique_for": 60, "unique_until": None}, "use 'success' or 'start'"),
    ({"unique_for": 60, "unique_until": ["start"]}, "use 'success' or 'start'"),
    ({"expires_in": 0}, "expires_in is 0 s"),
    ({"expires_in": "1h"}, "expires_in is a str"),
    ({"queue": ""}, "queue ''"),
    ({"queue": None}, "queue None"),
    ({"queue": " "}, "queue ' '"),
    ({"queue": "../x"}, "cannot be a name"),
    ({"queue": "*"}, "cannot be a name"),
    ({"queue": "[a]"}, "cannot be a name"),
    ({"queue": "a\n"}, "cannot be a name"),
    ({"queue": "a\0"}, "cannot be a name"),
    ({"queue": "x" * 10_000}, "cannot be a name"),
    ({"queue": "d\u0435fault"}, "cannot be a name"),  # a Cyrillic letter
]
CLASS_OPTIONS: list[tuple[dict[str, Any], str]] = [
    *OPTIONS,
    ({"unique_args": ["number"]}, "no meaning without unique_for"),
    ({"reconciled": False}, "says why"),
    ({"reconciled": False, "reason": " "}, "says why"),
    ({"reconciled": True, "reason": "why not"}, "reconciled is True"),
    ({"reason": "why not"}, "reconciled is None"),
    ({"on_unknown": "drop"}, "on_unknown is 'drop': use 'run' or 'stop'"),
    ({"on_unknown": True}, "on_unknown is True"),
    ({"tenant": "nummer"}, "name one of its parameters; did you mean 'number'"),
    ({"tenant": 1}, "tenant is 1"),
    ({"unique_for": 60, "unique_args": ["nummer"]}, "unique_args names 'nummer'"),
    ({"unique_for": 60, "unique_args": "number"}, "unique_args is 'number'"),
    ({"unique_for": 60, "unique_args": lambda number: number}, "unique_args is"),
    ({"name": ""}, "cannot be a job's name"),
    ({"name": "a b"}, "cannot be a job's name"),
    ({"name": "os.system('x')"}, "cannot be a job's name"),
    ({"name": 7}, "cannot be a job's name"),
    ({"aliases": "Old"}, "aliases is 'Old'"),
    ({"aliases": ["a b"]}, "cannot be a job's name"),
]


@pytest.mark.parametrize(("options", "text"), CLASS_OPTIONS, ids=_shown)
def test_b27_to_b31_an_option_that_cannot_work_fails_at_definition(
    options: dict[str, Any], text: str
) -> None:
    before = registry.names()

    with pytest.raises(DefinitionError) as caught:
        type("NeverDefined", (Job,), {"perform": _perform}, **options)

    assert text in str(caught.value)
    assert registry.names() == before


def _perform(self: object, number: int) -> None: ...


@pytest.mark.parametrize(("options", "text"), OPTIONS, ids=_shown)
def test_b27_to_b31_an_option_that_cannot_work_fails_at_set(
    options: dict[str, Any], text: str, raw: redis.Redis
) -> None:
    with pytest.raises(DefinitionError) as caught:
        TakesInt.set(**options)
    assert text in str(caught.value)

    with pytest.raises(DefinitionError):
        push("TakesInt", [7], **options)
    with pytest.raises(DefinitionError):
        push("Ruby::Job", [7], **options)

    assert empty(raw)


def test_b28_retry_true_false_and_numbers_travel_as_sidekiq_writes_them(raw: redis.Redis) -> None:
    for value in (True, False, 0, 7):
        TakesInt.set(retry=value).perform_async(7)

    assert [each["retry"] for each in stored(raw, "queue:ints")] == [
        7,
        0,
        False,
        True,
    ]


def test_b30_a_key_does_not_depend_on_the_order_of_keys(raw: redis.Redis) -> None:
    first = UniqueAnything.perform_async({"a": 1, "b": [{"x": 1, "y": 2}]})
    second = UniqueAnything.perform_async({"b": [{"y": 2, "x": 1}], "a": 1})

    assert first.told
    assert type(first) is not type(second)
    assert raw.llen("queue:default") == 1


QUEUES = ["retry", "dead", "schedule", "a:b", "stat:processed", "queues", "qik:epoch"]


@pytest.mark.parametrize("queue", QUEUES)
def test_b31_a_queue_may_be_called_like_a_key_without_meeting_it(
    queue: str, raw: redis.Redis
) -> None:
    assert TakesInt.set(queue=queue).perform_async(7)

    assert raw.llen(f"queue:{queue}") == 1
    assert raw.type(queue) in (b"none", b"set", b"string")


@pytest.mark.parametrize(
    "jid", ["", "x" * 65, "x" * 10_000, 7, None, "a b", "a\n", "ä", "a:b"], ids=_shown
)
def test_b34_a_jid_that_cannot_be_is_refused(jid: Any, raw: redis.Redis) -> None:
    with pytest.raises(ArgumentError, match="cannot be an id"):
        TakesInt.set(jid=jid).perform_async(7)
    with pytest.raises(ArgumentError, match="cannot be an id"):
        push(TakesInt, [7], jid=jid)

    assert empty(raw)


def test_b34_a_jid_that_was_used_already_makes_no_second_copy(raw: redis.Redis) -> None:
    for _ in range(3):
        assert UniqueInt.set(jid="mine").perform_async(7) == Enqueued("mine")
    assert raw.llen("queue:unique") == 1


def test_b34_one_jid_cannot_be_that_of_many() -> None:
    with pytest.raises(ArgumentError, match="leave it out"):
        TakesInt.set(jid="mine").perform_bulk([(1,), (2,)])


def test_two_times_are_one_too_many() -> None:
    with pytest.raises(ArgumentError, match="two times"):
        TakesInt.set(wait=5, wait_until=NOW)
    with pytest.raises(ArgumentError, match="give one time"):
        TakesInt.set(wait=5).perform_in(5, 7)
    with pytest.raises(ArgumentError, match="give it once"):
        TakesInt.set(jitter=5).perform_bulk([(7,)], jitter=5)
