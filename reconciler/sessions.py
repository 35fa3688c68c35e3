"""Sessions for jobs: on the database in which the row of a job is.

    with self.context.session() as session:            # in a job on a thread
    async with self.context.session() as session:      # in an `async def` job

What is done in the block is committed at its end, and rolled back if it raises. Inside of a `Guard.row_lock()` it is a
savepoint in the transaction that holds the row, which is committed when the run ends well.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker

from qik_core.errors import SettingsError
from reconciler.errors import ReconcilerError

_held: Final[ContextVar[tuple[Engine, Session] | None]] = ContextVar("qik_held", default=None)
"""The session that holds the row of the run in this thread."""


class JobSession:
    """A session for one block of a job; `given` is what the application gave as the database."""

    __slots__ = ("_block", "_engine", "_given", "_name")

    def __init__(self, given: object, engine: Callable[[], Engine], name: str) -> None:
        self._given = given
        self._engine = engine
        self._name = name
        self._block: Any = None

    def __enter__(self) -> Session:
        warn_in_loop("with self.context.session()", "async with self.context.session()", 3)
        self._block = self._opened()
        session: Session = self._block.__enter__()
        return session

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, trace)

    async def __aenter__(self) -> Any:
        self._block = _committed_async(self._maker())
        return await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._block.__aexit__(kind, error, trace)

    def _opened(self) -> AbstractContextManager[Session]:
        engine = self._engine()
        there = held_on(engine)
        return _savepoint(there) if there is not None else _committed(opener(self._given, engine))

    def _maker(self) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """Return what makes an AsyncSession.

        Raises:
            SettingsError: the application gave no engine for asyncio.
        """
        from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

        if isinstance(self._given, async_sessionmaker):
            return self._given
        if isinstance(self._given, AsyncEngine):
            given = self._given
            return lambda: AsyncSession(given, expire_on_commit=False)
        raise SettingsError(
            f"`async with context.session()` needs an engine for asyncio, and {self._name} is "
            f"{type(self._given).__name__}: give configure(databases=...) an AsyncEngine or an async_sessionmaker, "
            "which passes can read with too"
        )


def warn_in_loop(call: str, remedy: str, level: int) -> None:
    """Warn that a blocking call is made where an event loop runs; `level` as in `warnings.warn`."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    warnings.warn(
        f"{call} blocks the event loop while the database answers: {remedy}",
        RuntimeWarning,
        stacklevel=level,
    )


def opener(given: object, engine: Engine) -> Callable[[], Session]:
    """Return what makes a session for threads: the application's own maker, or one on its engine."""
    maker = getattr(given, "session_factory", given)  # of a scoped session
    if isinstance(maker, sessionmaker):
        return maker
    return lambda: Session(engine)


@contextmanager
def held(engine: Engine, session: Session) -> Iterator[None]:
    """Let jobs of this thread use the session that holds their row, and refuse what would let go of it."""
    token = _held.set((engine, session))
    event.listen(session, "before_commit", _refuse)
    try:
        yield
    finally:
        event.remove(session, "before_commit", _refuse)
        _held.reset(token)


def held_on(engine: Engine) -> Session | None:
    """Return the session that holds the row of the run in this thread, if it is on this engine."""
    there = _held.get()
    return there[1] if there is not None and there[0] is engine else None


def _refuse(session: Session) -> None:
    if not session.in_nested_transaction():
        raise ReconcilerError(
            "session.commit() would let go of the row that guard=Guard.row_lock() holds: leave it to the end of the run, "
            "or use Guard.claim(column, ttl), with which a job may commit when it likes"
        )


@contextmanager
def _savepoint(session: Session) -> Iterator[Session]:
    with session.begin_nested():
        yield session


@contextmanager
def _committed(make: Callable[[], Session]) -> Iterator[Session]:
    with make() as session:
        yield session
        session.commit()


@asynccontextmanager
async def _committed_async(make: Callable[[], Any]) -> AsyncIterator[Any]:
    async with make() as session:
        yield session
        await session.commit()
