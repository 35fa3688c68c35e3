from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qik_core import Job, job, registry
from qik_core.arguments import RowError
from qik_core.context import Context
from qik_core.definition import Definition, Window, untyped
from qik_core.errors import ArgumentError, DefinitionError
from qik_core.jobs import current_context
from qik_core.payload import Payload
from tests.qik_core.jobs_of_tests import (
    AsyncInt,
    TakesDefaults,
    TakesInt,
    UniqueAnything,
    UniqueByName,
    UniqueInt,
    double,
)

UNIQUE = UniqueInt.definition


@pytest.mark.parametrize("given", [{}, {"expires_in": 60, "retry": 3}, {"unique_for": 60}])
@pytest.mark.parametrize(
    ("job_class", "row"),
    [
        (TakesInt, (7,)),
        (TakesDefaults, (-1,)),
        (UniqueInt, (2**64 - 1, True)),
        (UniqueByName, (3, 'a\n"\u2028 é')),
        (UniqueAnything, ({"b": [1.5, None], "a": {"ü": False}},)),
    ],
)
def test_one_job_is_built_as_it_is_in_a_batch(
    job_class: type[Job], row: tuple[object, ...], given: dict[str, Any]
) -> None:
    definition = job_class.definition.with_options(given, "x")

    for milliseconds in (False, True):
        jid, payload, digest = definition.build_one(row, 1e9 + 0.25, milliseconds=milliseconds)
        batch = definition.build([row], 1e9 + 0.25, jids=[jid], milliseconds=milliseconds)

        assert (batch.payloads, batch.digests) == ([payload], None if digest is None else [digest])


@pytest.mark.parametrize("row", [("7",), (2**64,), ()])
def test_one_job_is_refused_as_it_is_in_a_batch(row: tuple[object, ...]) -> None:
    with pytest.raises(RowError) as of_batch:
        TakesInt.definition.build([row], 1e9)
    with pytest.raises(ArgumentError) as alone:
        TakesInt.definition.build_one(row, 1e9)

    assert str(alone.value) == of_batch.value.message


def test_every_spelling_of_a_call_is_one_key() -> None:
    bind = UNIQUE.arguments.bind
    rows = [
        bind((7,), {}),
        bind((7, False), {}),
        bind((), {"number": 7}),
        bind((7,), {"force": False}),
    ]

    assert len(set(UNIQUE.digests(rows))) == 1
    assert set(UNIQUE.digests([(7,)])) == set(UNIQUE.digests(rows))
    assert UNIQUE.digests([(7, True)]) != UNIQUE.digests([(7,)])


def test_the_key_in_a_payload_is_the_key_of_its_row() -> None:
    built = UNIQUE.build([(7,), (8, True)], 1.0)

    assert built.digests == UNIQUE.digests([(7,), (8, True)])
    for raw, digest in zip(built.payloads, built.digests or (), strict=True):
        payload = Payload.decode(raw)
        assert payload.unique is not None
        assert (payload.unique.digest.encode(), payload.unique.seconds, payload.unique.until) == (
            digest,
            3600,
            "success",
        )
        assert UNIQUE.digest(payload.args) == digest
    assert (
        UNIQUE.digest([7]) == built.digests[0] if built.digests else False
    )  # Ruby leaves defaults out


def test_a_key_is_22_url_safe_characters() -> None:
    digests = UNIQUE.digests([(number,) for number in range(2000)])

    assert all(len(digest) == 22 for digest in digests)
    assert not set(b"".join(digests)) - set(
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    )
    assert len(set(digests)) == 2000


def test_a_key_belongs_to_its_class_whatever_the_queue() -> None:
    assert UNIQUE.with_options({"queue": "other"}, "x").digests([(7,)]) == UNIQUE.digests([(7,)])
    assert UniqueAnything.definition.digests([(7,)]) != UNIQUE.digests([(7,)])


def test_fewer_arguments_may_make_a_job_unique() -> None:
    one, two, other = UniqueByName.definition.digests([(1, "a"), (2, "a"), (1, "b")])

    assert one == two
    assert one != other


def test_a_key_is_the_same_in_every_process() -> None:
    root = Path(__file__).parents[2]
    code = (
        "from tests.qik_core.jobs_of_tests import *\n"
        "print(UniqueAnything.definition.digests([({'b': [1.0, {'y': 1, 'x': 2}], 'a': 'ü'},)]))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            cwd=root,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }

    here = UniqueAnything.definition.digests([({"a": "ü", "b": [1.0, {"x": 2, "y": 1}]},)])
    assert {answer.decode().strip() for answer in answers} == {repr(here)}


def test_a_number_and_its_float_are_one_key_where_a_float_is_wanted() -> None:
    with registry.scope():

        class Rate(Job, unique_for=60):
            def perform(self, rate: float) -> None: ...

        assert len(set(Rate.definition.digests([(7,), (7.0,)]))) == 1
    assert len(set(UniqueAnything.definition.digests([(7,), (7.0,), ("7",), (True,)]))) == 4


def test_a_payload_keeps_the_order_of_keys() -> None:
    [raw] = UniqueAnything.definition.build([({"b": 1, "a": 2},)], 1.0).payloads

    assert b'{"b":1,"a":2}' in raw


def fields(definition: Definition, **given: Any) -> dict[str, Any]:
    [raw] = definition.with_options(given, "x").build([(7,)], 100.0).payloads
    found: dict[str, Any] = json.loads(raw)
    return found


def test_options_travel_in_sidekiqs_words() -> None:
    with registry.scope():

        class Full(Job, queue="q", retry=3, backtrace=5, dead=False, tags=["a"], expires_in=60):
            def perform(self, number: int) -> None: ...

        found = fields(Full.definition)

    assert {
        name: found[name]
        for name in ("class", "queue", "retry", "backtrace", "dead", "tags", "expiry")
    } == {
        "class": "Full",
        "queue": "q",
        "retry": 3,
        "backtrace": 5,
        "dead": False,
        "tags": ["a"],
        "expiry": 160.0,
    }
    assert found["created_at"] == found["enqueued_at"] == 100.0


@pytest.mark.parametrize(
    ("given", "retries", "wire"), [(True, 25, True), (False, -1, False), (0, 0, 0), (7, 7, 7)]
)
def test_retry_is_a_number_inside_and_sidekiqs_form_outside(
    given: bool | int, retries: int, wire: object
) -> None:
    changed = TakesInt.definition.with_options({"retry": given}, "x")

    assert changed.retry == retries
    assert fields(TakesInt.definition, retry=given)["retry"] is wire or wire == given


def test_a_job_that_is_due_later_is_not_stamped_as_enqueued_and_expires_from_then() -> None:
    changed = TakesInt.definition.with_options({"expires_in": 60}, "x")

    built = changed.build([(1,), (2,)], 100.0, due=[200.0, 300.0])

    assert [json.loads(raw)["expiry"] for raw in built.payloads] == [260.0, 360.0]
    assert all("enqueued_at" not in json.loads(raw) for raw in built.payloads)


def test_options_of_a_call_leave_the_definition_as_it_was() -> None:
    changed = UNIQUE.with_options({"queue": "x", "unique_for": 5, "unique_until": "start"}, "x")

    assert (changed.queue, changed.unique) == ("x", Window(5, "start"))
    assert (UNIQUE.queue, UNIQUE.unique) == ("unique", Window(3600))
    assert UNIQUE.with_options({}, "x") is UNIQUE


def test_a_window_is_whole_seconds_rounded_up() -> None:
    assert UNIQUE.with_options({"unique_for": 1.2}, "x").unique == Window(2)


def test_a_bad_row_builds_nothing() -> None:
    with pytest.raises(RowError, match="item 1"):
        TakesInt.definition.build([(1,), ("x",)], 1.0)


def test_no_rows_build_nothing() -> None:
    assert TakesInt.definition.build([], 1.0) == ([], [], None)
    assert UNIQUE.build([], 1.0) == ([], [], [])


# --- to run --------------------------------------------------------------------------------------


def context(**given: Any) -> Context:
    return Context(Payload({"class": "X", "jid": "j", **given}))


def test_a_run_of_a_class_is_an_instance_that_knows_its_context() -> None:
    here = context(retry_count=0)
    run = TakesDefaults.definition.new(here)

    assert isinstance(run, TakesDefaults)
    assert run.context is here
    assert (run.context.jid, run.context.attempt) == ("j", 2)
    run.perform(*TakesDefaults.definition.arguments.load([7]))


def test_a_run_of_a_function_finds_its_context() -> None:
    with registry.scope():

        @job
        def seen() -> str:
            return current_context().jid

        @job
        async def awaited() -> str:
            await asyncio.sleep(0)
            return current_context().jid

        assert seen.definition.new(context()).perform() == "j"
        assert asyncio.run(awaited.definition.new(context()).perform()) == "j"
        assert awaited.definition.is_async
    with pytest.raises(Exception, match="no function job runs here"):
        current_context()


def test_a_job_says_whether_it_is_async() -> None:
    assert AsyncInt.definition.is_async
    assert not double.definition.is_async
    assert inspect.iscoroutinefunction(AsyncInt.definition.new(context()).perform)


def test_a_job_of_ruby_takes_any_arguments_but_cannot_run_here() -> None:
    ruby = untyped("Ruby::Job")

    assert ruby.build([(1, "a"), ()], 1.0).digests is None
    assert ruby.arguments.load([1, 2, 3]) == [1, 2, 3]
    with pytest.raises(ArgumentError, match="keywords have no place"):
        ruby.arguments.bind((), {"a": 1})
    with pytest.raises(DefinitionError, match="not defined in this process"):
        ruby.new(context())
