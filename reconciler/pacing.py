"""How fast a rebuild goes: when the next rows may be told, how many a second there were, when it will be through. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

STEP: Final = 1.0
"""Seconds of work that are told at once at the most: what is told at a rate is even at this grain."""
_BEHIND: Final = 1.0
"""Seconds of its allowance that a rebuild which was slower than its rate may make up for."""
_WINDOW: Final = 10.0
"""Seconds over which the speed is measured."""
_APART: Final = 0.2


class Pace:
    """Says when the next rows may be told, at `rate` rows a second (None: at once). `now` is in monotonic seconds."""

    def __init__(self, rate: float | None, now: Callable[[], float] = monotonic) -> None:
        self.rate = rate
        self._now = now
        self._free = now()

    def wait(self) -> float:
        """Return the seconds until more rows may be told; 0 when they may be now."""
        return max(0.0, self._free - self._now())

    def most(self) -> int | None:
        """Return how many rows may be told at once; None: any number."""
        return None if self.rate is None else max(1, int(self.rate * STEP))

    def took(self, rows: int) -> None:
        """Take note that so many rows are told."""
        if self.rate is not None:
            self._free = max(self._free, self._now() - _BEHIND) + rows / self.rate


class Speed:
    """Rows a second over the last seconds, and what follows for those that are left."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._seen: deque[tuple[float, int]] = deque()

    def saw(self, rows: int) -> None:
        """Take note of how many rows are done by now, all in all."""
        at = self._now()
        if len(self._seen) > 1 and at - self._seen[-2][0] < _APART:
            self._seen[-1] = at, rows
        else:
            self._seen.append((at, rows))
        while len(self._seen) > 2 and at - self._seen[0][0] > _WINDOW:  # noqa: PLR2004 - two make a slope
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Rows a second; 0 until two moments are known, and while nothing moves."""
        if not self._seen:
            return 0.0
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return max(0.0, (last - first) / (ended - began)) if ended > began else 0.0

    def eta(self, left: int) -> float | None:
        """Return the seconds until so many more rows are done; None while nobody knows."""
        if left <= 0:
            return 0.0
        return left / self.rate if self.rate > 0 else None
