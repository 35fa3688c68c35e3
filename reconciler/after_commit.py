"""Pushes after a commit: what SQLAlchemy's sessions tell of their transactions, for `Job.after_commit(session)`.

SQLAlchemy's `after_commit` fires for a released savepoint too, and while the connection is still held. So a push belongs to
the transaction or savepoint that is innermost when it is made; released, a savepoint hands what it holds to what is around it;
ended otherwise, it drops it. What the outermost one held when it was committed is pushed when it has ended, its connection
back in the pool.

A session that is bound to a connection counts its own commits, not those of the connection: that is how tests run
applications inside a transaction which they roll back.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util import concurrency

from qik_core import commits
from qik_core.commits import Deferred
from qik_core.errors import ArgumentError
from reconciler import registry

_KEY: Final = "qik.after_commit"
Pushes = list[Deferred[Any]]


class Waiting:
    """What waits in one session: kept in its `info`, so that it ends with the session."""

    __slots__ = ("committed", "held")

    def __init__(self, session: Session) -> None:
        self.held: dict[SessionTransaction, Pushes] = {}
        """By the transaction or savepoint in which they were made."""
        self.committed: Pushes = []
        """Between the commit of the outermost transaction and its end."""
        event.listen(session, "after_commit", self._commit)
        event.listen(session, "after_transaction_end", self._end)

    def add(self, session: Session, push: Deferred[Any]) -> None:
        """Keep a push until the innermost transaction has ended."""
        self.held.setdefault(_innermost(session), []).append(push)

    def take(self) -> Pushes:
        """Return, and forget, what waits, by the transactions in which it was made."""
        taken = [push for pushes in self.held.values() for push in pushes]
        self.held.clear()
        return taken

    def _commit(self, session: Session) -> None:
        transaction = _innermost(session)
        pushes = self.held.pop(transaction, [])
        around = _around(transaction)
        if around is None:
            self.committed += pushes
        elif pushes:
            self.held.setdefault(around, []).extend(pushes)

    def _end(self, _session: Session, transaction: SessionTransaction) -> None:
        for push in self.held.pop(transaction, ()):
            push.drop()
        if self.committed:
            pushes, self.committed = self.committed, []
            _deliver(pushes)


def defer(session: object, push: Deferred[Any]) -> None:
    """Keep a push until the outermost transaction of the session is committed, and drop it when it is rolled back.

    A session without a transaction begins one, as it does for its first statement.

    Raises:
        ArgumentError: no session, or one that begins no transaction by itself and has none.
    """
    real = session_of(session)
    if not real.in_transaction():
        _begin(real)
    waiting = real.info.get(_KEY)
    if waiting is None:
        waiting = real.info[_KEY] = Waiting(real)
    waiting.add(real, push)


def take(session: object) -> Pushes:
    """Return, and forget, what waits in a session."""
    waiting = session_of(session).info.get(_KEY)
    return waiting.take() if waiting is not None else []


def is_reconciled(job: str) -> bool:
    """Whether a reconciler of the imported modules will tell this job's rows again."""
    return bool(registry.telling(job))


def session_of(given: object) -> Session:
    """Return the synchronous session behind a Session, an AsyncSession, or what holds one per thread, task or request.

    Raises:
        ArgumentError: none of these.
    """
    registry = getattr(given, "registry", None)
    if not isinstance(given, Session) and callable(registry):
        given = registry()
    found = getattr(given, "sync_session", given)
    if not isinstance(found, Session):
        raise ArgumentError(
            f"after_commit was given a {type(given).__name__}: give it a Session, an AsyncSession or a scoped_session"
        )
    return found


def _begin(session: Session) -> None:
    if not session.autobegin:
        raise ArgumentError(
            "after_commit: this session has no transaction and begins none by itself (autobegin=False): begin one first"
        )
    session.begin()


def _innermost(session: Session) -> SessionTransaction:
    found = session.get_nested_transaction() or session.get_transaction()
    assert found is not None  # noqa: S101 - it has just begun, or an event of it is being told
    return found


def _around(transaction: SessionTransaction) -> SessionTransaction | None:
    """Return the savepoint or transaction around a savepoint; a flush makes transactions of its own in between."""
    around = transaction.parent
    while around is not None and around.parent is not None and not around.nested:
        around = around.parent
    return around


def _deliver(pushes: Pushes) -> None:
    """Push here; where an event loop runs, on a thread, and let the commit be awaited until that is done."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        commits.deliver(pushes)
        return
    done = commits.deliver_later(pushes)
    if concurrency.in_greenlet():
        concurrency.await_(_wait(asyncio.wrap_future(done)))


async def _wait(done: asyncio.Future[None]) -> None:
    """Wait for as long as a commit may; a cancelled commit leaves the pushes alone."""
    await asyncio.wait([done], timeout=commits.PATIENCE)
