"""Back-pressure: whether a pass may tell more rows now, or leaves them in SQL, where a backlog costs nothing."""

from __future__ import annotations

import logging
from threading import Lock
from typing import Final

from qik_core.passes import Passes
from reconciler.definition import Definition

log: Final = logging.getLogger("reconciler")


class Gates:
    """The gates of one process: a reconciler that met its high mark waits until it is below its low one. Thread-safe."""

    def __init__(self, seam: Passes) -> None:
        self._seam = seam
        self._shut: set[str] = set()
        self._lock = Lock()

    def room(self, definition: Definition) -> tuple[int | None, str]:
        """Return how many rows may be told now (None: any number), and why it is not any number.

        Raises:
            StoreError: Redis did not answer.
        """
        marks = definition.backpressure
        for hook in marks.health:
            reason = hook()
            if reason:
                return 0, str(reason)
        queue = definition.queue or definition.facts.queue
        seen = self._seam.pressure(queue)
        if seen.memory >= marks.memory:
            return (
                0,
                f"Redis is {min(seen.memory, 1):.0%} full, passes wait from {marks.memory:.0%} on",
            )
        if marks.high is None:
            return None, ""
        return self._below(definition, marks.high, seen.depth, queue)

    def _below(self, definition: Definition, high: int, depth: int, queue: str) -> tuple[int, str]:
        low = definition.backpressure.resume
        with self._lock:
            if depth >= high:
                self._shut.add(definition.unit)
            elif depth <= low:
                self._shut.discard(definition.unit)
            shut = definition.unit in self._shut
        reason = f"{depth:,} jobs on {queue}: passes wait from {high:,} on until there are {low:,}"
        return (0 if shut else high - depth), reason
