"""Pushes that wait for a commit, and the seam by which `reconciler`, which knows sessions, brings them to their end.

    deferred = Charge.after_commit(session).perform_async(7)    # checked now, pushed after the outermost commit
    session.commit()                                            # never raises because of the push
    deferred.result()                                           # Enqueued(…), or raises what became of it

A test fixture that rolls back, and so never commits, calls `flush(session)`: what waits is pushed as by a commit.
Imports little, since `import reconciler` imports it.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, TypeVar

from qik_core.errors import NotEnqueued, QikError, StoreError

log: Final = logging.getLogger("qik_core.jobs")
R = TypeVar("R")
PATIENCE: Final = 3.0
"""Seconds for which a commit waits for its pushes; what is left then goes on in the background."""


class State(StrEnum):
    """Where a push that waits for a commit is."""

    WAITING = "waiting"  # its transaction has not ended
    DROPPED = "dropped"  # its transaction, or the savepoint in which it was made, was rolled back
    COMMITTED = "committed"  # on its way
    ANSWERED = "answered"  # `result()` says what Redis answered
    FAILED = "failed"  # `result()` raises what went wrong


class Deferred(Generic[R]):
    """A push that waits for a commit. The jids are given out already; a duplicate will have had another."""

    __slots__ = ("_context", "_future", "_send", "jids", "job", "state")

    def __init__(self, job: str, jids: Sequence[str], send: Callable[[], R]) -> None:
        self.job = job
        self.jids = jids
        self.state = State.WAITING
        self._send = send
        self._context = contextvars.copy_context()  # a middleware sees what the call saw
        self._future: Future[R] = Future()

    @property
    def jid(self) -> str:
        """The jid of the job; of the first of many; nothing for a bulk of no rows."""
        return self.jids[0] if self.jids else ""

    def result(self, timeout: float | None = None) -> R:
        """Return what the push was answered, once its transaction was committed; waits where it is on its way.

        Raises:
            NotEnqueued: surely nothing was written, for one because the transaction was rolled back.
            OutcomeUnknown: the answer was lost.
            QikError: the transaction has not ended yet.
            TimeoutError: it is on its way for longer than `timeout` seconds.
        """
        if self.state is State.WAITING:
            raise QikError(f"{self} waits for its transaction: commit the session first")
        return self._future.result(timeout)

    def drop(self) -> None:
        """Forget it: its transaction was rolled back."""
        self.state = State.DROPPED
        self._future.set_exception(
            NotEnqueued(f"{self} was not pushed: its transaction was rolled back")
        )

    def deliver(self) -> None:
        """Push it. An error is kept for `result()` and told everywhere; only an interrupt is raised."""
        try:
            answer = self._context.run(self._send)
        except BaseException as error:
            self.state = State.FAILED
            self._future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            _tell(self, error)
        else:
            self.state = State.ANSWERED
            self._future.set_result(answer)

    def __str__(self) -> str:
        return f"{self.job} {self.jid}" if len(self.jids) == 1 else f"{len(self.jids):,} {self.job}"

    def __repr__(self) -> str:
        return f"<Deferred {self} {self.state}>"


class Adapter(Protocol):
    """What knows the sessions of applications: `reconciler.after_commit`."""

    def defer(self, session: object, push: Deferred[Any], /) -> None:
        """Keep a push until the session's outermost transaction is committed, and drop it when it is rolled back."""

    def take(self, session: object, /) -> list[Deferred[Any]]:
        """Return, and forget, what waits in a session."""

    def is_reconciled(self, job: str, /) -> bool:
        """Whether a reconciler will tell this job's rows again."""


_load: Callable[[], Adapter] | None = None


def fill(load: Callable[[], Adapter]) -> None:
    """Fill the seam; `load` is called at the first use."""
    global _load  # noqa: PLW0603 - the seam
    _load = load


def adapter() -> Adapter:
    """Return what knows sessions.

    Raises:
        QikError: nothing does.
    """
    if _load is None:
        raise QikError(
            "after_commit has nothing that knows SQLAlchemy's sessions: `import reconciler` where the application starts"
        )
    return _load()


def flush(session: object) -> list[Deferred[Any]]:
    """Push what waits in a session, as if its transactions had been committed, and return it: for tests that roll back."""
    waiting = adapter().take(session)
    deliver(waiting)
    return waiting


def deliver(pushes: Sequence[Deferred[Any]]) -> None:
    """Push what was committed, in order. What is left after 3 seconds goes on in the background."""
    commit(pushes)
    until, left = time.monotonic() + PATIENCE, list(reversed(pushes))
    try:
        while left and time.monotonic() < until:
            left.pop().deliver()
    finally:
        if left:
            deliver_later(left[::-1])


def deliver_later(pushes: Sequence[Deferred[Any]]) -> Future[None]:
    """Push what was committed on a thread, in order; the future ends with the last of them."""
    from qik_core import aio

    commit(pushes)
    return aio.later(_deliver_all, pushes)


def commit(pushes: Iterable[Deferred[Any]]) -> None:
    """Note that the transaction of these was committed."""
    for each in pushes:
        each.state = State.COMMITTED


def _deliver_all(pushes: Sequence[Deferred[Any]]) -> None:
    for each in pushes:
        each.deliver()


def _tell(push: Deferred[Any], error: Exception) -> None:
    """Say everywhere that an edge was not told: nobody may ask for its result."""
    from qik_core import aio, hooks

    reconciled = adapter().is_reconciled(push.job)
    log.log(
        logging.WARNING if reconciled else logging.ERROR,
        "the push after a commit failed: a pass will tell it"
        if reconciled
        else "the push after a commit failed",
        exc_info=error,
        extra={"job": push.job, "jid": push.jid, "jobs": len(push.jids)},
    )
    hooks.report(error, {"job": push.job, "jid": push.jid, "after_commit": True})
    aio.later(_count, len(push.jids))


def _count(jobs: int) -> None:
    from qik_core import client

    try:
        client.current().store.count("edge_lost", jobs)
    except StoreError as error:
        log.warning(
            "edges that were not told could not be counted",
            extra={"jobs": jobs, "reason": str(error)},
        )
