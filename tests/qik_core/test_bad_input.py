"""What must never get into Redis, at every door: perform_async, perform_bulk, push, aio.

Each is refused before anything is written, with an error that names the job, the place, and what to do.
"""

from __future__ import annotations

import asyncio
import re
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from qik_core import ArgumentError, DefinitionError, QikError, push, settings
from qik_core.results import Push
from tests.qik_core.jobs_of_tests import (
    BAD,
    GOOD,
    TakesAnything,
    TakesDefaults,
    TakesInt,
    TakesNothing,
    names,
    stored,
)


def _shown(value: object) -> str:
    text = re.sub(
        r" at 0x\w+",
        "",
        f"{type(value).__name__} {value!r}" if not isinstance(value, (list, dict)) else repr(value),
    )
    return text if len(text) < 60 else f"{text[:40]} of {len(text)}"


NOW = datetime(2026, 5, 6, tzinfo=UTC)
Door = Callable[[Any, tuple[Any, ...]], object]


def aio(job: Any, args: tuple[Any, ...]) -> Push:
    async def main() -> Push:
        result: Push = await job.aio.perform_async(*args)
        return result

    return asyncio.run(main())


DOORS: dict[str, Door] = {
    "perform_async": lambda job, args: job.perform_async(*args),
    "perform_in": lambda job, args: job.perform_in(60, *args),
    "perform_at": lambda job, args: job.perform_at(NOW, *args),
    "perform_bulk": lambda job, args: job.perform_bulk([args]),
    "set": lambda job, args: job.set(queue="other").perform_async(*args),
    "push": push,
    "push by name": lambda job, args: push(job.definition.name, args),
    "push for Ruby": lambda _, args: push("Ruby::Job", args),
    "aio": aio,
}
door = pytest.mark.parametrize("door", DOORS)


pytestmark = pytest.mark.usefixtures("default_client")


def empty(raw: redis.Redis) -> bool:
    """Nothing but the epoch, and the hash of locks that belongs to it."""
    return all(key == b"qik:epoch" or key.startswith(b"qik:unique:") for key in names(raw))


@door
@pytest.mark.parametrize("name", BAD)
def test_a_value_that_json_would_change_never_gets_in(
    door: str, name: str, raw: redis.Redis
) -> None:
    make, text = BAD[name]

    with pytest.raises(ArgumentError) as caught:
        DOORS[door](TakesAnything, (make(),))

    assert text in str(caught.value)
    assert ("Ruby::Job" if door == "push for Ruby" else "TakesAnything: args") in str(caught.value)
    assert ("item 0" in str(caught.value)) == (door == "perform_bulk")
    assert empty(raw)


@door
@pytest.mark.parametrize("name", GOOD)
def test_what_json_carries_gets_in_exactly(door: str, name: str, raw: redis.Redis) -> None:
    assert DOORS[door](TakesAnything, (GOOD[name],))

    found = [*stored(raw, "queue:any"), *stored(raw, "queue:other"), *stored(raw, "queue:default")]
    found += stored(raw, "schedule")
    assert [repr(each["args"]) for each in found] == [repr([GOOD[name]])]


@door
@pytest.mark.parametrize("value", ["7", True, 7.0, None, 2**64, [7]], ids=repr)
def test_a_value_of_another_type_never_gets_in(door: str, value: object, raw: redis.Redis) -> None:
    if door == "push for Ruby" and value != 2**64:
        assert DOORS[door](TakesInt, (value,))  # its types are Ruby's to know
        return

    with pytest.raises(ArgumentError, match="args"):
        DOORS[door](TakesInt, (value,))

    assert empty(raw)


@door
@pytest.mark.parametrize("args", [(), (1, False, 3)], ids=["too few", "too many"])
def test_arguments_that_match_no_signature_never_get_in(
    door: str, args: tuple[Any, ...], raw: redis.Redis
) -> None:
    if door == "push for Ruby":
        assert DOORS[door](TakesDefaults, args)  # its signature is Ruby's to know
        return

    with pytest.raises(ArgumentError, match=r"TakesDefaults: .*perform takes"):
        DOORS[door](TakesDefaults, args)

    assert empty(raw)


def test_b19_no_arguments_and_three_hundred(raw: redis.Redis) -> None:
    assert TakesNothing.perform_async()
    assert TakesNothing.perform_bulk([(), ()]).told
    assert push("Ruby::Wide", list(range(300)))

    assert [each["args"] for each in stored(raw, "queue:default")] == [
        list(range(300)),
        [],
        [],
        [],
    ]


def test_b20_keywords_are_bound_and_unknown_ones_refused(raw: redis.Redis) -> None:
    assert TakesDefaults.perform_async(number=7)
    with pytest.raises(ArgumentError, match="no parameter 'forse'"):
        TakesDefaults.perform_async(7, forse=True)  # type: ignore[call-arg]

    assert [each["args"] for each in stored(raw, "queue:default")] == [[7, False]]


def test_b21_a_payload_is_a_snapshot(raw: redis.Redis) -> None:
    value = {"list": [1]}
    TakesAnything.perform_async(value)
    value["list"].append(2)

    assert stored(raw, "queue:any")[0]["args"] == [{"list": [1]}]


@pytest.mark.parametrize("job", [None, 7, object(), int, ["TakesInt"], lambda: None], ids=_shown)
def test_what_is_no_job_cannot_be_pushed(job: Any, raw: redis.Redis) -> None:
    with pytest.raises(DefinitionError, match="is no job"):
        push(job, [7])

    assert empty(raw)


@pytest.mark.parametrize("name", ["", "a b", "__import__('os')", "x" * 300, "a\n", "ä"], ids=_shown)
def test_a_name_that_cannot_be_one_is_refused(name: str, raw: redis.Redis) -> None:
    with pytest.raises(DefinitionError, match="cannot be a job's name"):
        push(name, [7])

    assert empty(raw)


@pytest.mark.parametrize("args", ["ab", {"a": 1}, None, 7, {1}], ids=repr)
def test_arguments_that_are_no_list_are_refused(args: Any, raw: redis.Redis) -> None:
    for job in (TakesAnything, "TakesAnything", "Ruby::Job"):
        with pytest.raises(ArgumentError, match="use a list or a tuple"):
            push(job, args)

    assert empty(raw)


def test_every_refusal_is_an_error_of_this_package() -> None:
    assert issubclass(ArgumentError, QikError)
    assert issubclass(ArgumentError, TypeError)
    assert issubclass(DefinitionError, QikError)


def test_b16_100_mb_are_refused_within_a_second_and_without_a_copy(raw: redis.Redis) -> None:
    text = "x" * 100_000_000
    TakesAnything.perform_async(1)
    tracemalloc.start()
    began = time.monotonic()

    with pytest.raises(ArgumentError, match=r"TakesAnything: args\[0\] \(value\) is larger than"):
        TakesAnything.perform_async(text)
    with pytest.raises(
        ArgumentError, match=r"item 1: TakesAnything: args\[0\] \(value\) is larger"
    ):
        TakesAnything.perform_bulk([(1,), ({"a": text},)])

    seconds = time.monotonic() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (seconds < 1, peak < 1_000_000) == (True, True)
    assert raw.llen("queue:any") == 1


def test_a_worker_reads_what_another_process_was_allowed_to_push(
    raw: redis.Redis,
) -> None:
    settings.configure(max_payload=10_000_000)
    TakesAnything.perform_async("x" * 5_000_000)

    [payload] = stored(raw, "queue:any")
    assert TakesAnything.definition.arguments.load(payload["args"]) == ["x" * 5_000_000]
