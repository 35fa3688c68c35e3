"""The kill switches as one process knows them: looked at once a second, kept through every outage. Read `look` first.

What cannot be read, and what is not there, changes nothing: the last known snapshot stays. What jobs were refused is counted
here and told with the next look, so that a refusal costs no call.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from qik_core.errors import BadSnapshot, StoreError, StoreUnavailable
from qik_core.switches import NOTHING, UNKNOWN, Snapshot

log: Final = logging.getLogger("qik_core.switches")
EVERY: Final = 1.0
"""Seconds between two looks of a program that pushes."""

Ask = Callable[[int, Mapping[str, int]], bytes]
"""Takes the version that is known and what flags have stopped since; returns a newer snapshot, or nothing."""


class Board:
    """The snapshot of one process. Safe to use from many threads.

    `configured`: a provider is named in the settings, so while no snapshot was ever seen a class's `on_unknown` counts.
    `now` is monotonic, in seconds.
    """

    def __init__(
        self,
        *,
        configured: bool = False,
        every: float = EVERY,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.snapshot = UNKNOWN if configured else NOTHING
        """What is known now."""
        self._every = every
        self._now = now
        self._next = float("-inf")
        self._looking = threading.Lock()
        self._counting = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._ask: Ask | None = None
        self._garbage = b""
        self._process = 0

    def look(self, ask: Ask) -> bool:
        """Look for a newer snapshot if the last look is old; says whether it has looked.

        Raises:
            StoreUnavailable: nobody answered; what is known stays, and it is not asked again for a second.
        """
        if self._now() < self._next or not self._looking.acquire(blocking=False):
            return False
        try:
            self._next = self._now() + self._every
            self._look(ask)
            return True
        finally:
            # Again: an ask that hung would otherwise be made with every call.
            self._next = self._now() + self._every
            self._looking.release()

    def take(self, snapshot: Snapshot) -> bool:
        """Go by this snapshot from now on, if it is newer, and not the ignorance of a process that has just started."""
        before = self.snapshot
        forgets = not snapshot.known and before.known and before.version > 0
        if snapshot.version <= before.version or forgets:
            return False
        self.snapshot = snapshot
        if (snapshot.rules, snapshot.known) != (before.rules, before.known):
            flags = ", ".join(snapshot.rules) or "none"
            log.info("kill switches changed", extra={"flags": flags, "known": snapshot.known})
        return True

    def count(self, flag: str, jobs: int) -> None:
        """Count jobs that a flag has stopped; told with the next look, or when the process ends.

        What is no flag goes to the totals that are kept for people.
        """
        with self._counting:
            if not self._counts:
                self._tell_at_exit()
            self._counts[flag] += jobs

    def flush(self) -> None:
        """Tell what was counted, now, if somebody answers."""
        if self._ask is not None and self._counts:
            with suppress(StoreError):
                self._asked(self._ask)

    def _look(self, ask: Ask) -> None:
        self._ask = ask
        raw = b""
        try:
            raw = self._asked(ask)
            if raw:
                self.take(Snapshot.parse(raw))
        except StoreUnavailable:
            raise
        except StoreError as error:
            log.warning("the kill switches could not be read", extra={"error": str(error)})
        except BadSnapshot as error:
            self._complain(raw, error)

    def _asked(self, ask: Ask) -> bytes:
        with self._counting:
            counts, self._counts = self._counts, Counter()
        try:
            return ask(self.snapshot.version, counts)
        except StoreError:
            with self._counting:
                self._counts += counts
            raise

    def _complain(self, raw: bytes, error: BadSnapshot) -> None:
        """Say it once of the same bytes, and count it with the next look."""
        if raw != self._garbage:
            self._garbage = raw
            log.error(
                "what stands as kill switches is none: the last known ones stay",
                extra={"error": str(error)},
            )
            self.count("switches_unreadable", 1)

    def _tell_at_exit(self) -> None:
        process = os.getpid()
        if self._process != process:
            self._process = process
            atexit.register(lambda: self.flush() if os.getpid() == process else None)
