"""How many jobs a capsule takes at once, and how long a result may wait. Numbers only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from qik_core.crew import Crew
from qik_core.store.push import MOST

_WORK: Final = 0.05  # seconds of measured work that may wait in the pocket
_MOST: Final = 2 * MOST
STUCK: Final = 0.1
"""Seconds; nothing was started for so long: what waits is given back."""
_KEEP: Final = 0.7  # of the average so far, at each measurement


class Pace:
    """Measures how long jobs take, and says how many to ask for."""

    def __init__(self, crew: Crew, now: Callable[[], float] = time.monotonic) -> None:
        self._crew = crew
        self._now = now
        self._average = _WORK
        self._runs = 0
        self._seconds = 0.0
        self._started = (0, now())

    def want(self) -> int:
        """Return how many jobs to ask for: the idle threads, and 50 ms of work beyond; 0 while enough is waiting."""
        waiting = len(self._crew.pocket)
        target = min(max(self._crew.idle, int(_WORK / self._average * self._crew.size)), _MOST)
        return target - waiting if waiting <= target // 2 else 0

    def exchanged(self) -> None:
        """Measure, once an exchange."""
        runs, seconds = self._crew.runs, self._crew.seconds
        if runs > self._runs and seconds > self._seconds:
            latest = (seconds - self._seconds) / (runs - self._runs)
            self._average = max(_KEEP * self._average + (1 - _KEEP) * latest, latest / 4, 1e-7)
            self._runs, self._seconds = runs, seconds

    def filled(self) -> None:
        """Jobs were put into the pocket: from now on they wait."""
        self._started = (self._crew.runs, self._now())

    def stuck(self) -> bool:
        """Whether jobs wait in the pocket and none was started for 100 ms; then they are taken for slow until measured."""
        runs, now = self._crew.runs, self._now()
        if runs != self._started[0] or not self._crew.pocket:
            self._started = (runs, now)
        if now - self._started[1] < STUCK:
            return False
        self._average = max(self._average, 2 * _WORK * self._crew.size)
        return True


class Patience:
    """Since when a result waits for its exchange."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since: float | None = None

    def result(self) -> None:
        """A result has come and waits from now on."""
        if self._since is None:
            self._since = self._now()

    def waited(self, now: float) -> float:
        """Return how long the oldest result has waited."""
        if self._since is None:
            self._since = now
        return now - self._since

    def exchanged(self) -> None:
        """All results are on their way."""
        self._since = None
