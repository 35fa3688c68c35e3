from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from qik_core import Job, client, commits, hooks, settings
from qik_core.commits import State
from qik_core.errors import ArgumentError, NotEnqueued, QikError
from qik_core.middleware import ClientResult, Next
from qik_core.payload import Payload
from qik_core.results import Code, Duplicate, Enqueued
from qik_core.settings import Settings
from reconciler import Reconciler, after_commit, derive
from tests.faultproxy import FaultProxy, is_script
from tests.qik_core.jobs_of_tests import scheduled, stored
from tests.reconciler.shop import Base, Item
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _default_client(redis_url: str) -> Iterator[None]:
    settings.use(Settings(redis=redis_url))
    yield
    client.current().store.close()
    settings.use(None)
    hooks.clear()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = create_engine(database_url)
    if made.dialect.name == "sqlite":  # its driver begins no transaction before a savepoint
        event.listen(made, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


class Sync(Job, queue="work"):
    def perform(self, item_id: int) -> None: ...


def new(session: Session, number: int) -> None:
    """Insert a row and push its job after the commit: the two must share their fate."""
    session.add(Item(id=number, state="pending", rank=0, version=1))
    session.flush()
    Sync.after_commit(session).perform_async(number)


def told(raw: redis.Redis) -> list[Any]:
    """The arguments of the jobs, in the order of their pushes."""
    return [each["args"][0] for each in reversed(stored(raw, "queue:work"))]


def rows(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(select(Item.id).order_by(Item.id)))


# --- one transaction -----------------------------------------------------------------------------


def test_a_push_waits_for_the_commit_and_its_jid_is_known_before(
    session: Session, raw: redis.Redis
) -> None:
    session.add(Item(id=7, state="pending", rank=0, version=1))
    session.flush()
    deferred = Sync.after_commit(session).perform_async(7)

    assert (told(raw), deferred.state) == ([], State.WAITING)
    with pytest.raises(QikError, match=rf"Sync {deferred.jid} waits for its transaction: commit"):
        deferred.result()
    session.commit()

    assert deferred.result() == Enqueued(deferred.jid)
    assert deferred.state is State.ANSWERED
    assert [each["jid"] for each in stored(raw, "queue:work")] == [deferred.jid]


def test_a_rollback_drops_the_push_and_says_so(session: Session, raw: redis.Redis) -> None:
    deferred = Sync.after_commit(session).perform_async(7)
    session.rollback()
    session.commit()

    assert (told(raw), deferred.state) == ([], State.DROPPED)
    with pytest.raises(NotEnqueued, match="its transaction was rolled back"):
        deferred.result()


def test_a_push_may_come_before_the_first_statement(engine: Engine, raw: redis.Redis) -> None:
    with Session(engine) as session:
        Sync.after_commit(session).perform_async(1)
        session.add(Item(id=1, state="pending", rank=0, version=1))
        session.commit()
        Sync.after_commit(session).perform_async(2)
        session.rollback()
        session.commit()

    assert told(raw) == rows(engine) == [1]


def test_a_session_that_is_closed_without_a_commit_tells_nothing_nor_does_its_next_use(
    session: Session, raw: redis.Redis
) -> None:
    for end in (session.close, session.reset, session.invalidate):
        Sync.after_commit(session).perform_async(7)
        end()
        session.commit()

    assert told(raw) == []


def test_a_session_is_used_for_one_transaction_after_another(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    for number in range(6):
        new(session, number)
        if number % 3 == 1:
            session.rollback()
        else:
            session.commit()

    assert told(raw) == rows(engine) == [0, 2, 3, 5]


def test_begin_as_a_block_commits_at_its_end_and_rolls_back_on_an_error(
    engine: Engine, raw: redis.Redis
) -> None:
    with Session(engine) as session, session.begin():
        new(session, 1)
    with suppress(LookupError), Session(engine) as session, session.begin():
        new(session, 2)
        raise LookupError

    assert told(raw) == rows(engine) == [1]


def test_a_commit_that_fails_tells_nothing(engine: Engine, raw: redis.Redis) -> None:
    with Session(engine) as session:
        new(session, 1)
        session.commit()
        Sync.after_commit(session).perform_async(2)
        session.add(Item(id=1, state="pending", rank=0, version=1))
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        new(session, 3)
        session.commit()

    assert told(raw) == rows(engine) == [1, 3]


def test_two_sessions_have_a_fate_each(engine: Engine, raw: redis.Redis) -> None:
    with Session(engine) as one, Session(engine) as other:
        Sync.after_commit(one).perform_async(1)
        Sync.after_commit(other).perform_async(2)
        Sync.after_commit(one).perform_async(3)
        other.rollback()
        one.commit()
        assert told(raw) == [1, 3]
        Sync.after_commit(other).perform_async(4)
        other.commit()

    assert told(raw) == [1, 3, 4]


def test_autocommit_of_the_driver_changes_nothing(postgres_url: str, raw: redis.Redis) -> None:
    engine = create_engine(postgres_url)
    Base.metadata.create_all(engine)
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        new(session, 1)
        assert (told(raw), rows(engine)) == ([], [1])
        session.commit()
    engine.dispose()

    assert told(raw) == [1]


def test_a_push_from_within_a_flush_belongs_to_the_transaction_around_it(
    engine: Engine, raw: redis.Redis
) -> None:
    class Listening(Session): ...

    @event.listens_for(Listening, "after_flush")
    def push(session: Session, _context: object) -> None:
        for row in session.new:
            assert isinstance(row, Item)
            Sync.after_commit(session).perform_async(row.id)

    with Listening(engine) as session:
        session.add(Item(id=1, state="pending", rank=0, version=1))
        session.flush()
        with suppress(LookupError), session.begin_nested():
            session.add(Item(id=2, state="pending", rank=0, version=1))
            session.flush()
            raise LookupError
        session.add(Item(id=3, state="pending", rank=0, version=1))
        session.commit()

    assert told(raw) == rows(engine) == [1, 3]


# --- savepoints ----------------------------------------------------------------------------------


def test_a_released_savepoint_tells_nothing_until_the_outermost_commit(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    new(session, 1)
    with session.begin_nested():
        new(session, 2)
        with session.begin_nested():
            new(session, 3)
        assert told(raw) == []
        new(session, 4)
    assert told(raw) == []
    new(session, 5)
    session.commit()

    assert told(raw) == rows(engine) == [1, 2, 3, 4, 5]


def test_a_savepoint_that_is_rolled_back_drops_what_was_pushed_inside_it(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    new(session, 1)
    with suppress(LookupError), session.begin_nested():
        new(session, 2)
        with session.begin_nested():
            new(session, 3)
        raise LookupError
    with session.begin_nested():
        new(session, 4)
        with suppress(LookupError), session.begin_nested():
            new(session, 5)
            raise LookupError
    session.commit()

    assert told(raw) == rows(engine) == [1, 4]


def test_an_outermost_rollback_drops_what_released_savepoints_held(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    with session.begin_nested():
        new(session, 1)
    session.rollback()
    session.commit()

    assert told(raw) == rows(engine) == []


def test_a_commit_with_open_savepoints_commits_them_too(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    new(session, 1)
    session.begin_nested()
    new(session, 2)
    session.begin_nested()
    new(session, 3)
    session.commit()

    assert told(raw) == rows(engine) == [1, 2, 3]


def test_a_flush_that_fails_inside_a_savepoint_costs_only_that(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    new(session, 1)
    session.expunge_all()
    with suppress(IntegrityError), session.begin_nested():
        Sync.after_commit(session).perform_async(2)
        session.add(Item(id=1, state="pending", rank=0, version=1))
        session.flush()
    new(session, 3)
    session.commit()

    assert told(raw) == rows(engine) == [1, 3]


def test_two_phases_are_one_commit(postgres_url: str, raw: redis.Redis) -> None:
    engine = create_engine(postgres_url)
    Base.metadata.create_all(engine)
    with Session(engine, twophase=True) as session:
        new(session, 1)
        session.prepare()
        assert told(raw) == []
        session.commit()
        new(session, 2)
        session.prepare()
        session.rollback()

    assert told(raw) == rows(engine) == [1]
    engine.dispose()


# --- every kind of call --------------------------------------------------------------------------


def test_delays_moments_options_and_bulks_wait_too(session: Session, raw: redis.Redis) -> None:
    pusher = Sync.after_commit(session)
    pusher.perform_in(60, 1)
    pusher.perform_at(4_000_000_000, 2)
    pusher.set(queue="high").perform_async(3)
    Sync.set(queue="low").after_commit(session).perform_async(4)
    many = pusher.perform_bulk([(5,), (6,)], at=[4_000_000_001, 4_000_000_002])
    spread = pusher.perform_bulk(((n,) for n in range(7, 9)), jitter=60)

    assert [key for key in raw.scan_iter() if b"unique" not in key and key != b"qik:epoch"] == []
    session.commit()

    due = {payload["args"][0]: score for payload, score in scheduled(raw)}
    assert sorted(due) == [1, 2, 5, 6, 7, 8]
    assert (due[2], due[5], due[6]) == (4_000_000_000, 4_000_000_001, 4_000_000_002)
    assert [raw.llen("queue:high"), raw.llen("queue:low")] == [1, 1]
    assert many.result().codes == [Code.ENQUEUED] * 2
    assert many.result().jids == many.jids
    assert len(set(spread.jids)) == 2


def test_what_is_pushed_is_what_was_given_at_the_call(session: Session, raw: redis.Redis) -> None:
    class Mail(Job, queue="work"):
        def perform(self, lines: list[str]) -> None: ...

    lines, many = ["a"], [(["b"],)]
    Mail.after_commit(session).perform_async(lines)
    Mail.after_commit(session).perform_bulk(many)
    lines.append("changed")
    many[0][0].append("changed")
    session.commit()

    assert told(raw) == [["a"], ["b"]]


def test_a_duplicate_is_an_answer_and_no_error(session: Session) -> None:
    class Once(Job, unique_for=60):
        def perform(self, number: int) -> None: ...

    first = Once.after_commit(session).perform_async(1)
    second = Once.after_commit(session).perform_async(1)
    session.commit()

    assert second.result() == Duplicate(first.jid, Code.DUPLICATE_QUEUED)


def test_what_cannot_travel_is_refused_at_the_call_and_a_key_before_its_flush_says_so(
    session: Session, raw: redis.Redis
) -> None:
    item = Item(state="pending", rank=0, version=1)
    session.add(item)
    pusher = Sync.after_commit(session)

    with pytest.raises(
        ArgumentError, match=r"Sync: args\[0\] \(item_id\).*session\.flush\(\) first"
    ):
        pusher.perform_async(item.id)
    with pytest.raises(ArgumentError, match=r"item 1: Sync: args\[0\].*session\.flush\(\) first"):
        pusher.perform_bulk([(1,), (item.id,)])
    with pytest.raises(
        ArgumentError, match=r"is a str, int is wanted: convert it before the push$"
    ):
        pusher.perform_async("7")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="missing"):
        pusher.perform_async()  # type: ignore[call-arg]
    session.flush()
    pusher.perform_async(item.id)
    session.commit()

    assert told(raw) == [item.id]


@pytest.mark.parametrize("given", [None, 7, "session", sessionmaker()], ids=repr)
def test_what_is_no_session_is_refused(given: Any) -> None:
    with pytest.raises(ArgumentError, match="give it a Session, an AsyncSession or a scoped_sess"):
        Sync.after_commit(given).perform_async(7)


def test_a_session_that_begins_nothing_by_itself_is_left_alone(engine: Engine) -> None:
    with Session(engine, autobegin=False) as session:
        with pytest.raises(ArgumentError, match="begin one first"):
            Sync.after_commit(session).perform_async(7)
        with session.begin():
            assert Sync.after_commit(session).perform_async(7).jid


def test_a_scoped_session_is_the_session_of_its_thread(engine: Engine, raw: redis.Redis) -> None:
    scoped = scoped_session(sessionmaker(engine))

    def request(number: int, *, fails: bool) -> None:
        Sync.after_commit(scoped).perform_async(number)
        scoped.rollback() if fails else scoped.commit()
        scoped.remove()

    threads = [
        threading.Thread(target=request, args=(n,), kwargs={"fails": n == 2}) for n in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told(raw) == [1]


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
    session: Session, engine: Engine
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.use(Settings(redis=f"redis://127.0.0.1:{unused.getsockname()[1]}/0"))
        session.add(Item(id=1, state="pending", rank=0, version=1))
        pushes = [Sync.after_commit(session).perform_async(number) for number in range(3)]
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
