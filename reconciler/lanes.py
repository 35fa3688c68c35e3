"""How many passes of one process read one database at a time: lanes, taken in turn.

Without them a loss of Redis would have a thousand reconcilers open a thousand connections at once. Each database has
lanes of its own, so that one that is slow or dead holds up nobody else's passes. A long pass lets others go first
between two of its pages, when it holds nothing.
"""

from __future__ import annotations

from collections import deque
from threading import Event, Lock
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

WIDTH: Final = 8
"""Passes that read one database at a time."""
SLICE: Final = 1.0
"""Seconds after which a pass lets those who wait go first."""


class Lane:
    """The lanes of one database. Thread-safe; whoever comes first is first."""

    def __init__(self, width: int = WIDTH) -> None:
        self._free = width
        self._waiting: deque[Event] = deque()
        self._lock = Lock()

    def enter(self) -> float:
        """Wait for a lane; returns the monotonic seconds at which it is this pass's."""
        with self._lock:
            if self._free:
                self._free -= 1
                return monotonic()
            turn = Event()
            self._waiting.append(turn)
        turn.wait()
        return monotonic()

    def leave(self) -> None:
        """Give the lane to who has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1

    @property
    def wanted(self) -> bool:
        """Somebody waits."""
        return bool(self._waiting)


class Lanes:
    """The lanes of all databases of one process."""

    def __init__(self) -> None:
        self._lanes: WeakKeyDictionary[Engine, Lane] = WeakKeyDictionary()
        self._lock = Lock()

    def of(self, engine: Engine) -> Lane:
        """Return the lanes of a database."""
        with self._lock:
            return self._lanes.setdefault(engine, Lane())
