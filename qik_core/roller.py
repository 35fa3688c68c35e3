"""Locks behind which no job stands are collected: once an hour, and when somebody asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from qik_core import hooks
from qik_core.errors import StoreError
from qik_core.store import rolls
from qik_core.store.link import Link
from qik_core.store.store import Candidate

log: Final = logging.getLogger("qik_core.worker")

HOURLY: Final = 3600.0
AT_MOST_EVERY: Final = 300.0
_PATIENCE: Final = 60.0


class Roller:
    """The roller of one process. `run` is its thread; one process walks at a time."""

    def __init__(
        self, link: Callable[[], Link], candidate: Candidate, walker: str, *, dice: float
    ) -> None:
        self._link = link()
        self._candidate = candidate
        self._walker = walker
        self._asked = threading.Event()
        self._stopping = False
        self._last = time.monotonic()
        self._hourly = HOURLY * (1 + dice)

    def ask(self) -> None:
        """Somebody met locks past their window: look, but at most every five minutes."""
        if time.monotonic() - self._last >= AT_MOST_EVERY:
            self._asked.set()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopping = True
        self._asked.set()

    def run(self) -> None:
        """Roll when asked, and once an hour."""
        while True:
            self._asked.wait(self._hourly)
            if self._stopping:
                return
            self._asked.clear()
            self._last = time.monotonic()
            try:
                left = rolls.roll(
                    self._link, self._candidate, self._walker, deadline=self._last + _PATIENCE
                )
            except StoreError as error:
                log.warning("a roll failed; the next one takes it up", extra={"error": str(error)})
            except Exception as error:  # noqa: BLE001 - told, and it goes on
                hooks.defect("roller", error)
            else:
                if left:
                    log.warning("locks without a job were removed", extra={"count": left})
