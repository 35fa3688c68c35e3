"""The job threads of a process, and the pocket of fetched jobs that they share.

Threads take jobs from one deque, which is a lock-free step under the GIL, and put outcomes into another. So a thread that
runs short jobs takes many in its turn, and a slow one holds nothing back from the others.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Final

from qik_core import logs, tallies
from qik_core.context import Context
from qik_core.store.exchange import Fetched, Outcome

FRESH: Final = 1.0
"""A job starts only if the epoch was looked at within the last second."""

Process = Callable[[Fetched, Callable[[Context], None]], Outcome | None]
"""Performs a job; None when its outcome comes later, from another thread, straight into `done`."""
Marker = Callable[[bytes], None]


class Crew:
    """N job threads. The courier fills the pocket and empties `done`."""

    def __init__(
        self, process: Process, markers: Sequence[Marker], ring: Callable[[], None]
    ) -> None:
        self.size = len(markers)
        self.pocket: deque[Fetched] = deque()
        self.done: deque[Outcome] = deque()
        self.looked_at = 0.0
        """When the epoch was last looked at, monotonic; the courier moves it on."""
        self.wants_to_hear = False
        """The courier sleeps and wants a ring when a job has ended."""
        self._process = process
        self._markers = markers
        self._ring = ring
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._busy: list[Fetched | None] = [None] * self.size
        self._contexts: list[Context | None] = [None] * self.size
        self._runs = [0] * self.size
        self._seconds = [0.0] * self.size
        self._since = [0.0] * self.size
        self._forked = False
        self._stopped = False
        os.register_at_fork(after_in_child=self._note_fork)

    def start(self, name: str = "job") -> None:
        """Start the threads, named with this and a number; they end with the process or `stop`."""
        for slot in range(self.size):
            threading.Thread(
                target=self._work, args=(slot,), name=f"{name}-{slot}", daemon=True
            ).start()

    def stop(self) -> None:
        """End the threads once they run nothing. The pocket must be empty."""
        self._stopped = True
        for _ in range(self.size):
            self._calls.put(None)

    @property
    def idle(self) -> int:
        """How many threads run nothing."""
        return self._busy.count(None)

    @property
    def runs(self) -> int:
        """How many jobs were started so far."""
        return sum(self._runs)

    @property
    def seconds(self) -> float:
        """How long they took, all together."""
        return sum(self._seconds)

    def running(self) -> list[Fetched]:
        """Return the jobs that run now."""
        return [job for job in self._busy if job is not None]

    def running_since(self) -> list[tuple[Fetched, float]]:
        """Return the jobs that run now, and when each began, monotonic."""
        pairs = zip(tuple(self._busy), tuple(self._since), strict=True)
        return [(job, since) for job, since in pairs if job is not None]

    def waiting(self) -> list[Fetched]:
        """Return the jobs in the pocket, the next one first; nothing when it changes under the look."""
        try:
            return list(self.pocket)
        except RuntimeError:
            return []

    def add(self, jobs: Iterable[Fetched]) -> None:
        """Put jobs into the pocket and call threads for them."""
        self.pocket.extend(jobs)
        self.call(len(self.pocket))

    def call(self, jobs: int) -> None:
        """See that up to so many threads look into the pocket."""
        for _ in range(min(self.idle, jobs) - self._calls.qsize()):
            self._calls.put(None)

    def settle(self, outcome: Outcome) -> None:
        """Take the outcome of a run whose thread has gone on."""
        if tallies.current is not None:
            tallies.current.ended(outcome)
        self.done.append(outcome)
        if self.wants_to_hear:
            self._ring()

    def empty_pocket(self) -> list[Fetched]:
        """Take back every job that no thread has started."""
        taken: list[Fetched] = []
        while True:
            try:
                taken.append(self.pocket.pop())
            except IndexError:
                return taken

    def cancel(self, fields: Iterable[bytes]) -> None:
        """Ask the runs of these jobs to stop at their next checkpoint."""
        wanted = set(fields)
        for job, context in zip(list(self._busy), list(self._contexts), strict=True):
            if job is not None and context is not None and job.field in wanted:
                context.cancel()

    def blame(self, field: bytes) -> None:
        """Let the parent find this job alone as started, since the process is about to end because of it."""
        for job, mark in zip(tuple(self._busy), self._markers, strict=True):
            if job is not None and job.field != field:
                mark(b"")

    def _work(self, slot: int) -> None:
        mark = self._markers[slot]
        enter, process = partial(self._contexts.__setitem__, slot), self._performer(slot)
        logs.speak_for(partial(self._contexts.__getitem__, slot))
        while True:
            try:
                job = self.pocket.popleft()
            except IndexError:
                if self._stopped:
                    return
                self._calls.get()
                continue
            began = time.monotonic()
            if began - self.looked_at > FRESH:
                self.pocket.appendleft(job)
                self._calls.get()
                continue
            self._since[slot] = began
            self._busy[slot] = job
            mark(job.field)
            self._runs[slot] += 1
            outcome = process(job, enter)
            if self._forked:
                os._exit(0)
            self._seconds[slot] += time.monotonic() - began
            if outcome is not None:
                self.done.append(outcome)
            self._contexts[slot] = None
            self._busy[slot] = None
            mark(b"")
            if self.wants_to_hear:
                self._ring()

    def _performer(self, slot: int) -> Process:
        """Return what performs a job; nothing stands in front of it where nobody counts."""
        counting = tallies.current
        if counting is None:
            return self._process
        return counting.around(self._process, self._contexts, self._since, slot)

    def _note_fork(self) -> None:
        self._forked = True
