"""A thread that does one thing again and again, and outlives whatever that raises."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread
from typing import Final

from qik_core.errors import QikError

log: Final = logging.getLogger("reconciler")


class Periodic:
    """Calls `once` on a thread of its own, again and again; says when it begins to fail and when it works again.

    `pause` is the seconds between two calls, or says them after each.
    """

    def __init__(
        self, name: str, pause: float | Callable[[], float], once: Callable[[], None]
    ) -> None:
        self._name = name
        self._pause = pause
        self._once = once
        self._wake = Event()
        self._stopping = False
        self._failing = False
        self._thread = Thread(target=self._run, name=f"reconciler-{name}", daemon=True)

    def start(self) -> None:
        """Begin; the first call comes at once."""
        self._thread.start()

    def hurry(self) -> None:
        """Have the next call come at once."""
        self._wake.set()

    def stop(self, seconds: float) -> bool:
        """End after the call under way; False if that did not come in time."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._once()
            except QikError as error:
                if not self._failing:
                    log.warning("%s fails", self._name, extra={"error": str(error)})
                self._failing = True
            except Exception:  # this thread must outlive whatever a driver may raise
                log.exception("%s fails", self._name)
                self._failing = True
            else:
                if self._failing:
                    log.info("%s works again", self._name)
                self._failing = False
            if not self._stopping:
                self._wake.wait(self._pause() if callable(self._pause) else self._pause)
