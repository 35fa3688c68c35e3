"""Which life of Redis this process knows: the loss id of the epoch, looked at often, by whoever needs it.

Looks are one at a time, so an older answer never replaces a newer one.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Final

from qik_core.passes import Passes

EVERY: Final = 0.5
"""Seconds between two looks."""


class Watch:
    """The loss id, shared by the passes of one process. Thread-safe."""

    def __init__(self, seam: Passes, now: Callable[[], float] = monotonic) -> None:
        self._seam = seam
        self._now = now
        self._looking = Lock()
        self._loss = ""
        self._looked = float("-inf")

    def look(self) -> str:
        """Return the loss id as Redis has it now. Raises StoreError."""
        with self._looking:
            began = self._now()
            self._loss = self._seam.look().loss
            self._looked = began
            return self._loss

    def recent(self) -> str:
        """Return the loss id, not older than EVERY. Raises StoreError."""
        return self._loss if self._now() - self._looked < EVERY else self.look()
