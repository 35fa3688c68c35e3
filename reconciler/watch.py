"""Which life of Redis this process knows: the loss id of the epoch, looked at often, by whoever needs it.

Looks are one at a time, so an older answer never replaces a newer one.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Final

from qik_core.passes import Passes, Witness
from reconciler.lost import LossKind, Noticed, Seen, judge

EVERY: Final = 0.5
"""Seconds between two looks."""
_AFTER: Final = 60.0
"""Seconds behind a loss of everything in which worker processes find that what they held is gone: that is part of it."""


class Watch:
    """The loss id, shared by the passes of one process. Thread-safe.

    `name` is that of the process: `witness` leaves its mark under it.
    """

    def __init__(
        self, seam: Passes, now: Callable[[], float] = monotonic, *, name: str = ""
    ) -> None:
        self._seam = seam
        self._now = now
        self._name = name
        self._looking = Lock()
        self._loss = ""
        self._looked = float("-inf")
        self._seen: Seen | None = None
        self._life = ""
        self._lost_at = float("-inf")
        self._failed = False
        self.moved = False
        """Another server answered the last witness than the one before, or it had restarted in between."""
        self._broken = False

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

    def witness(self) -> Noticed | None:
        """Look, and return what was lost since the last time that this was called. Raises StoreError."""
        with self._looking:
            began, failed, self._failed = self._now(), self._failed, True
            found = self._seam.witness(self._name)
            before, self._loss, self._looked = self._seen, found.epoch.loss, began
            self._failed, self.moved = False, False
            if failed or before is None or not _as_left(found, before):
                life, self._life = self._life, self._seam.life()  # not asked each time
                self.moved = before is not None and life != self._life
            self._seen = Seen.of(found, self._life)
            noticed = None if before is None else judge(before, found, self._life)
            return self._told(noticed)

    def leave(self) -> None:
        """Take away the mark of this process. Raises StoreError."""
        self._seam.witness(self._name, leave=True)

    def _told(self, noticed: Noticed | None) -> Noticed | None:
        if noticed is None:
            return None
        if noticed.whole:
            self._lost_at = self._now()
        elif noticed.kind is LossKind.HELD and self._now() - self._lost_at < _AFTER:
            return None
        return noticed


def _as_left(found: Witness, before: Seen) -> bool:
    return found.epoch.loss == before.loss and found.before == before.number
