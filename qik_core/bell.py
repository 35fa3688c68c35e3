"""What wakes a courier that sleeps: its own job threads, and pushes to queues that it found empty."""

from __future__ import annotations

import contextlib
import os
import select
from typing import Any, Final

from qik_core.store.link import Link
from qik_core.store.worker import WorkerStore

_SLEEP: Final = 2  # seconds of one blocking pop of wake-up tokens


class Damaged(Exception):
    """What this process stands on is gone: it must end, since whatever it does may hit the wrong file."""


class Bell:
    """A pipe that threads of this process ring, and a connection that blocks until a push sends a token."""

    def __init__(self, sleeper: Link) -> None:
        self._sleeper = sleeper
        self._asleep = False
        self._hears, self._rope = os.pipe()
        os.set_blocking(self._rope, False)
        self._made_as = self._look()
        self._damaged = False

    @property
    def damaged(self) -> bool:
        """A job has closed the pipe: then it may have closed any file of this process."""
        self._damaged = self._damaged or self._look() != self._made_as
        return self._damaged

    def check(self) -> None:
        """Raise Damaged if it is."""
        if self.damaged:
            raise Damaged("a job has closed files that it did not open, the courier's among them")

    def ring(self) -> None:
        """Wake the courier. For any thread."""
        if self._damaged:
            return
        with contextlib.suppress(OSError):  # it rings already; or it is damaged, which `wait` finds
            os.write(self._rope, b"!")

    def ask(self, store: WorkerStore) -> None:
        """Let a push wake us. Raises StoreError."""
        if not self._asleep:
            store.sleep(self._sleeper, _SLEEP)
            self._asleep = True

    def wait(self, seconds: float) -> tuple[bool, bool]:
        """Sleep at most so long; returns whether a thread rang, and whether a push did.

        Raises:
            StoreError: as `ask`.
            Damaged: a job has closed the pipe.
        """
        self.check()
        watched: list[Any] = [self._hears, self._sleeper] if self._asleep else [self._hears]
        ready, _, _ = select.select(watched, (), (), seconds)
        rang, token = self._hears in ready, False
        if (
            rang and not self.damaged
        ):  # else the number may be a file by now that has nothing to be read
            os.read(self._hears, 4096)
        if self._sleeper in ready:
            self._asleep = False
            token = self._sleeper.receive() is not None
        return rang, token

    def forget(self) -> None:
        """Redis cannot be reached: nothing that was asked for will come."""
        self._asleep = False
        self._sleeper.close()

    def _look(self) -> tuple[int, int]:
        """Return what the two ends are: a number that was closed may be another file by now, even a connection of ours."""
        try:
            return os.fstat(self._hears).st_ino, os.fstat(self._rope).st_ino
        except OSError:
            return 0, 0

    def close(self) -> None:
        """Let go of the pipe. Nobody may ring any more."""
        os.close(self._hears)
        os.close(self._rope)
