"""What `push.lua`, `told.lua`, the fetch and the settling of an exchange decide, in memory: jobs and their locks.

The same words and the same order of questions as `store/lua/lib/claim.lua` and `place.lua`. A test pushes the same jobs
into this and into a real server and compares every answer.
"""

from __future__ import annotations

import math
import os
import threading
import time
from bisect import insort, insort_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from qik_core.errors import NotEnqueued
from qik_core.payload import Payload, Until
from qik_core.results import Code
from qik_core.store import Chunk, Origin

_REMEMBERED: Final = 30.0  # seconds for which a call that was sent twice is known
_NO_VERSION: Final = b"------"
_RUNNING_FOR: Final = 90.0  # 3 L: the least life of a running lock
_DUPLICATE: Final = {
    "q": Code.DUPLICATE_QUEUED,
    "s": Code.DUPLICATE_SCHEDULED,
    "r": Code.DUPLICATE_RUNNING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One job that waits."""

    name: str
    """Of its class."""
    raw: bytes
    jid: str
    queue: str
    at: float | None
    """When it is due, in epoch seconds; None on its queue."""
    digest: bytes | None
    seconds: int
    until: Until


@dataclass(frozen=True, slots=True)
class Lock:
    """The record of a key: see `docs/internals.md`. `state` is one of q s r."""

    state: str
    jid: str
    expiry: float
    version: bytes = _NO_VERSION
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class _Item:
    """One job of a push."""

    entry: Entry
    version: bytes
    is_pass: bool
    timed: bool


@dataclass(slots=True)
class Memory:
    """Jobs that wait, on queues or for their time, and the locks. Safe to use from many threads.

    `now` gives epoch seconds.
    """

    now: Callable[[], float] = time.time
    superseded: int = 0
    """Copies that were dropped because another one held their key."""
    counts: Counter[str] = field(default_factory=Counter)
    """Totals that a server would keep for people."""
    _queued: list[Entry] = field(default_factory=list)
    """Of all queues, next to be fetched first."""
    _timed: list[Entry] = field(default_factory=list)
    """Next to be due first."""
    _moved: list[Entry] = field(default_factory=list)
    """Brought forward by the present push: they go behind what it puts on the queue itself."""
    _locks: dict[bytes, Lock] = field(default_factory=dict)
    _sent: dict[bytes, tuple[list[Code], str, float]] = field(default_factory=dict)
    _mutex: threading.RLock = field(default_factory=threading.RLock)
    _process: int = field(default_factory=os.getpid)

    # --- push ----------------------------------------------------------------

    def push(self, chunk: Chunk) -> tuple[list[Code], str]:
        """Return a code per job, and the jid that stands for the last one's key.

        Raises:
            NotEnqueued: in a forked process, whose copy of this memory nobody would look at.
        """
        if os.getpid() != self._process:
            raise NotEnqueued(
                "a forked process pushed, and the jobs of this mode are in its parent's memory: use real()"
            )
        with self._mutex:
            now = self.now()
            known = self._sent.get(chunk.jids[0])
            if known is not None and now < known[2]:
                return known[0], known[1]
            self.promote()
            codes, jid = [], ""
            for item in _items(chunk, now):
                code, jid = self._place(item, now)
                codes.append(code)
            self._queued += self._moved
            self._moved.clear()
            self._sent[chunk.jids[0]] = (codes, jid, now + _REMEMBERED)
            return codes, jid

    def _place(self, item: _Item, now: float) -> tuple[Code, str]:
        entry = item.entry
        lock = self._locks.get(entry.digest) if entry.digest is not None else None
        code = None if lock is None else self._meet(lock, item, now)
        if lock is not None and code is not None:
            return code, lock.jid
        self._add(entry)
        if entry.digest is not None:
            self._hold(entry, item.version)
        return Code.ENQUEUED, entry.jid

    def _meet(self, lock: Lock, item: _Item, now: float) -> Code | None:
        """Say what a push meets under a lock that exists; None when the lock counts as absent."""
        if lock.jid == item.entry.jid:
            return Code.ENQUEUED
        if lock.state == "r":
            return self._meet_running(lock, item)
        if lock.expiry < now:
            return _DUPLICATE[lock.state] if item.is_pass else None
        if lock.state == "s" and not item.is_pass and not item.timed:
            return self._advance(lock, item.entry, now)
        return _DUPLICATE[lock.state]

    def _meet_running(self, lock: Lock, item: _Item) -> Code:
        newer = _NO_VERSION not in (item.version, lock.version) and item.version != lock.version
        if item.is_pass and not newer:
            return Code.DUPLICATE_RUNNING
        version = lock.version if item.version == _NO_VERSION else item.version
        self._set(item.entry, replace(lock, dirty=True, version=version))
        return Code.DIRTIED

    def _advance(self, lock: Lock, entry: Entry, now: float) -> Code:
        for there in self._timed:
            if there.jid == lock.jid:
                self._timed.remove(there)
                self._moved.append(stamped(there, now))
                expiry = math.ceil(now + entry.seconds)
                self._set(entry, Lock("q", lock.jid, expiry, lock.version))
                return Code.ADVANCED
        return Code.DUPLICATE_SCHEDULED

    def _add(self, entry: Entry) -> None:
        if entry.at is None:
            self._queued.append(entry)
        else:
            insort(self._timed, entry, key=_due)

    def _hold(self, entry: Entry, version: bytes) -> None:
        """Lock the key of a job that waits."""
        state, due = ("q", self.now()) if entry.at is None else ("s", entry.at)
        self._set(entry, Lock(state, entry.jid, math.ceil(due + entry.seconds), version))

    def _set(self, entry: Entry, lock: Lock) -> None:
        assert entry.digest is not None  # noqa: S101 - a lock was found by it
        self._locks[entry.digest] = lock

    # --- look ----------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Return the jobs that wait: those on queues, next to be fetched first, then those that wait for their time."""
        with self._mutex:
            self.promote()
            return [*self._queued, *self._timed]

    def told(self, digests: Sequence[bytes], versions: Sequence[bytes] | None) -> list[bool]:
        """Say for each key whether a job exists for it; a running one of an older row version does not count."""
        tags = versions or [_NO_VERSION] * len(digests)
        with self._mutex:
            return [self._is_told(*each) for each in zip(digests, tags, strict=True)]

    def _is_told(self, digest: bytes, version: bytes) -> bool:
        lock = self._locks.get(digest)
        if lock is None:
            return False
        return (
            lock.state != "r" or _NO_VERSION in (version, lock.version) or version == lock.version
        )

    # --- fetch and settle --------------------------------------------------------

    def promote(self) -> None:
        """Put the jobs whose time has come on their queues, the earliest first."""
        with self._mutex:
            now = self.now()
            while self._timed and _due(self._timed[0]) <= now:
                self._queued.append(stamped(self._timed.pop(0), now))

    def take(self, wanted: Callable[[Entry], bool], *, scheduled: bool = True) -> Entry | None:
        """Fetch the next of the wanted jobs, its lock now running: what is on a queue first, then what is due first.

        None: there is none. A copy whose key another one holds is dropped and counted.
        """
        with self._mutex:
            self.promote()
            for source in (self._queued, self._timed) if scheduled else (self._queued,):
                for entry in [each for each in source if wanted(each)]:
                    source.remove(entry)
                    if self._take_lock(entry):
                        return entry
                    self.superseded += 1
            return None

    def give_back(self, entry: Entry) -> None:
        """Return a fetched job to where it was, next to be fetched."""
        with self._mutex:
            lock = self._own(entry)
            if entry.at is None:
                self._queued.insert(0, entry)
            else:
                insort_left(self._timed, entry, key=_due)
            if lock is not None:
                self._hold(entry, lock.version)
            elif entry.until == "start":
                self._hold(entry, _NO_VERSION)

    def _take_lock(self, entry: Entry) -> bool:
        if entry.digest is None:
            return True
        lock, now = self._locks.get(entry.digest), self.now()
        if lock is not None and (
            lock.state == "r" or (lock.jid != entry.jid and lock.expiry >= now)
        ):
            return False
        if entry.until == "start":
            self._locks.pop(entry.digest, None)
            return True
        version = _NO_VERSION if lock is None else lock.version
        expiry = math.ceil(now + max(entry.seconds, _RUNNING_FOR))
        self._set(entry, Lock("r", entry.jid, expiry, version))
        return True

    def end(self, entry: Entry) -> None:
        """Settle a job that is over: its lock is freed, or the job waits once more where an edge came meanwhile."""
        with self._mutex:
            lock = self._own(entry)
            if lock is None:
                return
            if lock.dirty:
                self._put_back(entry, lock)
            else:
                self._locks.pop(entry.digest or b"", None)

    def again(self, entry: Entry, delay: float) -> None:
        """Settle a job that asked to run again after `delay` seconds."""
        with self._mutex:
            lock = self._own(entry)
            if lock is not None and lock.dirty:
                self._put_back(entry, lock)
                return
            later = replace(entry, at=self.now() + delay)
            self._add(later)
            if lock is not None:
                self._hold(later, lock.version)

    def forget(self, wanted: Callable[[Entry], bool]) -> int:
        """Delete the wanted jobs with their locks, and say how many they were."""
        with self._mutex:
            gone = [each for each in (*self._queued, *self._timed) if wanted(each)]
            self._queued = [each for each in self._queued if not wanted(each)]
            self._timed = [each for each in self._timed if not wanted(each)]
            for entry in gone:
                lock = self._locks.get(entry.digest or b"")
                if lock is not None and lock.jid == entry.jid:
                    del self._locks[entry.digest or b""]
            return len(gone)

    def _own(self, entry: Entry) -> Lock | None:
        lock = self._locks.get(entry.digest or b"") if entry.until == "success" else None
        return lock if lock is not None and (lock.state, lock.jid) == ("r", entry.jid) else None

    def _put_back(self, entry: Entry, lock: Lock) -> None:
        queued = replace(entry, at=None)
        self._queued.append(queued)
        self._hold(queued, lock.version)


def _items(chunk: Chunk, now: float) -> Iterator[_Item]:
    times = _times(chunk, now)
    for place, raw in enumerate(chunk.payloads):
        time_ = times[place] if times is not None else None
        entry = Entry(
            name=Payload.decode(raw).class_name,
            raw=raw,
            jid=chunk.jids[place].decode(),
            queue=chunk.queue,
            at=time_,
            digest=chunk.digests[place] if chunk.digests and chunk.seconds else None,
            seconds=chunk.seconds,
            until=chunk.until,
        )
        if time_ is not None and time_ <= now:
            entry = stamped(entry, now)
        version = chunk.versions[place] if chunk.versions else _NO_VERSION
        yield _Item(entry, version, chunk.origin is Origin.PASS, times is not None)


def _times(chunk: Chunk, now: float) -> Sequence[float] | None:
    if chunk.delays is not None:
        return [now + delay for delay in chunk.delays]
    return chunk.due


def _due(entry: Entry) -> float:
    return entry.at or 0.0


def stamped(entry: Entry, now: float) -> Entry:
    """Return the job as it stands on its queue."""
    payload = Payload.decode(entry.raw)
    whole = type(payload.get("created_at")) is int
    time_ = int(now * 1000) if whole else now
    return replace(entry, raw=payload.replace(enqueued_at=time_).encode(), at=None)
