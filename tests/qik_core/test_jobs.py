from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from enum import Enum
from threading import Event
from typing import Any

import pytest
import redis

import qik_core
from qik_core import (
    Context,
    DefinitionError,
    Enqueued,
    Job,
    Payload,
    aio,
    client,
    job,
    registry,
    settings,
)
from qik_core.errors import Cancelled
from qik_core.middleware import ClientResult, Next
from qik_core.settings import Settings
from tests.qik_core.jobs_of_tests import TakesDefaults, TakesInt, double, due, server_time, stored


@pytest.fixture
def _default_client(redis_url: str) -> Iterator[None]:
    settings.use(Settings(redis=redis_url))
    yield
    client.current().store.close()
    settings.use(None)


with_redis = pytest.mark.usefixtures("_default_client")


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    with registry.scope():
        yield


# --- definition ----------------------------------------------------------------------------------


def test_options_are_inherited_but_for_the_name() -> None:
    class Base(Job, queue="base", retry=3, name="ignored", aliases=["also_ignored"]):
        pass

    class Child(Base, retry=5):
        def perform(self) -> None: ...

    class Grandchild(Child, queue="own"):
        pass

    assert (Child.definition.name, Child.definition.queue, Child.definition.retry) == (
        "Child",
        "base",
        5,
    )
    assert (Grandchild.definition.name, Grandchild.definition.queue) == ("Grandchild", "own")
    assert (Grandchild.definition.retry, Grandchild.definition.aliases) == (5, ())


def test_a_nested_class_may_be_annotated_by_its_short_name() -> None:
    class Paint(Job):
        class Shade(Enum):
            RED = "red"

        def perform(self, shade: Shade) -> None: ...

    assert Paint.definition.arguments.load(["red"]) == [Paint.Shade.RED]


def test_perform_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(DefinitionError, match="perform is a staticmethod: use a plain method"):

        class Static(Job):
            @staticmethod
            def perform() -> None: ...

    with pytest.raises(DefinitionError, match="perform is a generator"):

        class Generator(Job):
            def perform(self) -> Iterator[int]:
                yield 1

    with pytest.raises(DefinitionError, match="perform is a int"):
        type("Number", (Job,), {"perform": 7})

    assert registry.find("Static") is None
    assert registry.find("Generator") is None


def test_a_class_without_perform_cannot_be_pushed() -> None:
    class Base(Job):
        pass

    with pytest.raises(DefinitionError, match="Base has no perform"):
        Base.perform_async()  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="is no job"):
        qik_core.push(Base, [])


def test_a_function_stays_a_function() -> None:
    assert double(4) == 8
    assert double.definition.retry == 3
    assert inspect.signature(double).parameters.keys() == {"number"}
    assert repr(double) == "<job double>"


def test_unknown_options_of_a_function_are_refused() -> None:
    with pytest.raises(DefinitionError, match="did you mean 'retry'"):

        @job(retrys=3)  # type: ignore[call-overload]
        def wrong() -> None: ...


# --- calls ---------------------------------------------------------------------------------------


@with_redis
def test_calls_push_what_they_say(raw: redis.Redis) -> None:
    result = TakesDefaults.perform_async(7, force=True)

    assert isinstance(result, Enqueued)
    assert result.told
    [payload] = stored(raw, "queue:default")
    assert (payload["jid"], payload["class"], payload["args"]) == (
        result.jid,
        "TakesDefaults",
        [7, True],
    )
    assert raw.smembers("queues") == {b"default"}


@with_redis
def test_a_function_is_pushed_as_a_class_is(raw: redis.Redis) -> None:
    assert double.perform_async(7)
    assert double.set(queue="other", retry=False).perform_async(number=8)
    assert double.perform_bulk([(1,), (2,)]).told

    assert [each["args"] for each in stored(raw, "queue:functions")] == [[2], [1], [7]]
    assert [each["retry"] for each in stored(raw, "queue:other")] == [False]


@with_redis
def test_set_adds_to_what_was_set_before(raw: redis.Redis) -> None:
    TakesInt.set(queue="first", tags=["a"]).set(queue="second", jid="mine").perform_async(7)

    [payload] = stored(raw, "queue:second")
    assert (payload["tags"], payload["jid"], payload["queue"]) == (["a"], "mine", "second")


@with_redis
def test_a_delay_and_a_moment_go_to_the_schedule(raw: redis.Redis) -> None:
    now = server_time(raw)
    moment = datetime(2100, 1, 2, tzinfo=UTC)
    TakesInt.perform_in(timedelta(minutes=5), 1)
    TakesInt.set(wait=300).perform_async(2)
    TakesInt.perform_at(moment, 3)
    TakesInt.set(wait_until=moment.timestamp()).perform_async(4)

    scores = {
        payload["args"][0]: score
        for payload, score in zip(stored(raw, "schedule"), due(raw), strict=True)
    }
    assert scores[1] == pytest.approx(now + 300, abs=5)
    assert scores[2] == pytest.approx(now + 300, abs=5)
    assert scores[3] == scores[4] == moment.timestamp()
    assert all("enqueued_at" not in payload for payload in stored(raw, "schedule"))


@with_redis
def test_aio_makes_the_same_calls(raw: redis.Redis) -> None:
    async def main() -> list[Any]:
        return [
            await TakesInt.aio.perform_async(1),
            await TakesInt.aio.perform_in(60, 2),
            await TakesInt.aio.perform_at(datetime(2100, 1, 1, tzinfo=UTC), 3),
            await TakesInt.aio.perform_bulk([(4,), (5,)]),
            await TakesInt.aio.set(queue="other").perform_async(6),
            await TakesInt.set(queue="other").aio.perform_async(7),
        ]

    assert all(result.told for result in asyncio.run(main()))
    assert [each["args"][0] for each in stored(raw, "queue:ints")] == [5, 4, 1]
    assert [each["args"][0] for each in stored(raw, "schedule")] == [2, 3]
    assert [each["args"][0] for each in stored(raw, "queue:other")] == [7, 6]


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def tenant(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
    return call_next(job.replace(tenant=TENANT.get()))


@with_redis
def test_aio_carries_context_variables_to_the_client_middleware(raw: redis.Redis) -> None:
    settings.configure(client_middleware=[tenant])

    async def main() -> None:
        TENANT.set("acme")
        await TakesInt.aio.perform_async(1)

    asyncio.run(main())

    assert [each["tenant"] for each in stored(raw, "queue:ints")] == ["acme"]


@with_redis
def test_aio_leaves_the_loop_free_and_a_cancelled_call_leaves_it_well(raw: redis.Redis) -> None:
    entered, leave = Event(), Event()

    def rows() -> Iterator[tuple[int]]:
        entered.set()
        assert leave.wait(10)
        yield (1,)

    async def main() -> None:
        task = asyncio.create_task(TakesInt.aio.perform_bulk(rows()))
        while not entered.is_set():  # noqa: ASYNC110 - the loop runs while the call blocks its thread
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        leave.set()
        assert await TakesInt.aio.perform_async(2)

    asyncio.run(main())


@with_redis
def test_a_blocking_call_in_a_loop_warns_once_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aio, "_warned", False)

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match=r"await the same call behind \.aio") as caught:
            TakesInt.perform_async(1)
        assert caught[0].filename == __file__
        TakesInt.perform_async(2)
        TakesInt.perform_bulk([(3,)])
        qik_core.push(TakesInt, [4])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        TakesInt.perform_async(4)


# --- inside a job --------------------------------------------------------------------------------


def test_a_cancelled_run_ends_at_its_checkpoint() -> None:
    context = Context(Payload({"class": "X", "jid": "j"}))
    context.checkpoint()
    context.cancel()

    assert context.cancelled
    with pytest.raises(Cancelled):
        context.checkpoint()


# --- the package ---------------------------------------------------------------------------------


def test_every_public_name_can_be_imported() -> None:
    names = [name for name in dir(qik_core) if not name.startswith("_")]

    assert {"Job", "job", "push", "configure", "Enqueued", "ArgumentError"} <= set(names)
    for name in names:
        assert getattr(qik_core, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        getattr(qik_core, "no" + "such")


def test_a_job_that_no_worker_runs_says_where_its_context_would_come_from() -> None:
    with registry.scope():

        class Alone(Job):
            def perform(self) -> None:
                self.context.checkpoint()

        with pytest.raises(AttributeError, match=r"Alone\.perform_inline"):
            Alone().perform()
