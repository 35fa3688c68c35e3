"""Works that take longer than a page may: they go on behind it, one at a time, and pages say how far they are.

A work ends with the process of the dashboard; whatever is begun here can be repeated.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from qik_core.errors import QikError
from qik_core.web.asked import Problem
from qik_core.web.showing import cut
from reconciler.web.texts import TEXT

log: Final = logging.getLogger("reconciler")

PATIENCE: Final = 1.0
"""Seconds for which a page waits for a work to end."""
MOST: Final = 300
"""Lines that are shown of how one ended."""


@dataclass(slots=True)
class Work:
    """One of them."""

    number: int
    text: str
    """What is done."""
    began_at: float
    """Epoch seconds."""
    progress: str = ""
    stopping: bool = False
    """Somebody asked for its end; only those that look at this obey."""
    done: bool = False
    seconds: float = 0.0
    """How long it took; 0 while it goes on."""
    lines: list[str] = field(default_factory=list)
    """How it ended, for people."""
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "number": self.number,
            "text": cut(self.text, TEXT),
            "began_at": datetime.fromtimestamp(self.began_at, UTC),
            "progress": cut(self.progress, TEXT),
            "stopping": self.stopping,
            "done": self.done,
            "seconds": round(self.seconds, 3),
            "lines": [cut(each, TEXT) for each in self.lines[:MOST]],
            "result": self.result,
            "error": cut(self.error, TEXT),
        }


class Behind:
    """One work at a time, on a thread of its own; the last one is kept. Thread-safe."""

    def __init__(self) -> None:
        self.last: Work | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def begin(self, text: str, do: Callable[[Work], None]) -> Work:
        """Begin a work, and wait for it a little; `do` writes into it how far it is, and how it ended.

        Raises:
            Problem: another one goes on.
        """
        with self._lock:
            if self.last is not None and not self.last.done:
                raise Problem(409, f"{self.last.text} goes on: wait until it has ended")
            work = self.last = Work(next(self._numbers), text, time.time())
        thread = threading.Thread(
            target=_run, args=(work, do), name="reconciler-web-behind", daemon=True
        )
        thread.start()
        thread.join(PATIENCE)
        return work


def _run(work: Work, do: Callable[[Work], None]) -> None:
    began = time.monotonic()
    try:
        do(work)
        log.info("%s has ended", work.text, extra={"lines": work.lines})
    except QikError as error:
        work.error = str(error)
        log.warning("%s ended early", work.text, extra={"error": work.error})
    except Exception:
        work.error = "failed: the log of the dashboard says why"
        log.exception("%s failed", work.text)
    finally:
        work.seconds = time.monotonic() - began
        work.done = True
