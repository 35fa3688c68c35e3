"""`commits(session)`: what waits for a commit is pushed, though the test rolls back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qik_core.commits import Deferred, flush


@contextmanager
def commits(session: object) -> Iterator[list[Deferred[Any]]]:
    """Stand for the commit that a test does not make: at the end, push what waits in the session; yield what was pushed.

    For tests that keep everything in one transaction which they roll back. A session that is joined to such a transaction
    (`Session(connection, join_transaction_mode="create_savepoint")`) counts its own commits: what waits for one is pushed at
    once, also inside this block, and the end adds what waits for a commit that is made elsewhere, in a request's
    middleware, say. Takes a Session, an AsyncSession or a scoped_session. When the block raises, nothing more is pushed.

    Raises:
        Exception: what a push raised, which a real commit only logs.
    """
    pushed: list[Deferred[Any]] = []
    yield pushed
    pushed += flush(session)
    for each in pushed:
        each.result()
