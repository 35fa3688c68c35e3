"""The seam for flush, export and import: what waits in Redis, job by job, and what moves. `reconciler` decides about each job.

    look      every job of ours that waits, in windows; writes nothing
    run       put aside, sort, put back; repeatable after a death half-way, and safe beside workers and other flushes
    restore   jobs of an export go back, each once

Only jobs that begin as ours are ever removed. What Ruby has pushed stays, byte for byte, whatever its class; so do jobs
that a process holds: a flush neither stops what runs nor starts it a second time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from qik_core import registry
from qik_core.checks import ask_for
from qik_core.client import open_store
from qik_core.definition import Definition
from qik_core.errors import ArgumentError, MalformedPayload
from qik_core.payload import MALFORMED, Payload, Unique, header
from qik_core.rows import Asked
from qik_core.settings import current
from qik_core.store import Store
from qik_core.store.flush import CHUNK, FlushStore, Home, Place, TurnLost, home_of
from qik_core.store.records import Claim
from qik_core.store.windows import Entry, ListReader, Window

__all__ = ["Asked", "Flushing", "Found", "Home", "Judge", "Place", "Seen", "home_of"]

_PAUSE: Final = 0.2
_TURNS: Final = 10


@dataclass(frozen=True, slots=True)
class Found:
    """One job of ours, as it was read."""

    raw: bytes
    home: Home
    name: str
    """Its class, by its present name where this process defines it."""
    queue: str
    jid: str
    digest: str
    """The key of its lock; empty if it has none."""
    score: float | None = None
    """In a sorted set: when it is due, or when it died. Epoch seconds."""
    asked: Asked | None = None
    """The question about its row; None where this process does not define the class, or the arguments do not fit it."""
    defined: bool = False
    """Whether this process defines its class."""

    @classmethod
    def of(cls, raw: bytes, home: Home, score: float | None = None) -> Found | None:
        """Return the job in these bytes; None for what is not ours."""
        head = header(raw)
        if head is None:
            return None
        mark, jid, queue = head
        unique = Unique.parse(mark)
        payload = _payload(raw)
        if payload is None:
            definition, asked, name = None, None, MALFORMED
        else:
            definition = registry.find(payload.class_name)
            asked = None if definition is None else _question(definition, payload)
            name = payload.class_name if definition is None else definition.name
        return cls(
            raw,
            home,
            name,
            home.queue or queue,
            jid,
            unique.digest if unique else "",
            score,
            asked,
            definition is not None,
        )


def _question(definition: Definition, payload: Payload) -> Asked | None:
    try:
        return ask_for(definition, payload, definition.arguments.load(payload.args))
    except ArgumentError:
        return None


def _payload(raw: bytes) -> Payload | None:
    try:
        return Payload.decode(raw)
    except MalformedPayload:
        return None


class Seen(NamedTuple):
    """Some neighbours."""

    home: Home
    jobs: Sequence[Found]
    foreign: int
    """How many others there were: they are left alone."""


class Judge(Protocol):
    """Who decides what becomes of each job."""

    def judge(self, jobs: Sequence[Found], /) -> Sequence[bool]:
        """Say for each job whether it is to be removed. Called for 1 to 500, before any of them moves."""

    def ended(self, jobs: Sequence[Found], removed: Sequence[bool], /) -> None:
        """Take note of which of those to be removed were, some at a time: one that had moved meanwhile was not."""


class Flushing:
    """Redis, as a flush sees it. Not for two threads at once. All methods raise StoreError.

    `who` is told to others who would flush at the same time; `wait` takes seconds.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        who: str = "",
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._store = open_store(current()) if store is None else store
        self._redis = FlushStore(self._store, who)
        self._wait = wait

    # --- look ------------------------------------------------------------------------------------

    def look(self) -> Iterator[Seen]:
        """Yield everything that waits, also what a flush that died has put aside; counts of a live queue are approximate."""
        for home in self._redis.homes():
            for window in self._redis.windows(home):
                yield _seen(home, window)

    def running(self) -> Iterator[Found]:
        """Yield the jobs that processes hold: no flush touches them."""
        home = Home(Place.QUEUED, b"")
        for _, raw in self._redis.records.held():
            found = Found.of(raw, home)
            if found is not None:
                yield found

    def memory(self) -> tuple[int, int]:
        """Return how many bytes Redis uses, and how many it may: 0 without a limit, or where this user may not ask."""
        return self._redis.memory()

    # --- move ------------------------------------------------------------------------------------

    def run(
        self,
        judge: Judge,
        sources: Collection[bytes],
        *,
        whole: bool,
        waits: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Remove what the judge says, from these lists and sorted sets and from what is aside.

        `whole`: everything is meant, and the loss id changes: locks of all that is left are made anew, passes begin again.
        `waits` is told who flushes now, while this one waits for its turn. Raises TurnLost when others took it ten times.
        """
        for left in reversed(range(_TURNS)):
            with self._turn(waits):
                try:
                    self._all_steps(judge, sources, whole=whole)
                except TurnLost:
                    if not left:
                        raise
                else:
                    return
            self._wait(_PAUSE)

    @contextmanager
    def _turn(self, waits: Callable[[str], object]) -> Iterator[None]:
        while holder := self._redis.turn():
            waits(holder)
            self._wait(_PAUSE)
        try:
            yield
        finally:
            self._redis.give_up()

    def _all_steps(self, judge: Judge, sources: Collection[bytes], *, whole: bool) -> None:
        homes = [each for each in self._redis.homes() if not each.trash]
        loss = self._store.look().loss
        for home in homes:
            if home.key in sources and not home.goes_aside:
                self._thin(judge, home)
        for home in homes:
            if home.goes_aside and (home.key in sources or (whole and self._redis.has_some(home))):
                self._redis.aside(home)
        if whole:
            self._redis.renew(loss)
            self._relock()
        for home in self._redis.asides():
            self._sort(judge, home)

    def _thin(self, judge: Judge, home: Home) -> None:
        """Remove jobs where they are; what comes from now on is left, else this might never end."""
        last, reader = self._redis.last(home), self._redis.windows(home)
        for window in reader:
            self._redis.go_on()
            gone = self._chosen(judge, _seen(home, window).jobs)
            for start in range(0, len(gone), CHUNK):
                some = gone[start : start + CHUNK]
                claims = [Claim(job.raw, job.jid, job.digest) for job in some]
                removed = self._redis.drop(home, claims, window.at)
                judge.ended(some, removed)
                if isinstance(reader, ListReader):
                    reader.removed([job.raw for job, out in zip(some, removed, strict=True) if out])
            if last is None or any(_is_behind(each, last) for each in window.entries):
                break
        self._redis.go_on()  # a drop that has removed some does not say itself that the turn was lost

    def _relock(self) -> None:
        """Give all that is not aside its locks again, also where jobs have come since this flush began."""
        for home in self._redis.homes():
            locked = home.place is not Place.DEAD and not home.trash
            if locked and (not home.goes_aside or self._redis.has_some(home)):
                self._redis.relock(home)

    def _chosen(self, judge: Judge, jobs: Sequence[Found]) -> list[Found]:
        return (
            [job for job, out in zip(jobs, judge.judge(jobs), strict=True) if out] if jobs else []
        )

    def _sort(self, judge: Judge, home: Home) -> None:
        while True:
            length, raws = self._redis.head(home)
            if not raws:
                return
            found = [Found.of(raw, home) for raw in raws]
            jobs = [job for job in found if job is not None]
            said = iter(judge.judge(jobs) if jobs else ())
            gone = [job is not None and next(said) for job in found]
            done = self._redis.sort(home, length, gone)
            out = [job for job, out in zip(found, gone, strict=True) if job is not None and out]
            judge.ended(out, [done] * len(out))

    def removed(self, export: str, jids: Sequence[str]) -> set[str] | None:
        """Return which of these jids the last step removed that was noted under the id of a file that keeps jobs.

        None when that is not known any more.
        """
        return self._redis.removed(export, jids)

    def note(self, export: str) -> None:
        """Note from now on, under the id of the file, which jobs each step has removed; what was noted is forgotten."""
        self._redis.note(export)

    # --- put back --------------------------------------------------------------------------------

    def present(self, jids: AbstractSet[str]) -> set[str]:
        """Return those of these jids whose jobs wait, run or lie dead; one that moves meanwhile may be missed."""
        waiting = {job.jid for seen in self.look() for job in seen.jobs if job.jid in jids}
        return waiting | {job.jid for job in self.running() if job.jid in jids}

    def restore(
        self, export: str, home: Home, rows: Sequence[tuple[str, float | None, bytes]]
    ) -> list[str]:
        """Put at most 250 jobs of one export back where they were: jid, score in a sorted set, payload.

        Returns for each `1`, `0` when it was put back before or is there, or `=` and the jid of the job that holds its key.
        The last one of a list is fetched first.
        """
        return self._redis.restore(export, home, rows)


def _is_behind(entry: Entry, last: Entry) -> bool:
    """Whether a reader has come to the last one, or further."""
    return entry.raw == last.raw or (entry.score or 0.0) > (last.score or 0.0)


def _seen(home: Home, window: Window) -> Seen:
    found = [Found.of(each.raw, home, each.score) for each in window.entries]
    jobs = [job for job in found if job is not None]
    return Seen(home, jobs, len(found) - len(jobs))
