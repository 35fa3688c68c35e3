"""Job timeouts: one thread that interrupts runs which take too long.

A run on a thread is interrupted at its next Python instruction; one on the event loop is cancelled. What sits in a C call,
or swallows the interruption, is stuck: `stuck` is told its field some seconds later, and a worker process then ends itself,
with that job alone to blame.
"""

from __future__ import annotations

import ctypes
import heapq
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final, TypeVar

from qik_core.errors import JobTimeout

T = TypeVar("T")

GRACE: Final = 5.0
"""Seconds that an interrupted run has to end."""


class _Entry:
    """One run with a time limit."""

    __slots__ = ("ended", "field", "interrupt", "interrupted")

    def __init__(self, field: bytes, interrupt: Callable[[], None]) -> None:
        self.field = field
        self.interrupt = interrupt
        self.interrupted = False
        self.ended = False


class Deadlines:
    """Watches runs. Its thread is started with the first of them.

    `start` starts a thread; `now` is monotonic.
    """

    def __init__(
        self,
        start: Callable[[Callable[[], None]], object],
        stuck: Callable[[bytes], None],
        *,
        grace: float = GRACE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._stuck = stuck
        self._grace = grace
        self._now = now
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._due: list[tuple[float, int, _Entry]] = []
        self._order = count()
        self._running = False

    def run(self, seconds: float, field: bytes, call: Callable[[], T]) -> T:
        """Return what the call returns, interrupted in this thread after so many seconds.

        Raises:
            JobTimeout: at the instruction where the run was interrupted.
        """
        thread = threading.get_ident()
        message = f"the run took longer than its timeout of {seconds:g} s"
        entry = self._watch(seconds, field, lambda: _raise_in(thread, JobTimeout))
        try:
            return call()
        except JobTimeout as error:
            raise JobTimeout(message) from error.__cause__
        finally:
            self._end(entry, thread)

    def watch(
        self, seconds: float, field: bytes, interrupt: Callable[[], None]
    ) -> Callable[[], None]:
        """Call `interrupt`, from another thread, after so many seconds; returns what says that the run has ended."""
        entry = self._watch(seconds, field, interrupt)
        return lambda: self._over(entry)

    def _watch(self, seconds: float, field: bytes, interrupt: Callable[[], None]) -> _Entry:
        entry = _Entry(field, interrupt)
        with self._changed:
            heapq.heappush(self._due, (self._now() + seconds, next(self._order), entry))
            if not self._running:
                self._running = True
                self._start(self._look)
            self._changed.notify()
        return entry

    def _end(self, entry: _Entry, thread: int) -> None:
        """End the watch. An interruption may come at any instruction of this, and must not reach what follows."""
        while True:
            try:
                self._lock.acquire()
                entry.ended = True
                if entry.interrupted:
                    _raise_in(thread, None)
                break
            except JobTimeout:
                continue
        while self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - taken again after each interruption
            self._lock.release()

    def _over(self, entry: _Entry) -> None:
        with self._changed:
            entry.ended = True

    def _look(self) -> None:
        while True:
            with self._changed:
                while self._due and self._due[0][2].ended:
                    heapq.heappop(self._due)
                wait = self._due[0][0] - self._now() if self._due else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                entry = heapq.heappop(self._due)[2]
                stuck = self._act(entry)
            if stuck:
                self._stuck(entry.field)

    def _act(self, entry: _Entry) -> bool:
        if entry.interrupted:
            return True
        entry.interrupted = True
        entry.interrupt()
        heapq.heappush(self._due, (self._now() + self._grace, next(self._order), entry))
        return False


def _raise_in(thread: int, error: Any) -> None:
    """Raise in another thread at its next instruction; None takes back what has not been raised yet."""
    exception = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)
