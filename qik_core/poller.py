"""Jobs whose time has come go to their queues.

Every process looks, since a look that finds nothing costs 20 µs of Redis; a random spread keeps them apart. After a look
that found work it looks again at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from qik_core.errors import StoreError, StoreUnavailable
from qik_core.store import due
from qik_core.store.link import Link

log: Final = logging.getLogger("qik_core.worker")


class Poller:
    """The poller of one process. `run` is its thread."""

    def __init__(
        self,
        link: Callable[[], Link],
        queues: Sequence[str],
        every: float,
        *,
        clock: Callable[[], float],
        dice: Callable[[], float],
        milliseconds: bool,
    ) -> None:
        self._link = link()
        self._sources = due.sources(list(queues))
        self._every = every
        self._clock = clock
        self._dice = dice
        self._milliseconds = milliseconds
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopping.set()

    def run(self) -> None:
        """Look, sleep, look."""
        while not self._stopping.is_set():
            pause = self._every * (0.5 + self._dice())
            try:
                pause = min(pause, self.look())
            except StoreUnavailable as error:
                log.warning("the poller could not look", extra={"error": str(error)})
            except Exception:
                log.exception("the poller met a defect; it goes on")
            self._stopping.wait(pause)

    def look(self) -> float:
        """Move what is due; returns the seconds until the next job that is known is due. Raises StoreUnavailable."""
        soonest = float("inf")
        for source in self._sources:
            try:
                next_due = self._move(source)
            except StoreUnavailable:
                raise
            except (
                StoreError
            ) as error:  # one key that somebody spoiled must not keep the others waiting
                log.warning(
                    "the poller could not look", extra={"source": source, "error": str(error)}
                )
            else:
                if next_due is not None:
                    soonest = min(soonest, max(next_due - self._clock(), 0.01))
        return soonest

    def _move(self, source: bytes) -> float | None:
        malformed = 0
        moved = due.promote(self._link, source, milliseconds=self._milliseconds)
        while moved.jobs + moved.malformed and not self._stopping.is_set():
            malformed += moved.malformed
            moved = due.promote(self._link, source, milliseconds=self._milliseconds)
        malformed += moved.malformed
        if malformed:
            log.error(
                "no jobs: set aside in the dead set", extra={"count": malformed, "source": source}
            )
        return moved.next_due
