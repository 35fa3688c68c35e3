from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

from qik_core import (
    job,
)
from qik_core.testing import Fake, fake
from tests.qik_core.testing.jobs_of_apps import (
    Greet,
    Mail,
    done,
    mails,
)

# --- asyncio ---------------------------------------------------------------------------------------


def test_async_jobs_run_on_one_loop_for_the_whole_mode(jobs: Fake) -> None:
    loops: list[Any] = []

    @job
    async def jot() -> None:
        loops.append((asyncio.get_running_loop(), threading.get_ident()))
        await asyncio.sleep(0)

    jot.perform_async()
    jot.perform_async()
    jobs.drain()

    assert loops == [loops[0]] * 2
    assert loops[0][1] == threading.get_ident()


def test_draining_inside_a_running_loop_works(jobs: Fake) -> None:
    async def main() -> int:
        await Greet.aio.perform_async("a")
        return jobs.drain()

    assert asyncio.run(main()) == 1
    assert done == ["hello a"]


def test_the_awaited_drain_performs_async_jobs_on_the_callers_loop(jobs: Fake) -> None:
    loops: list[Any] = []

    @job
    async def jot() -> None:
        loops.append(asyncio.get_running_loop())

    async def main() -> Any:
        await jot.aio.perform_async()
        await Mail.aio.perform_async("a@example.org")
        await Mail.aio.perform_async("b@example.org")
        assert (await jobs.aio.perform_one(Mail)).args == ("a@example.org",)
        assert await jobs.aio.drain() == 2
        return asyncio.get_running_loop()

    assert loops == [asyncio.run(main())]
    assert mails(done) == ["a@example.org", "b@example.org"]


def test_what_an_async_job_leaves_running_is_cancelled_at_the_end() -> None:
    left: list[asyncio.Task[None]] = []

    @job
    async def leaves() -> None:
        left.append(asyncio.create_task(asyncio.sleep(3600)))

    with fake() as jobs:
        leaves.perform_async()
        jobs.drain()
        assert not left[0].done()

    assert left[0].cancelled()


def test_context_variables_of_the_test_are_seen_by_an_async_job(jobs: Fake) -> None:
    tenant = contextvars.ContextVar("tenant", default="nobody")

    @job
    async def who() -> None:
        done.append(tenant.get())

    tenant.set("t1")
    who.perform_async()
    jobs.drain()

    assert done == ["t1"]
