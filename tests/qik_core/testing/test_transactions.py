from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import reconciler  # noqa: F401 - it knows sessions
from qik_core import NotEnqueued, Payload
from qik_core.errors import QikError
from qik_core.middleware import ClientResult, Next
from qik_core.settings import configure
from qik_core.testing import (
    Fake,
    Inline,
    Real,
    assert_enqueued,
    assert_enqueued_count,
    assert_not_enqueued,
    commits,
)
from tests.qik_core.testing.jobs_of_apps import Failing, Mail, done
from tests.reconciler.shop import Base, Item

MODES: list[Any] = ["conditional_savepoint", "rollback_only"]


@pytest.fixture
def connection(sqlite_url: str) -> Iterator[Connection]:
    """A transaction that the test rolls back: nothing of it may be there afterwards."""
    engine = create_engine(sqlite_url)
    event.listen(engine, "connect", lambda dbapi, _: setattr(dbapi, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        outer = connection.begin()
        yield connection
        outer.rollback()
        assert connection.scalar(select(func.count()).select_from(Item)) == 0
    engine.dispose()


def place(session: Session, number: int) -> None:
    """The code under test: a row, and its job after the commit."""
    session.add(Item(id=number, state="pending", rank=0, version=1))
    session.flush()
    Mail.after_commit(session).perform_async(f"{number}@example.org")


def test_a_commit_of_a_joined_session_pushes_though_the_test_rolls_back(
    connection: Connection, jobs: Fake
) -> None:
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        with commits(session) as pushed:
            place(session, 1)
            assert_enqueued_count(0)
            session.commit()
            assert_enqueued(Mail, "1@example.org")
        assert pushed == []
        place(session, 2)
        session.rollback()

    assert_not_enqueued(Mail, "2@example.org")
    assert_enqueued_count(1)


@pytest.mark.parametrize("mode", MODES)
def test_the_other_ways_to_join_push_at_the_sessions_own_commit_too(
    connection: Connection, jobs: Fake, mode: Any
) -> None:
    with Session(connection, join_transaction_mode=mode) as session:
        place(session, 1)
        session.commit()
        assert_enqueued(Mail, "1@example.org")


def test_the_end_of_the_block_stands_for_a_commit_that_is_made_elsewhere(
    connection: Connection, jobs: Fake
) -> None:
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        with commits(session) as pushed:
            place(session, 1)
            with session.begin_nested():
                place(session, 2)
            dropped = session.begin_nested()
            place(session, 3)
            dropped.rollback()
            assert_enqueued_count(0)

        assert [each.jid for each in pushed] == [each.jid for each in jobs.jobs]
        assert [each.args for each in jobs.jobs] == [("1@example.org",), ("2@example.org",)]
        session.rollback()

    assert_enqueued_count(2)


def test_a_block_that_raises_pushes_nothing(connection: Connection, jobs: Fake) -> None:
    def fails(session: Session) -> None:
        with commits(session):
            place(session, 1)
            raise LookupError

    with Session(connection, join_transaction_mode="create_savepoint") as session:
        with pytest.raises(LookupError):
            fails(session)
        assert_enqueued_count(0)


def test_a_scoped_session_is_taken_as_well(connection: Connection, jobs: Fake) -> None:
    scoped = scoped_session(
        sessionmaker(connection, join_transaction_mode="create_savepoint"), scopefunc=lambda: 1
    )
    with commits(scoped):
        place(scoped(), 1)
    scoped.remove()

    assert_enqueued(Mail, "1@example.org")


def test_an_async_session_is_taken_as_well(postgres_url: str, jobs: Fake) -> None:
    async def main() -> None:
        engine = create_async_engine(postgres_url)
        async with engine.connect() as connection:
            outer = await connection.begin()
            await connection.run_sync(Base.metadata.create_all)
            joined = AsyncSession(connection, join_transaction_mode="create_savepoint")
            async with joined as session:
                await session.run_sync(place, 1)
                await session.commit()
                assert_enqueued(Mail, "1@example.org")
                with commits(session):
                    await session.run_sync(place, 2)
                assert_enqueued(Mail, "2@example.org")
            await outer.rollback()
        await engine.dispose()

    asyncio.run(main())


def test_jobs_after_a_commit_are_performed_by_it_in_the_mode_at_push(
    connection: Connection, at_once: Inline
) -> None:
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        place(session, 1)
        assert done == []
        session.commit()
        assert done == ["1@example.org"]


def test_jobs_after_a_commit_go_to_a_real_server(connection: Connection, server: Real) -> None:
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        place(session, 1)
        session.commit()

    assert server.drain() == 1
    assert done == ["1@example.org"]


def test_a_job_that_fails_at_its_push_after_a_commit_is_listed_since_the_commit_must_not_raise(
    connection: Connection, at_once: Inline
) -> None:
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        Failing.after_commit(session).perform_async(1)
        session.commit()

    ((job, error),) = at_once.failed
    assert (job.name, repr(error)) == ("Failing", "KeyError(1)")


def test_the_end_of_the_block_raises_what_a_push_raised(connection: Connection, jobs: Fake) -> None:
    def broken(each: Payload, call_next: Next[ClientResult]) -> ClientResult:
        raise LookupError("no tenant")

    with Session(connection, join_transaction_mode="create_savepoint") as session:
        place(session, 1)
        configure(client_middleware=[broken])
        with pytest.raises(NotEnqueued, match="no tenant"), commits(session):
            pass


def test_something_that_is_no_session_is_refused() -> None:
    with pytest.raises(QikError, match="after_commit was given a int"), commits(7):
        pass
