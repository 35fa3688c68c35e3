"""Questions with a deadline, each on a thread of its own: who does not answer in time must not hold up the others."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_IMPORTED: Final = time.monotonic()
_STARTED: Final = 19
"""Where `/proc/self/stat` says when this process was started, behind its name: counted since the machine was."""

_OLDEST: Final = 60.0
"""Seconds: a command that seems to be older runs where the system does not tell the truth of this."""


def started() -> float:
    """Return when this process was started, in monotonic seconds; where the system does not say, when this was imported."""
    try:
        after_name = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2]
        count = int(after_name.split()[_STARTED])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - count / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED
    return time.monotonic() - age if 0 <= age < _OLDEST else _IMPORTED


class Asked(Generic[T]):
    """A question that is under way, and what came of it by a deadline in monotonic seconds."""

    def __init__(self, ask: Callable[[], T], until: float) -> None:
        self.error: Exception | None = None
        self.late = False
        """No answer had come by the deadline."""
        self._answer: T | None = None
        self._until = until
        self._began = time.monotonic()
        self._thread = threading.Thread(
            target=self._run, args=(ask,), name="reconciler-asked", daemon=True
        )
        self._thread.start()

    def answer(self, late: Callable[[str], Exception], whom: str) -> T | None:
        """Return the answer; None where `error` says why there is none."""
        self._thread.join(max(0.0, self._until - time.monotonic()))
        self.late = self._thread.is_alive()
        if self.late:
            waited = time.monotonic() - self._began
            self.error = late(f"no answer from {whom} within {waited:.1f} s")
        return self._answer if self.error is None else None

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            self._answer = ask()
        except Exception as error:  # noqa: BLE001 - shown beside what the others answered
            self.error = error
