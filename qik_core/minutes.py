"""What a worker process ran since its last beat, by class, for Sidekiq's Metrics page and ours.

A run counts into the minute in which it is written, a beat after its end at most. Nothing is kept for a better time:
what could not be written is not shown, so that no minute shows what ran in others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from qik_core.errors import StoreError
from qik_core.store import minutes
from qik_core.store.minutes import Ran
from qik_core.tallies import Tallies, Tally

log: Final = logging.getLogger("qik_core.worker")


class Minutes:
    """What is written of one process."""

    def __init__(self, tallies: Tallies, *, eight: bool) -> None:
        self._tallies = tallies
        self._eight = eight
        self._seen = tallies.spent()
        self._written = tallies.runs()
        self._said = ""

    def write(self, run: Callable[..., Any], now: float) -> None:
        """Write what ran since the last time into the minute of `now`, epoch seconds. `run` is `Link.run`.

        No error leaves it: a Redis that refuses these keys must not hinder beats.
        """
        rows = list(self._new())
        try:
            said = minutes.add(run, now, rows, eight=self._eight)
        except StoreError as error:
            said = str(error)
        if said and said != self._said:
            log.warning("metrics by class cannot be written", extra={"error": said})
        self._said = said

    def _new(self) -> Iterator[Ran]:
        for name, spent in self._tallies.spent().items():
            if spent != self._seen.get(name):
                before, after = self._written.get(name) or Tally(), self._tallies.of(name)
                self._seen[name], self._written[name] = spent, after
                yield _between(name, before, after)


def _between(name: str, before: Tally, after: Tally) -> Ran:
    well = [a - b for a, b in zip(after.sidekiqs(), before.sidekiqs(), strict=True)]
    return Ran(
        name,
        after.runs - before.runs,
        after.failed - before.failed,
        int(after.seconds * 1000) - int(before.seconds * 1000),
        well,
    )
