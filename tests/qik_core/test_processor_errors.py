from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qik_core import Job
from qik_core.deadlines import Deadlines
from qik_core.definition import Definition
from qik_core.loop import LoopThread
from qik_core.payload import Payload
from qik_core.processor import Processor
from qik_core.store.exchange import Done, Fetched, Kind, Other
from tests.qik_core.acting import (
    LOCK,
    NOW,
    fetched,
    gone,
    job_that,
    other,
    own_names,
    process,
    raising,
    started,
)

__all__ = ["own_names"]

pytestmark = pytest.mark.usefixtures("own_names")


class Own(BaseException):
    pass


class Unprintable(Exception):
    def __init__(self, second: BaseException) -> None:
        self.second = second

    def __str__(self) -> str:
        raise self.second

    __repr__ = __str__


ANYTHING = [
    ValueError("x"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    Own("x"),
    StopAsyncIteration(),
    RecursionError(),
    MemoryError(),
    Unprintable(ValueError("y")),
    Unprintable(SystemExit(1)),
    Unprintable(RecursionError()),
    ExceptionGroup("several", [ValueError("x"), Unprintable(KeyError())]),
    ValueError("\ud800 \x00 \x1b[31m"),
]
NAMES = [f"{type(error).__name__}-{number}" for number, error in enumerate(ANYTHING)]


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    """A loop that ends with the test."""
    started: list[threading.Thread] = []

    def start(run: Callable[[], None]) -> None:
        started.append(threading.Thread(target=run, daemon=True))
        started[0].start()

    thread = LoopThread(start)
    yield thread
    if thread._loop is not None:
        thread._loop.call_soon_threadsafe(thread._loop.stop)
        started[0].join()
        thread._loop.close()


@pytest.mark.parametrize("error", [*ANYTHING, StopIteration(4)], ids=[*NAMES, "StopIteration"])
def test_whatever_a_job_raises_is_its_failure_by_name(error: BaseException) -> None:
    job_that(raising(error))
    after = other(process(fetched(backtrace=True)), Kind.RETRY)

    assert after["error_class"].rpartition(".")[2] == type(error).__name__
    assert after["error_backtrace"]


@pytest.mark.parametrize("error", ANYTHING, ids=NAMES)
def test_whatever_an_async_job_raises_is_its_failure_and_the_loop_lives(
    error: BaseException, loop: LoopThread
) -> None:
    class Acts(Job):
        async def perform(self, n: int) -> None:
            if n == 7:
                await asyncio.sleep(0)
                raise error

    after = other(process(fetched(), wait=loop.wait), Kind.RETRY)

    assert after["error_class"].rpartition(".")[2] == type(error).__name__
    assert process(fetched(args=[8]), wait=loop.wait) == Done(fetched(args=[8]))


def test_an_async_job_that_is_cancelled_at_its_checkpoint_is_not_failed(loop: LoopThread) -> None:
    class Acts(Job):
        async def perform(self, n: int) -> None:
            self.context.cancel()
            self.context.checkpoint()

    gone(process(fetched(), wait=loop.wait), "cancelled")


def test_async_jobs_of_many_threads_share_one_loop(loop: LoopThread) -> None:
    seen: list[tuple[int, asyncio.AbstractEventLoop]] = []
    all_here = asyncio.Event()

    class Acts(Job):
        async def perform(self, n: int) -> None:
            seen.append((n, asyncio.get_running_loop()))
            if len(seen) == 4:
                all_here.set()
            await all_here.wait()

    threads = [
        threading.Thread(target=process, args=(fetched(args=[n]),), kwargs={"wait": loop.wait})
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(n for n, _ in seen) == [0, 1, 2, 3]
    assert len({running for _, running in seen}) == 1


def test_a_job_that_cannot_be_made_has_failed() -> None:
    class Acts(Job):
        def __init__(self) -> None:
            raise SystemExit(9)

        def perform(self, n: int) -> None: ...

    assert other(process(fetched()), Kind.RETRY)["error_class"] == "SystemExit"


def test_a_payload_that_can_just_be_read_but_not_written_again_is_set_aside_whole() -> None:
    class Acts(Job):
        def perform(self, value: Any) -> None:
            raise ValueError

    aside = 0
    for deep in range(100, 1000, 2):
        raw = b'{"class":"Acts","args":[' + b"[" * deep + b"]" * deep + b"]}"
        outcome = process(Fetched(b"1.1", raw, "low"))
        assert isinstance(outcome, Other)
        if outcome.kind is Kind.DEAD:
            aside += 1
            assert base64.b64decode(Payload.decode(outcome.payload)["raw"]) == raw
    assert aside


def test_a_defect_of_the_engine_costs_a_job_its_run_but_neither_thread_nor_lock() -> None:
    def broken(name: str) -> Definition | None:
        raise OSError("the registry is gone")

    processor = Processor(
        find=broken,
        wait=lambda *_: None,
        now=lambda: NOW,
        dice=lambda: 0.0,
        deadlines=Deadlines(started, lambda _: None),
    )
    outcome = processor.process(fetched(qik=LOCK), lambda _: None)

    assert "the registry is gone" in other(outcome, Kind.DEAD)["error_message"]
    assert isinstance(outcome, Other)
    assert (str(outcome.unique), outcome.jid) == (LOCK, "j1")
