from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from qik_core import Job, commits, hooks, settings
from qik_core.commits import State
from qik_core.errors import NotEnqueued
from qik_core.middleware import ClientResult, Next
from qik_core.payload import Payload
from qik_core.results import Enqueued
from qik_core.settings import Settings
from reconciler import Reconciler, after_commit, derive
from tests.faultproxy import FaultProxy, is_script
from tests.qik_core.jobs_of_tests import stored
from tests.reconciler.committing import Sync, new, rows, told
from tests.reconciler.shop import Base, Item
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("default_client")


# --- after the commit ----------------------------------------------------------------------------


def test_the_connection_is_back_in_its_pool_before_anything_is_pushed(
    postgres_url: str, raw: redis.Redis
) -> None:
    engine = create_engine(postgres_url, pool_size=1, max_overflow=0, pool_timeout=1)
    Base.metadata.create_all(engine)
    free: list[list[int]] = []

    def looks(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        free.append(rows(engine))
        return call_next(job)

    settings.configure(client_middleware=[looks])
    with Session(engine) as session:
        new(session, 1)
        session.commit()
    engine.dispose()

    assert (free, told(raw)) == ([[1]], [1])


current_tenant: ContextVar[str] = ContextVar("current_tenant")


def test_a_middleware_sees_what_the_call_saw(session: Session, raw: redis.Redis) -> None:
    def tenant(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        return call_next(job.replace(tenant=current_tenant.get()))

    settings.configure(client_middleware=[tenant])
    token = current_tenant.set("acme")
    Sync.after_commit(session).perform_async(7)
    current_tenant.reset(token)
    session.commit()

    assert stored(raw, "queue:work")[0]["tenant"] == "acme"


def test_an_error_in_one_push_loses_no_other_and_does_not_come_out_of_the_commit(
    session: Session, engine: Engine, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, Any]] = []
    hooks.on_error(lambda error, context: seen.append((str(error), context["jid"])))

    def fails(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        if job.args == [2]:
            raise LookupError("no tenant")
        return call_next(job)

    settings.configure(client_middleware=[fails])
    for number in (1, 2, 3):
        new(session, number)
    failed = session.info["qik.after_commit"].held[session.get_transaction()][1]
    session.commit()

    assert told(raw) == [1, 3]
    assert rows(engine) == [1, 2, 3]
    assert failed.state is State.FAILED
    with pytest.raises(NotEnqueued, match="fails raised LookupError"):
        failed.result()
    assert [jid for _, jid in seen] == [failed.jid]
    eventually(lambda: raw.hget("qik:counts", "edge_lost") == b"1")
    [record] = [each for each in caplog.records if "after a commit" in each.message]
    assert (record.levelno, record.__dict__["jid"]) == (logging.ERROR, failed.jid)


def test_a_lost_edge_of_a_reconciled_class_is_a_warning_since_a_pass_will_tell_it(
    session: Session, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    class Kept(Job, queue="work", unique_for=60):
        def perform(self, item_id: int) -> None: ...

    class Items(Reconciler, every=60):
        pending = derive(Kept, select(Item.id))

    def fails(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        raise LookupError

    settings.configure(client_middleware=[fails])
    Kept.after_commit(session).perform_bulk([(1,), (2,)])
    session.commit()

    [record] = [each for each in caplog.records if "after a commit" in each.message]
    assert (record.levelno, record.message) == (
        logging.WARNING,
        "the push after a commit failed: a pass will tell it",
    )
    eventually(lambda: raw.hget("qik:counts", "edge_lost") == b"2")


def test_a_refusal_is_an_answer(session: Session, raw: redis.Redis) -> None:
    def refuses(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        from qik_core.results import Refused

        return Refused("quota", "too many")

    settings.configure(client_middleware=[refuses])
    deferred = Sync.after_commit(session).perform_async(7)
    session.commit()

    assert not deferred.result()


def test_without_redis_a_commit_ends_in_time_and_what_is_left_is_tried_in_the_background(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("qik_core.store.store", "qik_core.commits"):
        monkeypatch.setattr(f"{module}.PATIENCE", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.use(Settings(redis=f"redis://127.0.0.1:{unused.getsockname()[1]}/0"))
        session.add(Item(id=1, state="pending", rank=0, version=1))
        pushes = [Sync.after_commit(session).perform_async(number) for number in range(6)]
        began = time.monotonic()
        session.commit()
        seconds = time.monotonic() - began

        assert rows(engine) == [1]
        assert (
            seconds < 7
        )  # one push of 3 s, and at most one more that was begun before they were over
        for push in pushes:
            with pytest.raises(NotEnqueued, match="Nothing was written"):
                push.result(timeout=10)


def test_a_lost_reply_doubles_nothing(
    session: Session, redis_url: str, raw: redis.Redis, tmp_path: Any
) -> None:
    proxy = FaultProxy(redis_url, tmp_path)
    settings.use(Settings(redis=proxy.url))
    Sync.perform_async(0)  # the server knows the script from here on
    rule = proxy.lose(is_script("push"))
    deferred = Sync.after_commit(session).perform_async(1)
    session.commit()
    proxy.close()

    assert rule.hits == 1
    assert deferred.result() == Enqueued(deferred.jid)
    assert told(raw) == [0, 1]


def test_sessions_end_with_their_last_reference(engine: Engine) -> None:
    def use() -> None:
        with Session(engine) as session:
            Sync.after_commit(session).perform_async(7)
            session.commit()

    for _ in range(20):
        use()
    gc.collect()

    assert not [each for each in gc.get_objects() if isinstance(each, after_commit.Waiting)]


# --- a fixture that rolls back -------------------------------------------------------------------


def test_a_session_on_a_connection_that_a_test_rolls_back_tells_at_its_own_commit(
    engine: Engine, raw: redis.Redis
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            new(session, 1)
            session.rollback()
            new(session, 2)
            session.commit()
            assert told(raw) == [2]
        outer.rollback()

    assert rows(engine) == []


def test_flush_tells_what_waits_without_a_commit(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    new(session, 1)
    session.begin_nested()
    new(session, 2)

    flushed = commits.flush(session)
    assert told(raw) == [1, 2]
    assert [each.state for each in flushed] == [State.ANSWERED] * 2
    assert commits.flush(session) == []
    session.rollback()

    assert told(raw) == [1, 2]
    assert rows(engine) == []


# --- asyncio -------------------------------------------------------------------------------------


@asynccontextmanager
async def asynchronous(url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        yield async_sessionmaker(engine)
    finally:
        await engine.dispose()


def test_an_async_session_tells_after_its_commit_and_awaits_the_answer(
    postgres_url: str, raw: redis.Redis
) -> None:
    async def main() -> None:
        async with asynchronous(postgres_url) as make, make() as session:
            session.add(Item(id=1, state="pending", rank=0, version=1))
            deferred = Sync.after_commit(session).perform_async(1)
            await session.commit()
            assert deferred.state is State.ANSWERED
            assert told(raw) == [1]
            Sync.after_commit(session).perform_async(2)
            await session.rollback()
            async with session.begin():
                with suppress(LookupError):
                    async with session.begin_nested():
                        Sync.after_commit(session).perform_async(3)
                        raise LookupError
                Sync.after_commit(session).perform_async(4)

    asyncio.run(main())

    assert told(raw) == [1, 4]


def test_an_async_scoped_session_is_the_session_of_its_task(
    postgres_url: str, raw: redis.Redis
) -> None:
    async def request(scoped: async_scoped_session[AsyncSession], number: int) -> None:
        Sync.after_commit(scoped).perform_async(number)
        await (scoped.rollback() if number == 2 else scoped.commit())
        await scoped.remove()

    async def main() -> None:
        async with asynchronous(postgres_url) as make:
            scoped = async_scoped_session(make, scopefunc=asyncio.current_task)
            await asyncio.gather(*(request(scoped, number) for number in (1, 2, 3)))

    asyncio.run(main())

    assert sorted(told(raw)) == [1, 3]


class Gate:
    """A client middleware that lets nothing through until it is opened."""

    def __init__(self) -> None:
        self.met = threading.Event()
        self.open = threading.Event()

    def __call__(self, job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        self.met.set()
        assert self.open.wait(10)
        return call_next(job)


def test_an_async_commit_leaves_the_loop_free_and_its_push_outlives_its_cancelling(
    postgres_url: str, raw: redis.Redis
) -> None:
    gate = Gate()
    settings.configure(client_middleware=[gate])

    async def main() -> None:
        async with asynchronous(postgres_url) as make, make() as session:
            session.add(Item(id=1, state="pending", rank=0, version=1))
            deferred = Sync.after_commit(session).perform_async(1)
            commit = asyncio.create_task(session.commit())
            await asyncio.to_thread(gate.met.wait, 10)  # the loop turns while the push waits
            commit.cancel()
            with pytest.raises(asyncio.CancelledError):
                await commit
            gate.open.set()
            assert await asyncio.to_thread(deferred.result, 10)
            session.add(Item(id=2, state="pending", rank=0, version=1))
            Sync.after_commit(session).perform_async(2)
            await session.commit()

    asyncio.run(main())

    assert told(raw) == [1, 2]
    engine = create_engine(postgres_url)
    assert rows(engine) == [1, 2]
    engine.dispose()


def test_a_plain_session_where_a_loop_runs_does_not_block_it_either(
    session: Session, raw: redis.Redis
) -> None:
    gate = Gate()
    settings.configure(client_middleware=[gate])

    async def main() -> None:
        deferred = Sync.after_commit(session).perform_async(1)
        session.commit()
        assert deferred.state is State.COMMITTED
        gate.open.set()
        assert await asyncio.to_thread(deferred.result, 10)

    asyncio.run(main())

    assert told(raw) == [1]
