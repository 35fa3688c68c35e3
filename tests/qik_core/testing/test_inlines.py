from __future__ import annotations

import asyncio
import threading
import warnings
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from qik_core import Code, Enqueued, Job, Payload, Refused, aio, job
from qik_core.middleware import ClientResult, Next
from qik_core.outcomes import Discard, RequeueAfter
from qik_core.settings import configure
from qik_core.testing import Inline, Unending, inline
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


def test_a_push_performs_the_job_with_arguments_that_went_through_json(at_once: Inline) -> None:
    run = UUID(int=1)
    result = Charge.perform_async(7, run)

    assert isinstance(result, Enqueued)
    assert done == [(7, run)]
    assert done[0][1] is not run
    assert [each.jid for each in at_once.jobs] == [result.jid]


def test_jobs_that_jobs_push_run_inside_them(at_once: Inline) -> None:
    Tree.perform_async(2)

    assert done == [2, 1, 0, 0, 1, 0, 0]


def test_scheduled_jobs_and_bulk_run_at_once(at_once: Inline) -> None:
    Mail.perform_in(3600, "in")
    result = Mail.perform_bulk([("a",), ("b",)], jitter=timedelta(minutes=1))

    assert done == ["in", "a", "b"]
    assert list(result) == [Code.ENQUEUED, Code.ENQUEUED]


def test_what_a_job_raises_comes_out_of_its_push(at_once: Inline) -> None:
    with pytest.raises(KeyError) as caught:
        Failing.perform_async(1)

    assert caught.value.__notes__[0].startswith("in the job Failing(1) on default")


def test_the_lock_of_a_job_that_failed_at_push_is_freed(at_once: Inline) -> None:
    class Breaks(Job, unique_for=60):
        def perform(self) -> None:
            raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            Breaks.perform_async()


def test_jobs_of_a_bulk_behind_one_that_failed_are_forgotten_with_their_locks(
    at_once: Inline,
) -> None:
    class Breaks(Job, unique_for=60):
        def perform(self, number: int) -> None:
            if number == 1:
                raise LookupError
            done.append(number)

    with pytest.raises(LookupError):
        Breaks.perform_bulk([(1,), (2,)])
    assert done == []

    assert isinstance(Breaks.perform_async(2), Enqueued)
    assert done == [2]


def test_the_lock_of_a_job_is_freed_when_it_ends(at_once: Inline) -> None:
    assert isinstance(Once.perform_async(1), Enqueued)
    assert isinstance(Once.perform_async(1), Enqueued)
    assert done == [1, 1]


def test_a_job_that_pushes_its_own_key_runs_once_more(at_once: Inline) -> None:
    class Again(Job, unique_for=60):
        def perform(self, number: int) -> None:
            done.append(number)
            if len(done) == 1:
                Again.perform_async(number)

    Again.perform_async(5)

    assert done == [5, 5]


def test_both_chains_of_middleware_are_passed_at_push(at_once: Inline) -> None:
    seen: list[str] = []

    def client_side(each: Payload, call_next: Next[ClientResult]) -> ClientResult:
        if each.args == ["no"]:
            return Refused("test", "no")
        seen.append("client")
        return call_next(each)

    def server_side(each: Payload, call_next: Next[None]) -> None:
        seen.append("server")
        call_next(each)

    configure(client_middleware=[client_side], server_middleware=[server_side])
    assert Mail.perform_async("yes")
    assert not Mail.perform_async("no")

    assert seen == ["client", "server"]
    assert done == ["yes"]


def test_jobs_that_end_by_their_own_word_are_listed_as_dropped(at_once: Inline) -> None:
    Saying.word = Discard("not wanted")
    Saying.perform_async("returned")
    Saying.word = RequeueAfter(60)
    Saying.perform_async("raised")

    assert [each.reason for each in at_once.dropped] == [
        "discarded: not wanted",
        "asked to run again in 60 s",
    ]
    assert at_once.jobs == []


def test_an_expired_job_is_not_performed_at_push(at_once: Inline) -> None:
    def late(each: Payload, call_next: Next[ClientResult]) -> ClientResult:
        return call_next(each.replace(expiry=1.0))

    configure(client_middleware=[late])
    Mail.perform_async("a@example.org")

    assert done == []
    assert at_once.dropped[0].reason == "expired"


def test_jobs_inside_jobs_without_an_end_are_stopped(at_once: Inline) -> None:
    class Endless(Job):
        def perform(self) -> None:
            Endless.perform_async()

    with pytest.raises(Unending, match=r"50 jobs deep.*use fake\(\)"):
        Endless.perform_async()


def test_nothing_is_left_to_drain(at_once: Inline) -> None:
    Mail.perform_async("a@example.org")

    assert at_once.drain() == 0


def test_async_jobs_run_at_push_from_plain_code_and_from_a_loop(at_once: Inline) -> None:
    Greet.perform_async("plain")

    async def main() -> None:
        await Greet.aio.perform_async("awaited")
        with warnings.catch_warnings(action="ignore"):
            Greet.perform_async("blocking")

    asyncio.run(main())

    assert done == ["hello plain", "hello awaited", "hello blocking"]


def test_awaited_pushes_inside_each_other_do_not_wait_for_a_free_thread(at_once: Inline) -> None:
    @job
    async def nest(depth: int) -> None:
        done.append(depth)
        if depth < 12:
            await nest.aio.perform_async(depth + 1)

    asyncio.run(asyncio.wait_for(_await(nest.aio.perform_async(0)), 30))

    assert done == list(range(13))


async def _await(work: Any) -> Any:
    return await work


def test_the_threads_of_awaited_calls_are_as_before_after_the_mode() -> None:
    before = aio._pool
    with inline():
        asyncio.run(_await(Mail.aio.perform_async("a@example.org")))

    assert aio._pool is before


def test_a_job_runs_in_the_thread_that_pushes(at_once: Inline) -> None:
    @job
    def where() -> None:
        done.append(threading.get_ident())

    where.perform_async()

    assert done == [threading.get_ident()]
