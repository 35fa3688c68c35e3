"""Back-pressure: whether a pass may tell more rows now, or leaves them in SQL, where a backlog costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from qik_core.errors import QikError
from qik_core.passes import Passes
from reconciler.definition import Definition


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
        room, reason = self._room(definition)
        with self._lock:
            if room == 0:
                self._shut.add(definition.unit)
            else:
                self._shut.discard(definition.unit)
        return room, reason

    def opened(self, definition: Definition) -> bool:
        """Whether a gate that was shut is open again; False for one that was open, and while Redis does not answer."""
        if not self._is_shut(definition):
            return False
        try:
            return self.room(definition)[0] != 0
        except QikError:
            return False

    def _is_shut(self, definition: Definition) -> bool:
        with self._lock:
            return definition.unit in self._shut

    def _room(self, definition: Definition) -> tuple[int | None, str]:
        marks = definition.backpressure
        unwell = next(filter(None, map(_asked, marks.health)), "")
        if unwell:
            return 0, unwell
        queue = definition.queue or definition.facts.queue
        seen = self._seam.pressure(queue)
        if seen.memory >= marks.memory:
            return (
                0,
                f"Redis is {min(seen.memory, 1):.0%} full, passes wait from {marks.memory:.0%} on",
            )
        if marks.high is None:
            return None, ""
        most = marks.resume if self._is_shut(definition) else marks.high - 1
        room = marks.high - seen.depth if seen.depth <= most else 0
        return room, (
            f"{seen.depth:,} jobs wait on {queue}: passes fill it up to {marks.high:,}, and go on at {marks.resume:,}"
        )


def _asked(hook: Callable[[], str | None]) -> str:
    """Return why passes should wait; a hook that fails says nothing good."""
    try:
        return str(hook() or "")
    except Exception as error:  # noqa: BLE001 - an application's own
        name = getattr(hook, "__qualname__", repr(hook))
        return f"health hook {name} failed: {type(error).__name__}: {error}"
