"""Pages of places, and jobs found again by what a page said of them: for whoever shows jobs and is asked again later.

A page costs the same wherever it is. What it gives for each job is a *mark*: the digest of its exact bytes and where they
were. Who acts by a mark acts on what was shown: a job that moved or changed meanwhile is not found.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from qik_core.api.cancelling import waiting_places
from qik_core.api.filters import Filter
from qik_core.api.holding import HeldList
from qik_core.api.processes import WorkSet
from qik_core.api.record import JobRecord, Location, State
from qik_core.api.sets import (
    DeadSet,
    JobSet,
    LaterSet,
    Queue,
    RetrySet,
    ScheduledSet,
    SuspectList,
    Where,
)
from qik_core.client import current as current_client
from qik_core.errors import ArgumentError, DefinitionError
from qik_core.options import did_you_mean
from qik_core.store import Store, trace
from qik_core.store.pages import list_page, search, sorted_page
from qik_core.store.records import Records
from qik_core.store.windows import Entry

PATIENCE: Final = 0.6
"""Seconds for which a filter or a search looks; then it says how far it came."""
MOST_JOBS: Final = 100
"""Of one page."""
_WINDOW: Final = 100  # of jobs that a filter looks at; each may have a megabyte
_BEFORE, _BEHIND = 100, 400  # entries around a mark's index: a queue moves while people read
_MARK: Final = re.compile(r"([0-9a-f]{16})@([0-9.e+-]{1,32}|-?inf)", re.ASCII)
_IN_LIST: Final = re.compile(r"\d{1,12}", re.ASCII)
_IN_SET: Final = re.compile(r"(-?(?:[0-9.]{1,20}(?:e[+-]?\d{1,3})?|inf)):(\d{1,12})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mark:
    """Exactly these bytes, where they were."""

    digest: str
    """16 hexadecimal characters."""
    at: float
    """In a sorted set the score, in a list the index from the push end."""

    def __str__(self) -> str:
        return f"{self.digest}@{self.at!r}"

    @classmethod
    def of(cls, raw: bytes, at: float) -> Mark:
        """Return the mark of these bytes."""
        return cls(_digest(raw), float(at))

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Return what `str` made.

        Raises:
            ArgumentError: it did not make this.
        """
        found = _MARK.fullmatch(text)
        at = _float(found[2]) if found else None
        if found is None or at is None:
            raise ArgumentError(f"{text!r:.60} is no mark of a job: take it from a page")
        return cls(found[1], at)


@dataclass(frozen=True, slots=True)
class Marked:
    """A job, where it was found, and its mark."""

    place: str
    """As `named` takes it; empty where it runs."""
    job: JobRecord
    mark: Mark


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of one place."""

    jobs: Sequence[Marked]
    after: str
    """Where the next page begins; empty at the end."""
    looked: int
    """How many jobs were looked at."""


# --- places by name ------------------------------------------------------------------------------

_SETS: Final = {"scheduled": ScheduledSet, "retries": RetrySet, "dead": DeadSet}
_OF_QUEUES: Final = {"queue": Queue, "later": LaterSet, "suspects": SuspectList}
_HELD: Final = {"held": False, "held+": True}
_LONGEST: Final = 300


def named(name: str, store: Store | None = None) -> JobSet:
    """Return a place: `scheduled`, `retries`, `dead`, or `queue:<name>`, `later:<queue>`, `suspects:<queue>`, `held:<class>`.

    `held+:<class>` has what was pushed while that class was switched off.

    Raises:
        ArgumentError: there is no such place.
    """
    kind, _, rest = name.partition(":")
    try:
        if not rest and kind in _SETS:
            return _SETS[kind](store)
        if rest and kind in _OF_QUEUES:
            return _OF_QUEUES[kind](rest, store)
    except DefinitionError as error:
        raise ArgumentError(f"{name!r:.80}: {error}") from None
    if rest and kind in _HELD and len(rest) <= _LONGEST:
        return HeldList(rest, store, pushed=_HELD[kind])
    kinds = [*_SETS, *(f"{each}:…" for each in (*_OF_QUEUES, *_HELD))]
    raise ArgumentError(f"there is no place {name!r:.80}{did_you_mean(name, kinds)}")


def name_of(place: JobSet) -> str:
    """Return the name by which `named` gives this place."""
    if isinstance(place, HeldList):
        pushed = place.location.key.endswith(b"+")
        return f"held{'+' if pushed else ''}:{place.name}"
    for kind, of_queue in _OF_QUEUES.items():
        if isinstance(place, of_queue):
            return f"{kind}:{place.location.queue}"
    return next(name for name, each in _SETS.items() if isinstance(place, each))


def all_places(store: Store | None = None) -> list[JobSet]:
    """Return every place in which there may be jobs that do not run."""
    store = store or current_client().store
    return [*waiting_places(store), DeadSet(store)]


# --- pages ---------------------------------------------------------------------------------------


def page(
    place: JobSet,
    where: Where = "",
    *,
    after: str = "",
    count: int = 25,
    patience: float = PATIENCE,
    store: Store | None = None,
) -> Page:
    """Return the jobs that a filter means, up to `count`: of a queue and of the dead the newest first, else the next due.

    With a filter it looks for at most `patience` seconds; then the page may have fewer jobs, and says where to go on.

    Raises:
        FilterError, ArgumentError: the filter or `after` cannot be read, or the count cannot be.
    """
    if type(count) is not int or not 1 <= count <= MOST_JOBS:
        raise ArgumentError(f"page: count is {count!r:.40}: use 1 to {MOST_JOBS}")
    wanted, until, looked = Filter.parse(where), time.monotonic() + patience, 0
    found: list[Marked] = []
    cursor = _cursor(place.location, after, (store or current_client().store))
    size, name = (_WINDOW if wanted.terms else count + 1), name_of(place)
    while True:
        entries = cursor.read(size)
        for entry in entries:
            if len(found) == count:
                return Page(found, str(cursor), looked)
            job, at = JobRecord.of(entry.raw, place.location, entry.score), cursor.step(entry)
            looked += 1
            if wanted(job):
                found.append(Marked(name, job, Mark.of(entry.raw, at)))
        if len(entries) < size:
            return Page(found, "", looked)
        if time.monotonic() >= until:
            return Page(found, str(cursor), looked)


def count_of(
    place: JobSet,
    where: Where,
    *,
    patience: float = PATIENCE,
    store: Store | None = None,
) -> tuple[int, bool]:
    """Return how many jobs a filter means, and whether that is all of them; else there was no time to look further."""
    wanted = Filter.parse(where)
    if not wanted.terms:
        return place.size, True
    until, total = time.monotonic() + patience, 0
    cursor = _cursor(place.location, "", store or current_client().store)
    while entries := cursor.read(_WINDOW):
        for entry in entries:
            cursor.step(entry)
            total += wanted(JobRecord.of(entry.raw, place.location, entry.score))
        if time.monotonic() >= until:
            return total, len(entries) < _WINDOW
    return total, True


@dataclass(slots=True)
class _ListCursor:
    store: Store
    key: bytes
    at: int

    def read(self, count: int) -> list[Entry]:
        return list_page(self.store.links, self.key, self.at, count)

    def step(self, _: Entry) -> float:
        self.at += 1
        return self.at - 1

    def __str__(self) -> str:
        return str(self.at)


@dataclass(slots=True)
class _SetCursor:
    store: Store
    key: bytes
    start: tuple[float, int] | None
    newest: bool

    def read(self, count: int) -> list[Entry]:
        return sorted_page(self.store.links, self.key, self.start, count, newest=self.newest)

    def step(self, entry: Entry) -> float:
        score = entry.score or 0.0
        ties = self.start[1] if self.start is not None and self.start[0] == score else 0
        self.start = (score, ties + 1)
        return score

    def __str__(self) -> str:
        score, skip = self.start or (-math.inf, 0)
        return f"{score!r}:{skip}"


def _cursor(location: Location, after: str, store: Store) -> _ListCursor | _SetCursor:
    if location.is_list:
        if after and _IN_LIST.fullmatch(after) is None:
            raise ArgumentError(f"after is {after!r:.60}: take it from the page before")
        return _ListCursor(store, location.key, int(after or 0))
    start, found = None, _IN_SET.fullmatch(after)
    if after:
        score = _float(found[1]) if found else None
        if found is None or score is None:
            raise ArgumentError(f"after is {after!r:.60}: take it from the page before")
        start = (score, int(found[2]))
    return _SetCursor(store, location.key, start, newest=location.state is State.DEAD)


# --- one job -------------------------------------------------------------------------------------


def again(
    place: JobSet,
    mark: Mark,
    jid: str = "",
    *,
    patience: float = PATIENCE,
    store: Store | None = None,
) -> JobRecord | None:
    """Return exactly the job that was marked, None if it has moved or changed.

    With its id a long list is searched; that, and many jobs of one score, for as many seconds as `patience` says.
    """
    store, location = store or current_client().store, place.location
    until = time.monotonic() + patience
    for entry in _around(location, mark, store, until):
        if _digest(entry.raw) == mark.digest:
            return JobRecord.of(entry.raw, location, entry.score)
    if not location.is_list or not jid:
        return None
    rows = search(store.links, location.key, jid, until=until)
    raws = (raw for _, raw in rows if _digest(raw) == mark.digest)
    return next((JobRecord.of(raw, location) for raw in raws), None)


def look(jid: str, store: Store | None = None, *, patience: float = PATIENCE) -> Marked | None:
    """Return the job of an id, wherever it waits, runs or lies dead; None if it was not found in time. Writes nothing."""
    store = store or current_client().store
    work = WorkSet(store).find(jid)
    if work is not None:
        return Marked("", work.job, Mark.of(work.job.raw, 0.0))
    spot = trace.find(store, jid, patience=patience)
    if spot is None:
        return None
    key = spot.key.encode()
    place = next((each for each in all_places(store) if each.location.key == key), None)
    if place is None:
        return _held_by_process(jid, store)
    at = float((spot.length or 0) - (spot.position or 0)) if spot.due is None else spot.due
    first = max(at - _BEFORE, 0)
    entries = _around(place.location, Mark("", at), store, time.monotonic() + patience)
    for offset, entry in enumerate(entries):
        job = JobRecord.of(entry.raw, place.location, entry.score)
        if job.jid == jid:
            index = first + offset if entry.score is None else entry.score
            return Marked(name_of(place), job, Mark.of(entry.raw, index))
    return None


def _held_by_process(jid: str, store: Store) -> Marked | None:
    """Return the job where a process has fetched it and has not said yet that it runs."""
    for identity, raw in Records(store).held():
        job = JobRecord.of(raw, Location(State.RUNNING, identity.encode()))
        if job.jid == jid:
            return Marked("", job, Mark.of(raw, 0.0))
    return None


def _around(location: Location, mark: Mark, store: Store, until: float) -> Iterator[Entry]:
    if location.is_list:
        at = int(max(min(mark.at, 1e12), 0) - _BEFORE)
        yield from list_page(store.links, location.key, max(at, 0), _BEFORE + _BEHIND)
    else:
        yield from Records(store).all_at_score(location.key, mark.at, until=until)


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value
