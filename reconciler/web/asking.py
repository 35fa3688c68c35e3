"""Questions to SQL from pages: each with a deadline, and not too many that nobody answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from qik_core.errors import QikError, SettingsError, StoreError
from qik_core.passes import Passes
from qik_core.web.asked import NO_REDIS, Problem
from reconciler.asking import Asked
from reconciler.engines import Engines
from reconciler.errors import NotMigrated, SqlUnavailable, UnknownReconciler

T = TypeVar("T")

ANSWER: Final = 2.0
"""Seconds: an open page waits for 2.5."""
AT_ONCE: Final = 0.6
"""Seconds for what stands on the overview: it is asked every 2 s, and the rest of the page waits."""
KEPT: Final = 0.3
"""Seconds for which all pages share an answer: with the two above an open overview tells within 3 s that SQL is silent."""
MOST: Final = 16
"""Questions that wait for an answer at once, those that nobody waits for any more among them."""
_UNABLE: Final = NO_REDIS
"""With this status an open page asks again by itself, and so comes back."""


class Question(Generic[T]):
    """A question that is under way."""

    def __init__(self, asked: Asked[T]) -> None:
        self._asked = asked

    def answer(self, late: Problem | None = None) -> T:
        """Return the answer; `late` is what is said where none comes in time, if not that SQL is away.

        Raises:
            Problem: SQL does not answer, or what was asked for is not there.
        """
        found = self._asked.answer(SqlUnavailable, "SQL")
        if self._asked.late and late is not None:
            raise late
        if self._asked.error is not None:
            raise problem_of(self._asked.error)
        return found  # type: ignore[return-value]  # None is an answer where T has it


class Sql:
    """The databases of a dashboard: made when they are first asked, from the settings as they are then. Thread-safe."""

    def __init__(self, databases: Mapping[str, object] | None = None) -> None:
        self._databases = databases
        self._engines: Engines | None = None
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(MOST)

    def engines(self) -> Engines:
        """Return the databases."""
        with self._lock:
            if self._engines is None:
                given = self._databases
                self._engines = Engines.from_settings() if given is None else Engines(given)
            return self._engines

    def ask(self, question: Callable[[Engines], T], within: float = ANSWER) -> Question[T]:
        """Begin to ask; the answer may be waited for so many seconds.

        Raises:
            Problem: too many questions have no answer yet.
        """
        if not self._room.acquire(blocking=False):
            raise Problem(_UNABLE, f"SQL does not answer: {MOST} questions wait for it already")

        def asked() -> T:
            try:
                return question(self.engines())
            finally:
                self._room.release()

        return Question(Asked(asked, time.monotonic() + within))

    def answer(self, question: Callable[[Engines], T]) -> T:
        """Ask, and return the answer.

        Raises:
            Problem: SQL does not answer, or what was asked for is not there.
        """
        return self.ask(question).answer()


class Shared(Generic[T]):
    """One question of many pages: asked once for all of them, and its answer kept for a moment. Thread-safe."""

    def __init__(self, sql: Sql, question: Callable[[Engines], T]) -> None:
        self._sql = sql
        self._question = question
        self._asked: Question[T] | None = None
        self._until = 0.0
        self._lock = threading.Lock()

    def answer(self) -> T:
        """Return the answer.

        Raises:
            Problem: SQL does not answer at once.
        """
        with self._lock:
            if self._asked is None or time.monotonic() >= self._until:
                # The first one also opens the database, which takes its time.
                self._asked = self._begin(ANSWER if self._asked is None else AT_ONCE)
            asked = self._asked
        return asked.answer()

    def _begin(self, within: float) -> Question[T]:
        """Begin to ask; nobody asks again before it is answered, or a page would have given up."""
        self._until = time.monotonic() + ANSWER
        try:
            return self._sql.ask(self._ask, within)
        except Problem:  # it was not even begun
            self._until = 0.0
            raise

    def _ask(self, engines: Engines) -> T:
        try:
            return self._question(engines)
        finally:
            self._until = time.monotonic() + KEPT


def problem_of(error: Exception) -> Exception:
    """Return what a page says of an error; itself where it is nobody's question."""
    if isinstance(error, Problem) or not isinstance(error, QikError):
        return error
    if isinstance(error, (SqlUnavailable, NotMigrated)):
        return Problem(_UNABLE, f"SQL does not answer: {error}")
    if isinstance(error, SettingsError):
        return Problem(_UNABLE, f"SQL cannot be asked: {error}")
    if isinstance(error, UnknownReconciler):
        return Problem(404, str(error))
    return error


def answering(seam: Passes) -> Passes | None:
    """Return the seam, None where Redis does not answer."""
    try:
        seam.glance([])
    except StoreError:
        return None
    return seam
