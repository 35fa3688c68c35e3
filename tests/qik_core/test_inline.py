from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from qik_core import Job, current_context, job, registry, settings
from qik_core.errors import ArgumentError, DefinitionError, NotEnqueued, QikError
from qik_core.middleware import ClientResult, Next
from qik_core.payload import Payload
from qik_core.results import Refused
from qik_core.settings import Settings
from tests.waiting import eventually

NOWHERE = "redis://127.0.0.1:1/0"  # a run inline must never ask for it
UID = UUID(int=7)


@pytest.fixture(autouse=True)
def _without_redis() -> Iterator[None]:
    settings.use(Settings(redis=NOWHERE))
    with registry.scope():
        yield
    settings.use(None)


def adding() -> type[Any]:
    class Adds(Job, unique_for=60, queue="sums"):
        def perform(self, a: int, b: int = 1) -> str:
            return f"{self.context.jid} {self.context.queue} {self.context.attempt}: {a + b}"

    return Adds


def test_inline_runs_perform_here_and_returns_what_it_returns() -> None:
    assert adding().set(jid="x", queue="high").perform_inline(1, b=2) == "x high 1: 3"
    assert adding().perform_inline(1).endswith(" sums 1: 2")


def test_inline_takes_no_lock_so_that_twice_is_twice() -> None:
    runs: list[int] = []

    class OnceInline(Job, unique_for=60):
        def perform(self, number: int) -> None:
            runs.append(number)

    OnceInline.perform_inline(7)
    OnceInline.perform_inline(7)

    assert runs == [7, 7]


def test_arguments_make_their_journey_through_json() -> None:
    got: list[Any] = []

    class Travels(Job):
        def perform(self, uid: UUID, amount: Decimal, lines: list[str]) -> None:
            got.extend((uid, amount, lines))
            lines.append("changed")

    lines = ["a"]
    Travels.perform_inline(UID, Decimal("1.50"), lines)

    assert got[:2] == [UID, Decimal("1.5")]
    assert lines == ["a"]
    with pytest.raises(
        ArgumentError, match=r"^Travels: args\[0\] \(uid\) is a str, UUID is wanted"
    ):
        Travels.perform_inline("7", Decimal(1), [])  # type: ignore[arg-type]


def test_what_perform_raises_is_raised() -> None:
    class Fails(Job):
        def perform(self) -> None:
            raise LookupError("no row")

    with pytest.raises(LookupError, match="no row"):
        Fails.perform_inline()


def test_both_chains_stand_around_the_run() -> None:
    seen: list[str] = []

    def client(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        seen.append("client")
        return call_next(job.replace(args=[job.args[0] * 2, 0], tenant="acme"))

    def server(job: Payload, call_next: Next[None]) -> None:
        seen.append(f"server {job['tenant']} {job.args}")
        call_next(job)
        seen.append("after")

    settings.configure(client_middleware=[client], server_middleware=[server])

    assert adding().perform_inline(3).endswith(": 6")
    assert seen == ["client", "server acme [6, 0]", "after"]


def test_a_server_middleware_that_changes_the_job_in_place_does_not_change_the_run() -> None:
    class Shows(Job):
        def perform(self, numbers: list[int]) -> object:
            return numbers, self.context.payload.args

    def spoils(job: Payload, call_next: Next[None]) -> None:
        job.args[0].clear()
        call_next(job)

    settings.configure(server_middleware=[spoils])

    assert Shows.perform_inline([3]) == ([3], [[3]])


def test_a_refusal_is_an_error_that_names_who_refused() -> None:
    settings.configure(client_middleware=[lambda job, call_next: Refused("quota", "too many")])

    with pytest.raises(NotEnqueued, match="Adds did not run: quota refused it: too many"):
        adding().perform_inline(3)


def test_a_skipped_job_is_none(caplog: pytest.LogCaptureFixture) -> None:
    settings.configure(server_middleware=[lambda job, call_next: None])

    assert adding().perform_inline(3) is None
    assert [each.message for each in caplog.records] == ["job skipped"]


@pytest.mark.parametrize("given", [{"wait": 60}, {"wait_until": 4_000_000_000}, {"jitter": 1}])
def test_a_run_now_has_no_time(given: Any) -> None:
    with pytest.raises(ArgumentError, match="perform_inline runs the job now: leave out wait"):
        adding().set(**given).perform_inline(3)


def test_a_function_runs_inline_with_its_context() -> None:
    @job(queue="mail")
    def letter(address: str) -> str:
        return f"{address} {current_context().queue}"

    assert letter.perform_inline("a@b") == "a@b mail"


tenant: ContextVar[str] = ContextVar("tenant", default="none")


def async_job() -> type[Any]:
    class Later(Job):
        async def perform(self, number: int) -> tuple[int, str, int]:
            await asyncio.sleep(0)
            return number, tenant.get(), threading.get_ident()

    return Later


def test_an_async_job_runs_inline_from_plain_code() -> None:
    assert async_job().perform_inline(7) == (7, "none", threading.get_ident())


def test_an_async_job_where_a_loop_runs_is_to_be_awaited() -> None:
    async def main() -> None:
        with pytest.raises(QikError, match=r"await Later\.aio\.perform_inline"):
            async_job().perform_inline(7)

    asyncio.run(main())


def test_awaited_an_async_perform_runs_on_the_callers_loop_and_middleware_beside_it() -> None:
    threads: list[int] = []

    def server(job: Payload, call_next: Next[None]) -> None:
        threads.append(threading.get_ident())
        tenant.set(tenant.get() + "!")
        call_next(job)

    settings.configure(server_middleware=[server])

    async def main() -> Any:
        tenant.set("acme")
        return await async_job().aio.perform_inline(7)

    assert asyncio.run(main()) == (7, "acme!", threading.get_ident())
    assert threads != [threading.get_ident()]


def test_awaited_a_plain_perform_runs_beside_the_loop_which_turns_meanwhile() -> None:
    class Blocks(Job):
        def perform(self) -> int:
            assert turned.wait(10)
            return threading.get_ident()

    turned = threading.Event()

    async def main() -> int:
        run = asyncio.create_task(Blocks.aio.perform_inline())
        await asyncio.sleep(0)
        turned.set()
        return await run

    assert asyncio.run(main()) != threading.get_ident()


def test_awaited_what_a_job_raises_is_raised_and_a_second_one_may_run_inside_the_first() -> None:
    class Inner(Job):
        async def perform(self) -> None:
            raise LookupError("no row")

    class Outer(Job):
        async def perform(self) -> None:
            await Inner.aio.perform_inline()

    with pytest.raises(LookupError, match="no row"):
        asyncio.run(Outer.aio.perform_inline())


def test_cancelling_the_call_cancels_an_async_perform() -> None:
    ends: list[str] = []

    class Waits(Job):
        async def perform(self) -> None:
            started.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

    started = threading.Event()

    async def main() -> None:
        run = asyncio.create_task(Waits.aio.perform_inline())
        await asyncio.to_thread(started.wait, 10)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await asyncio.to_thread(eventually, lambda: ends)

    asyncio.run(main())

    assert ends == ["cancelled"]


def test_a_call_that_is_cancelled_inside_the_middleware_starts_no_perform() -> None:
    ran: list[str] = []
    inside, go_on, left = threading.Event(), threading.Event(), threading.Event()

    class Waits(Job):
        async def perform(self) -> None:
            ran.append("perform")

    def holds(job: Payload, call_next: Next[None]) -> None:
        inside.set()
        go_on.wait(10)
        try:
            call_next(job)
        finally:
            left.set()

    async def main() -> None:
        run = asyncio.create_task(Waits.aio.perform_inline())
        await asyncio.to_thread(inside.wait, 10)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        go_on.set()
        await asyncio.to_thread(left.wait, 10)

    settings.configure(server_middleware=[holds])
    asyncio.run(main())

    assert left.is_set()
    assert ran == []


def test_a_middleware_whose_body_cannot_run_fails_the_run() -> None:
    async def asynchronous(job: Payload, call_next: Next[None]) -> None:
        call_next(job)

    with pytest.raises(QikError, match="is async or yields"):
        settings.configure(server_middleware=[asynchronous])  # type: ignore[list-item]
    settings.configure(server_middleware=[partial(asynchronous)])  # type: ignore[list-item]
    with pytest.raises(DefinitionError, match="is async or yields"):
        adding().perform_inline(3)
