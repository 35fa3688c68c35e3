from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from qik_core.errors import SettingsError
from reconciler.sessions import JobSession, opener
from tests.reconciler.shop import Base, Item, fill


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    made = create_engine(f"sqlite:///{tmp_path}/shop.db")
    Base.metadata.create_all(made)
    fill(made, [1])
    yield made
    made.dispose()


def of(given: object, engine: Engine) -> JobSession:
    return JobSession(given, lambda: engine, "databases.default")


def rank(engine: Engine) -> int:
    with Session(engine) as session:
        return session.get_one(Item, 1).rank


def asynchronous(engine: Engine) -> AsyncEngine:
    return create_async_engine(engine.url.set(drivername="sqlite+aiosqlite"))


@pytest.mark.parametrize("made_by", [lambda e: e, async_sessionmaker], ids=["engine", "maker"])
def test_an_async_block_commits_at_its_end_and_rolls_back_where_it_raises(
    engine: Engine, made_by: Any
) -> None:
    async def run() -> None:
        there = asynchronous(engine)
        async with of(made_by(there), engine) as session:
            (await session.get_one(Item, 1)).rank = 5
        with pytest.raises(ZeroDivisionError):
            async with of(made_by(there), engine) as session:
                await fail(session)
        await there.dispose()

    async def fail(session: Any) -> None:
        (await session.get_one(Item, 1)).rank = 9
        await session.flush()
        raise ZeroDivisionError

    asyncio.run(run())

    assert rank(engine) == 5


def test_a_row_that_an_async_block_has_read_may_be_used_behind_it(engine: Engine) -> None:
    async def run() -> int:
        there = asynchronous(engine)
        async with of(there, engine) as session:
            item: Item = await session.get_one(Item, 1)
            item.rank = 7
        await there.dispose()
        return item.rank

    assert asyncio.run(run()) == 7


def test_an_async_block_without_an_engine_for_asyncio_says_what_to_give(engine: Engine) -> None:
    async def run(given: object) -> None:
        async with of(given, engine):
            pytest.fail("it began")

    for given in (engine, sessionmaker(engine), "sqlite:///shop.db"):
        with pytest.raises(SettingsError, match=r"needs an engine for asyncio.*AsyncEngine"):
            asyncio.run(run(given))


def test_a_job_on_a_thread_has_a_session_beside_an_engine_for_asyncio(engine: Engine) -> None:
    there = asynchronous(engine)

    with of(there, engine) as session:
        session.get_one(Item, 1).rank = 4

    assert rank(engine) == 4
    asyncio.run(there.dispose())


def test_a_blocking_block_on_the_event_loop_is_warned_of_with_the_remedy(engine: Engine) -> None:
    async def run() -> None:
        with of(engine, engine) as session:
            assert session.get_one(Item, 1).id == 1

    with pytest.warns(RuntimeWarning, match="event loop .*: async with") as caught:
        asyncio.run(run())

    assert caught[0].filename == __file__


def test_makers_of_the_application_make_its_sessions(engine: Engine) -> None:
    maker = sessionmaker(engine, info={"whose": "mine"})

    for given in (maker, scoped_session(maker)):
        assert opener(given, engine)().info == {"whose": "mine"}
    assert opener(engine, engine)().info == {}
