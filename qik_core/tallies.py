"""What a process counts for its metrics: runs by class and end, waits by queue, pushes by code. Off until `begin`.

One count serves Prometheus and Sidekiq's Metrics page: its buckets end where those of either end.

A run that ends well costs a tenth to a quarter of a microsecond, without a lock: each job thread has tallies of its own, and
who reads adds them up. All else that happens to a job is rare, and takes a lock.
"""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from qik_core import registry
from qik_core.context import Context
from qik_core.errors import MalformedPayload
from qik_core.payload import Payload
from qik_core.probes.families import BOUNDS
from qik_core.results import Code
from qik_core.store.exchange import Done, Fetched, Kind, Other, Outcome
from qik_core.store.minutes import BUCKETS

UNKNOWN: Final = "-"
"""Stands for every class that is not defined here: what others push must not make metrics."""
_SIDEKIQS: Final = tuple(bound / 1000 for bound in BUCKETS)
FINE: Final = tuple(sorted({*BOUNDS, *_SIDEKIQS}))
"""Upper bounds of the buckets that are counted, seconds."""
_SHORTEST: Final = FINE[0]
_ENQUEUED: Final = re.compile(rb'"enqueued_at":(\d+(?:\.\d+)?)}$')
_MILLISECONDS: Final = 1e11  # a later time than that is in milliseconds, as Sidekiq 8 writes it
_TAIL: Final = 48

Perform = Callable[[Fetched, Callable[[Context], None]], Outcome | None]


class End(StrEnum):
    """How a run, or a job without one, ended."""

    DONE = "done"
    NO_PROGRESS = "no_progress"  # ended well, and its row is pending still
    RETRY = "retry"
    LATER = "later"  # not failed, and runs again
    DEAD = "dead"
    GONE = "gone"  # expired, cancelled, stale, skipped, discarded
    HELD = "held"  # its class is switched off
    OFF = "off"  # its class is switched off, and a reconciler tells it again


_ENDS: Final = {
    Kind.RETRY: End.RETRY,
    Kind.LATER: End.LATER,
    Kind.DEAD: End.DEAD,
    Kind.GONE: End.GONE,
    Kind.HELD: End.HELD,
    Kind.OFF: End.OFF,
}


class Tally:
    """The runs of one class on one thread, or the waits on one queue.

    Those that failed stand apart from the others: neither number ever falls, whoever reads meanwhile.
    """

    __slots__ = ("bad", "bad_seconds", "counts", "done", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(FINE) + 1)
        """By bucket, not added up."""
        self.seconds = 0.0
        self.done = 0
        self.bad: dict[int, int] = {}
        """By bucket: what failed."""
        self.bad_seconds = 0.0

    def saw(self, seconds: float, many: int = 1) -> None:
        """Count what took so long."""
        self.counts[bisect_left(FINE, seconds)] += many
        self.seconds += seconds * many

    def saw_bad(self, seconds: float) -> None:
        """Count a run that failed."""
        bucket = bisect_left(FINE, seconds)
        self.bad[bucket] = self.bad.get(bucket, 0) + 1
        self.bad_seconds += seconds

    def add(self, other: Tally) -> None:
        """Add what another one counted. Seconds are counted last and read first: who sees them sees their runs too."""
        self.seconds += other.seconds
        self.bad_seconds += other.bad_seconds
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.done += other.done
        for bucket, many in list(other.bad.items()):
            self.bad[bucket] = self.bad.get(bucket, 0) + many

    @property
    def runs(self) -> int:
        """How many there were."""
        return sum(self.counts) + self.failed

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(self.bad.values())

    @property
    def spent(self) -> float:
        """How long all of them took, seconds."""
        return self.seconds + self.bad_seconds

    def by_bound(self) -> list[int]:
        """Return all of them by the bounds of Prometheus' histograms, and one more for what lies above."""
        return _folded(self.counts, _TO_BOUNDS, self.bad)

    def sidekiqs(self) -> list[int]:
        """Return those that did not fail by the bounds of Sidekiq's histograms, and one more for what lies above."""
        return _folded(self.counts, _TO_SIDEKIQS)


def _places(bounds: Sequence[float]) -> list[int]:
    """Return where each of our buckets goes among coarser ones."""
    return [*(bisect_left(bounds, each) for each in FINE), len(bounds)]


_TO_BOUNDS: Final = _places(BOUNDS)
_TO_SIDEKIQS: Final = _places(_SIDEKIQS)


def _folded(
    counts: Sequence[int], places: Sequence[int], further: Mapping[int, int] = MappingProxyType({})
) -> list[int]:
    found = [0] * (places[-1] + 1)
    for place, count in zip(places, counts, strict=True):
        found[place] += count
    for bucket, count in further.items():
        found[places[bucket]] += count
    return found


class _ByName(dict[str, Tally]):
    def __missing__(self, name: str) -> Tally:
        made = self[name] = Tally()
        return made


class Tallies:
    """Everything that one worker process counts."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._threads: list[_ByName] = []
        self._ends: Counter[tuple[str, End]] = Counter()
        self._waits = _ByName()
        self._pushes: Counter[str] = Counter()

    # --- counting --------------------------------------------------------------

    def around(
        self,
        perform: Perform,
        contexts: Sequence[Context | None],
        since: Sequence[float],
        slot: int,
    ) -> Perform:
        """Return what performs a job on one thread, and counts it. `since` says when the run began, monotonic."""
        mine = _ByName()
        self._threads.append(mine)
        monotonic = time.monotonic

        def counted(job: Fetched, entered: Callable[[Context], None]) -> Outcome | None:
            outcome = perform(job, entered)
            spent = monotonic() - since[slot]
            context = contexts[slot]
            if context is None:  # over before it began
                self.ended(outcome)
                return outcome
            tally = mine[context.payload.fields["class"]]
            if type(outcome) is Other and outcome.failed:
                self.ended(outcome)
                tally.saw_bad(spent)
                return outcome
            # Written out: a call would cost as much as all of this.
            tally.counts[bisect_left(FINE, spent) if spent > _SHORTEST else 0] += 1
            tally.seconds += spent
            if type(outcome) is Done:
                tally.done += 1
            else:
                self.ended(outcome)
            return outcome

        return counted

    def ended(self, outcome: Outcome | None) -> None:
        """Count an outcome that came by another way than the quick one; None: it comes later."""
        if outcome is not None:
            with self._lock:
                self._ends[_class_of(outcome), _end_of(outcome)] += 1

    def fetched(self, jobs: Sequence[Fetched]) -> None:
        """Count how long jobs waited: those of one fetch and one queue as long as the first of them."""
        if not jobs:
            return
        if jobs[0].queue == jobs[-1].queue:
            self._waited(jobs[0], len(jobs))
            return
        for queue, many in Counter(job.queue for job in jobs).items():
            self._waited(next(job for job in jobs if job.queue == queue), many)

    def pushed(self, codes: Iterable[Code]) -> None:
        """Count what became of pushes."""
        with self._lock:
            self._pushes.update(codes)

    def _waited(self, job: Fetched, many: int) -> None:
        """Only the courier calls this: no lock."""
        if (found := _ENQUEUED.search(job.raw, max(len(job.raw) - _TAIL, 0))) is not None:
            at = float(found[1])
            at = at / 1000 if at > _MILLISECONDS else at
            self._waits[job.queue].saw(max(0.0, self._now() - at), many)

    # --- reading ---------------------------------------------------------------

    def runs(self) -> dict[str, Tally]:
        """Return the runs of all threads by class."""
        return {name: self.of(name) for name in self.spent()}

    def spent(self) -> dict[str, float]:
        """Return how long all runs took by class, seconds: what has not changed has run nothing since."""
        total: dict[str, float] = {}
        for each in self._threads:
            for name, tally in list(each.items()):
                total[name] = total.get(name, 0.0) + tally.spent
        return total

    def of(self, name: str) -> Tally:
        """Return the runs of all threads of one class."""
        total = Tally()
        for each in self._threads:
            if (tally := each.get(name)) is not None:
                total.add(tally)
        return total

    def ends(self, runs: Mapping[str, Tally]) -> Counter[tuple[str, End]]:
        """Return how many ended how, by class. `runs` are those of `runs()`: a page tells them once."""
        with self._lock:
            found = Counter(self._ends)
        for name, tally in runs.items():
            found[name, End.DONE] += tally.done
        return found

    def waits(self) -> dict[str, Tally]:
        """Return the waits by queue."""
        return dict(self._waits)

    def pushes(self) -> Counter[str]:
        """Return how many pushes had each code."""
        with self._lock:
            return Counter(self._pushes)


def _class_of(outcome: Outcome) -> str:
    try:
        name = Payload.decode(outcome.job.raw).class_name
    except MalformedPayload:
        return UNKNOWN
    return name if registry.find(name) is not None else UNKNOWN


def _end_of(outcome: Outcome) -> End:
    if not isinstance(outcome, Other):
        return End.DONE
    if outcome.kind is Kind.GONE and not outcome.counter:
        return End.NO_PROGRESS
    return _ENDS[outcome.kind]


current: Tallies | None = None
"""What this process counts into; None: nothing is counted."""


def begin() -> Tallies:
    """Count from now on, in the whole process."""
    global current  # noqa: PLW0603 - pushes come from everywhere
    current = current or Tallies()
    return current
