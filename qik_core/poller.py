"""Jobs whose time has come go to their queues.

Every process looks, since a look that finds nothing costs 20 µs of Redis; a random spread keeps them apart, and the more
processes there are the more seldom each of them looks, so that all together look about once in `every` seconds, as
Sidekiq's do. A process that knows when the next job is due looks at that moment.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from qik_core import hooks
from qik_core.errors import StoreError, StoreUnavailable
from qik_core.store import due
from qik_core.store.link import Link

log: Final = logging.getLogger("qik_core.worker")
_FIRST: Final = 1.0  # seconds within which the first look comes, spread so that a fleet does not look at one instant
_SHARED_BY: Final = 10  # processes; if there are more, they do not look more seldom


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
        self.processes = 1
        """How many processes look, this one included; the heartbeat knows."""
        self.release: Callable[[Link], float] = lambda _: float("inf")
        """Releases held jobs; returns the seconds until it should be asked again."""

    def stop(self) -> None:
        """End the thread soon."""
        self._stopping.set()

    def run(self) -> None:
        """Sleep, look, sleep."""
        self._stopping.wait(min(self._every, _FIRST) * self._dice())
        while not self._stopping.is_set():
            pause = self._pause()
            try:
                pause = min(pause, self.look())
            except StoreUnavailable as error:
                log.warning("the poller could not look", extra={"error": str(error)})
            except Exception as error:  # noqa: BLE001 - told, and it goes on
                hooks.defect("poller", error)
            self._stopping.wait(pause)

    def _pause(self) -> float:
        """Return for how long to sleep if no job is known to be due before: an interval on average, drawn around it."""
        among = min(self.processes, _SHARED_BY)
        if among <= 1:
            return self._every * (0.5 + self._dice() / 2)
        if among < _SHARED_BY:
            return self._every * among * (0.5 + self._dice())
        return self._every * among * 2 * self._dice()

    def look(self) -> float:
        """Move what is due; returns the seconds until the next job that is known is due. Raises StoreUnavailable.

        A batch from each place in turn, so that a retry set that is long due does not keep the scheduled jobs waiting.
        """
        soonest, busy = self._release(), list(self._sources)
        while busy:
            looked, busy = busy, []
            for source in looked:
                moved = self._move(source)
                if moved is None or self._stopping.is_set():
                    continue
                if moved.jobs + moved.malformed:
                    busy.append(source)
                elif moved.next_due is not None:
                    soonest = min(soonest, max(moved.next_due - self._clock(), 0.01))
        return soonest

    def _release(self) -> float:
        try:
            return self.release(self._link)
        except StoreUnavailable:
            raise
        except StoreError as error:
            log.warning("held jobs could not be released", extra={"error": str(error)})
        except Exception as error:  # noqa: BLE001 - told; what is due must not wait behind it
            hooks.defect("release", error)
        return float("inf")

    def _move(self, source: bytes) -> due.Moved | None:
        """Move one batch; None: somebody spoiled the key, which must not keep the others waiting."""
        try:
            moved = due.promote(self._link, source, milliseconds=self._milliseconds)
        except StoreUnavailable:
            raise
        except StoreError as error:
            log.warning("the poller could not look", extra={"source": source, "error": str(error)})
            return None
        if moved.malformed:
            log.error(
                "no jobs: set aside in the dead set",
                extra={"count": moved.malformed, "source": source},
            )
        return moved
