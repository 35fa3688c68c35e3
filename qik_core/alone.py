"""A turn with the suspects: jobs under which a process has died run alone, so that the next death names the culprit.

The heartbeat gets the right to a turn from Redis; one process has it at a time. The courier then fetches nothing else,
waits until nothing runs, fetches one suspect, and goes back to normal when that has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum


class Wish(StrEnum):
    """What a beat says about the right to a turn."""

    KEEP = "k"  # a turn is under way
    READY = "y"  # a turn would be taken
    NO = "n"


class Stage(StrEnum):
    """How far a turn has come."""

    NONE = "none"
    EMPTYING = "emptying"  # what runs may end; nothing is fetched
    RUNNING = "running"  # the suspect was fetched and has not been settled


class Alone:
    """The turns of one process.

    A process that has long jobs would stand idle for as long as the longest, so a turn that cannot begin within
    `patience` is given up. Each time the patience doubles and a pause as long follows, so that suspects get their run in
    the end and at least half of the time goes to the other jobs.
    """

    def __init__(self, patience: float, now: Callable[[], float] = time.monotonic) -> None:
        self.stage = Stage.NONE
        self._least = self._patience = patience
        self._now = now
        self._give_up = 0.0
        self._rests_until = 0.0

    @property
    def wish(self) -> Wish:
        """What to say with the next beat."""
        if self.stage is not Stage.NONE:
            return Wish.KEEP
        return Wish.READY if self._now() >= self._rests_until else Wish.NO

    @property
    def active(self) -> bool:
        """Whether nothing but a suspect may be fetched."""
        return self.stage is not Stage.NONE

    def begin(self) -> None:
        """The right was granted."""
        if self.stage is Stage.NONE:
            self._give_up = self._now() + self._patience
            self.stage = Stage.EMPTYING

    def fetched(self, count: int) -> None:
        """The suspects were asked."""
        if count:
            self.stage = Stage.RUNNING
            self._patience = self._least
        else:  # somebody else has it, or its queue is paused
            self._rest(self._least)

    def ended(self) -> None:
        """The suspect was settled."""
        self.stage = Stage.NONE

    def give_up(self) -> bool:
        """End a turn that has waited in vain for too long; says whether it did."""
        if self.stage is not Stage.EMPTYING or self._now() < self._give_up:
            return False
        self._rest(self._patience)
        self._patience *= 2
        return True

    def abandon(self) -> None:
        """End whatever is under way: the process stops, or has lost its identity."""
        self._rest(self._least)

    def _rest(self, seconds: float) -> None:
        self.stage = Stage.NONE
        self._rests_until = self._now() + seconds
