from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
import redis

from qik_core import Code, Duplicate, Enqueued, Job, Payload, api, hooks, job, push
from qik_core.errors import UnknownJob
from qik_core.middleware import Next
from qik_core.outcomes import Discard, RequeueAfter, Terminal
from qik_core.passes import Passes
from qik_core.settings import configure
from qik_core.testing import JobsFailed, MisusedMode, Real, Unending, assert_enqueued, real
from tests.qik_core.testing.jobs_of_apps import (
    Charge,
    Failing,
    Greet,
    Mail,
    Once,
    Saying,
    Tree,
    done,
)


def test_jobs_go_to_a_server_and_drain_performs_them(server: Real) -> None:
    Charge.perform_async(7, UUID(int=1))
    raw = redis.Redis.from_url(server.url)
    assert raw.llen("queue:billing") == 1

    assert server.drain() == 1

    assert done == [(7, UUID(int=1))]
    assert raw.llen("queue:billing") == 0
    assert raw.get("stat:processed") == b"1"
    assert list(raw.scan_iter("qik:working:*")) == []
    raw.close()


def test_the_server_ends_with_the_mode() -> None:
    with real() as server:
        pid = server._server.pid
        assert pid
    assert not server._server.running


def test_a_real_drain_performs_what_jobs_push_on_any_queue(server: Real) -> None:
    @job(queue="new")
    def second() -> None:
        done.append("second")

    @job(queue="first")
    def first() -> None:
        second.perform_async()
        Tree.perform_async(2)

    first.perform_async()

    assert server.drain() == 2 + 7
    assert "second" in done


def test_jobs_that_wait_are_listed_as_in_a_fake(server: Real) -> None:
    Mail.perform_bulk([("a",), ("b",)])
    Mail.perform_in(3600, "later")
    Passes().push(Once, [(1,)], delays=[60.0])

    assert [each.args for each in server.queued("mail")] == [("a",), ("b",)]
    assert [(each.name, each.args) for each in server.scheduled] == [
        ("Once", (1,)),
        ("Mail", ("later",)),
    ]
    assert assert_enqueued(Mail, "later", at=timedelta(hours=1)).queue == "mail"


def test_a_push_may_be_on_its_way_before_its_delay_begins(server: Real) -> None:
    Mail.perform_in(3600, "later")
    raw = redis.Redis.from_url(server.url)
    (member,) = cast("list[bytes]", raw.zrange("schedule", 0, -1))
    raw.zincrby("schedule", 0.5, member)
    assert_enqueued(Mail, "later", at=timedelta(hours=1))

    raw.zincrby("schedule", 1.0, member)
    with pytest.raises(AssertionError, match="after its push"):
        assert_enqueued(Mail, "later", at=timedelta(hours=1))
    raw.close()


def test_what_is_not_due_stays(server: Real) -> None:
    Mail.perform_in(3600, "later")

    assert server.drain() == 0
    assert len(server.scheduled) == 1


def test_locks_are_the_real_ones(server: Real) -> None:
    first = Once.perform_async(1)
    assert isinstance(first, Enqueued)
    assert Once.perform_async(1) == Duplicate(first.jid, Code.DUPLICATE_QUEUED)

    server.drain()

    assert isinstance(Once.perform_async(1), Enqueued)


def test_a_failed_job_waits_in_the_retry_set_and_the_drain_says_so(server: Real) -> None:
    Failing.perform_async(1)
    Mail.perform_async("a@example.org")

    with pytest.raises(
        JobsFailed, match=r"1 of the drained jobs .*\n  Failing\(1\).*KeyError: 1"
    ) as caught:
        server.drain()

    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.failures[0].job.args == [1]
    assert done == ["a@example.org"]
    with redis.Redis.from_url(server.url) as raw:
        (waiting,) = raw.zrange("retry", 0, -1)
    assert Payload.decode(waiting)["error_message"] == "1"


def test_a_drain_may_leave_failures_to_the_test(server: Real) -> None:
    Failing.perform_async(1)
    Failing.set(retry=False).perform_async(2)

    assert server.drain(check=False) == 2


def test_a_job_that_is_dropped_after_its_failure_is_a_failure(server: Real) -> None:
    Failing.set(retry=False).perform_async(2)

    with pytest.raises(JobsFailed):
        server.drain()


def test_jobs_that_discard_themselves_or_ask_to_run_again_have_not_failed(server: Real) -> None:
    Saying.word = Discard("not wanted")
    Saying.perform_async("returned")
    server.drain()
    Saying.word = RequeueAfter(60)
    Saying.perform_async("raised")
    server.drain()

    assert [each.name for each in server.scheduled] == ["Saying"]


def test_a_terminal_job_is_a_failure_and_dead(server: Real) -> None:
    Saying.word = Terminal("the card is gone")
    Saying.perform_async("returned")

    with pytest.raises(JobsFailed, match="the card is gone"):
        server.drain()
    with redis.Redis.from_url(server.url) as raw:
        assert raw.zcard("dead") == 1


def test_a_job_that_nothing_defines_is_a_failure_that_says_so(server: Real) -> None:
    push("Elsewhere", [7])

    with pytest.raises(JobsFailed, match=r"Elsewhere\(7\) on default: .*Elsewhere") as caught:
        server.drain()
    assert caught.value.failures[0].error is None or isinstance(
        caught.value.failures[0].error, UnknownJob
    )


def test_bytes_that_are_no_job_are_set_aside_and_said(server: Real) -> None:
    Mail.perform_async("a@example.org")
    with redis.Redis.from_url(server.url) as raw:
        raw.lpush("queue:mail", b"not a job")

    with pytest.raises(JobsFailed, match="not a job"):
        server.drain()
    assert done == ["a@example.org"]


def test_server_middleware_is_passed_in_a_drain(server: Real) -> None:
    seen: list[str] = []

    def outer(each: Payload, call_next: Next[None]) -> None:
        seen.append(each.class_name)
        call_next(each)

    configure(server_middleware=[outer])
    Mail.perform_async("a@example.org")
    server.drain()

    assert seen == ["Mail"]


def test_jobs_of_a_drain_run_in_the_thread_of_the_test_also_async_ones(server: Real) -> None:
    @job
    def bare() -> None:
        done.append(threading.get_ident())

    @job
    async def awaited() -> None:
        await asyncio.sleep(0)
        done.append(threading.get_ident())

    bare.perform_async()
    awaited.perform_async()
    server.drain()

    assert done == [threading.get_ident()] * 2


def test_a_drain_inside_a_running_loop_works(server: Real) -> None:
    async def main() -> int:
        await Greet.aio.perform_async("a")
        return server.drain()

    assert asyncio.run(main()) == 1
    assert done == ["hello a"]


def test_a_drain_without_an_end_is_stopped_and_the_next_job_stays(server: Real) -> None:
    class Endless(Job):
        def perform(self) -> None:
            Endless.perform_async()

    Endless.perform_async()

    with pytest.raises(Unending, match="has performed 20 jobs"):
        server.drain(most=20)
    assert len(server.jobs) == 1


def test_a_drain_survives_a_job_that_empties_redis(server: Real) -> None:
    @job
    def empties() -> None:
        with redis.Redis.from_url(server.url) as raw:
            raw.flushall()
        Mail.perform_async("afterwards")

    empties.perform_async()

    assert server.drain() == 2
    assert done == ["afterwards"]


def test_a_real_drain_takes_no_class(server: Real) -> None:
    with pytest.raises(MisusedMode, match=r"not Mail alone.*use fake\(\)"):
        server.drain(Mail)


def test_a_time_limit_holds_in_a_real_drain(server: Real) -> None:
    class Slow(Job, timeout=0.05, retry=0):
        async def perform(self) -> None:
            await asyncio.sleep(3600)

    Slow.perform_async()

    with pytest.raises(JobsFailed, match="timeout"):
        server.drain()


def test_handlers_of_errors_and_deaths_are_told_by_a_real_drain(server: Real) -> None:
    told: list[Any] = []

    @hooks.on_error
    def error(raised: BaseException, context: Mapping[str, Any]) -> None:
        told.append((type(raised), context["job"]))

    @hooks.on_death
    def death(each: Payload, raised: BaseException | None) -> None:
        told.append(each.args)

    try:
        Failing.set(retry=0).perform_async(1)
        server.drain(check=False)
    finally:
        hooks.clear()

    assert told == [(KeyError, "Failing"), [1]]


def test_programs_look_at_what_became_of_jobs_with_the_api(server: Real) -> None:
    Failing.perform_async(1)
    Failing.set(retry=0).perform_async(2)
    server.drain(check=False)

    assert [each.args for each in api.RetrySet()] == [[1]]
    assert [each.args for each in api.DeadSet()] == [[2]]
    assert api.Stats.read().failed == 2
