from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from qik_core import Job, hooks, settings
from qik_core.embedded import Embedded
from qik_core.embedding import EmbeddedWorker
from qik_core.errors import HookFailed, WorkerRunning
from qik_core.hooks import Event
from qik_core.settings import Settings
from qik_core.store import Store
from tests.waiting import eventually, never

seen: list[int] = []
gate = threading.Event()


class EmbeddedNote(Job):
    def perform(self, n: int) -> None:
        seen.append(n)


class EmbeddedWait(Job):
    def perform(self, n: int) -> None:
        seen.append(n)
        gate.wait(30)
        seen.append(-n)


class EmbeddedLater(Job):
    async def perform(self, n: int) -> None:
        seen.append(n)


Make = Callable[..., EmbeddedWorker]


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """Makes embedded workers at a tenth of the usual times, and ends them with the test."""
    seen.clear()
    gate.clear()
    Store(redis_url, birth_ms=0).look()  # no hold at the start of a new epoch
    used = Settings(redis=redis_url, heartbeat=0.5, lease=3.0, shutdown=2.0, poll=0.1)
    settings.use(used)
    made: list[EmbeddedWorker] = []

    def make(**options: Any) -> EmbeddedWorker:
        made.append(EmbeddedWorker(used, **options))
        return made[-1]

    yield make
    gate.set()
    for one in made:
        one.stop()
    eventually(lambda: not any(one.is_running for one in made))
    hooks.clear()
    settings.use(None)


def ran(at_least: int) -> bool:
    return len(seen) >= at_least


def threads() -> set[str]:
    return {each.name for each in threading.enumerate()}


def test_it_runs_jobs_inside_this_process_until_it_is_stopped(make: Make) -> None:
    worker = make()
    with worker:
        EmbeddedNote.perform_async(1)
        EmbeddedLater.perform_async(2)
        eventually(lambda: sorted(seen) == [1, 2])
        running = worker.is_running

    assert (running, worker.is_running) == (True, False)
    EmbeddedNote.perform_async(3)
    never(lambda: 3 in seen, 0.5)


def test_it_has_two_job_threads_unless_more_are_asked_for(make: Make, raw: Any) -> None:
    for wanted, worker in ((2, make()), (4, make(concurrency=4))):
        seen.clear()
        with worker:
            EmbeddedWait.perform_bulk([(n,) for n in range(1, 7)])
            eventually(partial(ran, wanted))
            never(partial(ran, wanted + 1), 0.2)
            gate.set()
            eventually(lambda: len(seen) == 12)
            gate.clear()


def test_a_second_one_in_the_same_process_is_refused_and_one_after_it_is_not(make: Make) -> None:
    first = make()
    first.start()
    with pytest.raises(WorkerRunning, match="stop it first"):
        make().start()
    with pytest.raises(WorkerRunning):
        first.start()
    assert first.stop()

    with make():
        EmbeddedNote.perform_async(1)
        eventually(lambda: seen == [1])


def test_nothing_of_it_is_left_when_it_has_stopped(make: Make, raw: Any) -> None:
    before, connections = threads(), len(raw.client_list())
    with make():
        EmbeddedLater.perform_async(1)
        eventually(lambda: seen == [1])
        eventually(lambda: raw.scard("processes") == 1)

    eventually(lambda: threads() <= before | {"deadlines"})
    eventually(lambda: len(raw.client_list()) <= connections + 1)  # the client that pushed
    assert raw.scard("processes") == 0
    assert not list(raw.scan_iter("qik:working:*"))


def test_sidekiqs_pages_show_it_as_embedded_and_cannot_stop_it(make: Make, raw: Any) -> None:
    with make():
        (identity,) = eventually(lambda: raw.smembers("processes"))
        info = json.loads(raw.hget(identity, "info"))
        assert info["embedded"] is True
        assert (info["pid"], info["concurrency"]) == (os.getpid(), 2)
        raw.lpush(identity + b"-signals", "TSTP", "TERM")
        eventually(lambda: not raw.exists(identity + b"-signals"), 3)

        EmbeddedNote.perform_async(1)
        eventually(lambda: seen == [1])
        assert raw.hget(identity, "quiet") == b"false"


def test_a_quiet_one_ends_what_it_has_and_fetches_no_more(make: Make) -> None:
    with make() as worker:
        EmbeddedWait.perform_async(1)
        eventually(lambda: seen == [1])
        worker.quiet()
        EmbeddedNote.perform_async(2)
        gate.set()
        eventually(lambda: seen == [1, -1])
        never(lambda: 2 in seen, 0.5)


def test_a_job_that_outlives_the_stop_is_settled_when_it_ends(make: Make, raw: Any) -> None:
    worker = make()
    worker.start()
    EmbeddedWait.perform_async(1)
    eventually(lambda: seen == [1])
    assert not worker.stop(timeout=0.1)
    assert worker.is_running
    never(lambda: raw.llen("queue:default"), 0.7)  # it must not run elsewhere while it runs here
    assert raw.scard("processes") == 1

    gate.set()
    eventually(lambda: not worker.is_running)
    assert seen == [1, -1]
    assert raw.get("stat:processed") == b"1"
    assert not list(raw.scan_iter("qik:working:*"))


def test_it_starts_without_redis_and_works_when_redis_comes(make: Make, redis_server: Any) -> None:
    redis_server.kill()
    worker = make()
    worker.start()
    assert worker.is_running
    redis_server.start()

    Store(redis_server.url, birth_ms=0).look()
    EmbeddedNote.perform_async(1)
    eventually(lambda: seen == [1])


def test_it_stops_within_its_deadlines_while_redis_is_gone(make: Make, redis_server: Any) -> None:
    worker = make()
    redis_server.kill()
    worker.start()

    assert worker.stop(timeout=0.5)
    assert not worker.is_running


def test_it_ends_when_redis_comes_and_would_lose_jobs(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with Embedded(config={"maxmemory-policy": "allkeys-lru"}) as server:
        server.kill()
        worker = EmbeddedWorker(replace(settings.current(), redis=server.url))
        worker.start()
        assert worker.is_running
        server.start()

        eventually(lambda: not worker.is_running)
        assert worker.stop()
    assert "maxmemory-policy is allkeys-lru" in caplog.text


def test_a_startup_function_that_raises_keeps_it_from_starting(make: Make) -> None:
    @hooks.on(Event.STARTUP)
    def fail() -> None:
        raise ValueError("no database")

    worker = make()
    with pytest.raises(HookFailed, match="startup raised ValueError: no database"):
        worker.start()
    assert not worker.is_running
    hooks.clear()
    with worker:
        EmbeddedNote.perform_async(1)
        eventually(lambda: seen == [1])


def test_a_forked_process_has_none_and_may_start_its_own(make: Make) -> None:
    with make() as worker:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                idle = not worker.is_running and worker.stop()
                EmbeddedNote.perform_async(7)
                os.write(writer, b"idle" if idle else b"runs")
            finally:
                os._exit(0)
        os.waitpid(child, 0)

        assert os.read(reader, 10) == b"idle"
        eventually(lambda: seen == [7])  # here: the fork has taken nothing away
    for each in (reader, writer):
        os.close(each)


def test_a_copy_in_a_forked_process_runs_jobs_there(make: Make, raw: Any) -> None:
    worker = make()
    with worker:
        pass
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with worker:
                EmbeddedNote.perform_async(7)
                eventually(lambda: seen == [7])
            code = 0
        finally:
            os._exit(code)

    assert os.waitpid(child, 0)[1] == 0
    assert raw.llen("queue:default") == 0
