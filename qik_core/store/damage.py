"""What a drill does to a Redis of its own, and what it sees there. No worker, pass or command but the drill comes here.

Accidents need no script: nobody who deletes keys by hand asks whether that is one step. Retry policy: none, a drill
stops where its Redis does not answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from qik_core.errors import StoreError
from qik_core.store import keys
from qik_core.store.inspection import read_server
from qik_core.store.link import Arg, Link, Links
from qik_core.store.windows import ListReader, SortedReader

_SCAN: Final = 1000
_SHOWN: Final = 5
_UNLOCKED: Final = b""
_DIGEST: Final = re.compile(rb'\{"qik":"([\w-]{22})[ST]\d', re.ASCII)
_MARKS: Final = frozenset({b"#", b"@"})
_TRIES: Final = 20
"""Times that all keys are removed because one that was new outlived it."""
_MIXTURE: Final = (
    "this Redis holds a mixture now, neither what was there nor the snapshot alone and whole; "
    "put the snapshot back once more, or wipe it"
)


class Place(StrEnum):
    """Where a job can be."""

    SCHEDULED = "scheduled"
    RETRYING = "retrying"
    QUEUED = "queued"
    HELD = "held"
    RUNNING = "running"
    DEAD = "dead"


# Sources before targets: a job that moves meanwhile is met twice rather than missed. The retry set is both.
_PLACES: Final = (
    (b"qik:later:", Place.SCHEDULED),
    (keys.SCHEDULE, Place.SCHEDULED),
    (keys.RETRY, Place.RETRYING),
    (b"qik:held:", Place.HELD),
    (b"qik:suspect:", Place.QUEUED),
    (b"queue:", Place.QUEUED),
    (keys.WORKING_PREFIX, Place.RUNNING),
    (keys.RECOVERING_PREFIX, Place.RUNNING),
    (keys.RETRY, Place.RETRYING),
    (keys.DEAD, Place.DEAD),
)
_SORTED: Final = (b"qik:later:", keys.SCHEDULE, keys.RETRY, keys.DEAD)


@dataclass(frozen=True, slots=True)
class Census:
    """Which keys have jobs, and where. A key is a digest of 22 characters; empty for a job without a lock."""

    places: dict[Place, Counter[bytes]] = field(default_factory=dict)

    def at(self, *places: Place) -> set[bytes]:
        """Return the keys that have a job at one of these places."""
        return {key for place in places for key in self.places.get(place, ()) if key}

    def count(self, *places: Place) -> int:
        """Return how many jobs there are, those without a lock among them; at all places if none is named."""
        wanted = places or tuple(Place)
        return sum(self.places.get(place, Counter()).total() for place in wanted)

    @property
    def alive(self) -> set[bytes]:
        """The keys that have a job which will run, or runs."""
        return self.at(*(place for place in Place if place is not Place.DEAD))


@dataclass(frozen=True, slots=True)
class Residents:
    """What lives in a Redis, in all of its databases."""

    keys: int
    names: tuple[str, ...] = ()
    """Some of them, of the database that the URL names."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys of one instant: name, remaining milliseconds (0: for ever), serialised value."""

    entries: Sequence[tuple[bytes, int, bytes]]


class _Half(StoreError):
    """Not all was done."""


class Scratch:
    """A Redis that may be broken. Safe to use from many threads; all methods raise StoreError."""

    def __init__(self, url: str) -> None:
        self._links = Links(url)
        self._met: set[bytes] = set()
        """Names of all keys that were ever seen: a list that is empty now may be there again in a moment."""

    def close(self) -> None:
        """Drop the connections."""
        self._links.close()

    # --- what there is ---------------------------------------------------------------------------

    def server(self) -> str:
        """Return family and version, as in "valkey 9.1.0"."""
        with self._borrowed() as link:
            said = read_server(link)
        return f"{said.kind} {'.'.join(map(str, said.version))}"

    def residents(self) -> Residents:
        """Return what lives here."""
        with self._borrowed() as link:
            told: bytes = link.call("INFO", "keyspace")
            names = sorted(self._names(link))
        count = sum(map(int, re.findall(rb"keys=(\d+)", told)))
        return Residents(count, tuple(name.decode("utf-8", "replace") for name in names[:_SHOWN]))

    def census(self) -> Census:
        """Return every job."""
        with self._borrowed() as link:
            names = sorted(self._names(link))
        found: dict[Place, Counter[bytes]] = {place: Counter() for place in Place}
        for prefix, place in _PLACES:
            seen = found[place]
            for name in names:
                if name == prefix or (prefix.endswith(b":") and name.startswith(prefix)):
                    met = Counter(map(_digest, self._jobs(prefix, name)))
                    found[place] = seen = seen | met if prefix == keys.RETRY else seen + met
        return Census(found)

    def locks(self) -> int:
        """Return how many unique locks there are, of any generation."""
        with self._borrowed() as link:
            names = [name for name in self._names(link) if name.startswith(keys.UNIQUE)]
            return sum(len(set(link.call("HKEYS", name)) - _MARKS) for name in names)

    # --- accidents -------------------------------------------------------------------------------

    def wipe(self) -> int:
        """Remove every key at one instant, as an empty restart would; returns how many."""
        return self._replace(())

    def drop_lists(self) -> int:
        """Delete the lists of all queues, and leave the locks of what was in them."""
        return self._forget(b"queue:", b"qik:suspect:")

    def drop_locks(self) -> int:
        """Delete the unique locks, and leave the jobs that hold them."""
        return self._forget(keys.UNIQUE)

    def snapshot(self) -> Snapshot:
        """Return all keys as they are at one instant."""
        with self._borrowed() as link:
            names = self._names(link)
            asked: list[Sequence[Arg]] = []
            for name in names:
                asked += [("PTTL", name), ("DUMP", name)]
            answers = _at_once(link, asked)
        entries = zip(names, answers[::2], answers[1::2], strict=True)
        return Snapshot([(n, max(int(ttl), 0), raw) for n, ttl, raw in entries if raw is not None])

    def restore(self, snapshot: Snapshot) -> int:
        """Put an old snapshot in place of all that is there, at one instant; returns how many keys it had."""
        entries = snapshot.entries
        try:
            self._replace([("RESTORE", name, ttl, raw, "REPLACE") for name, ttl, raw in entries])
        except _Half as error:
            raise StoreError(f"{_MIXTURE}: {error}") from None
        return len(entries)

    def limit(self, size: int) -> int:
        """Set `maxmemory` in bytes, 0 for none; returns what it was."""
        with self._borrowed() as link:
            before = int(link.call("CONFIG", "GET", "maxmemory")[1])
            link.call("CONFIG", "SET", "maxmemory", size)
        return before

    # --- how -------------------------------------------------------------------------------------

    def _replace(self, commands: Sequence[Sequence[Arg]]) -> int:
        """Remove all keys and do this, at one instant; returns how many were removed.

        No name can be read in the transaction that removes it. What was seen once is removed unseen; a key that is new in
        that very moment would outlive what belongs to it, so then it is done again.

        Raises:
            StoreError: new keys came faster than that.
        """
        for _ in range(_TRIES):
            with self._borrowed() as link:
                self._names(link)
                gone: list[Sequence[Arg]] = [("UNLINK", *self._met)] if self._met else []
                size: Sequence[Arg] = ("DBSIZE",)
                before, *_, left = _at_once(link, [size, *gone, size, *commands])[: 2 + len(gone)]
            if not left:
                return int(before)
        raise _Half(
            f"new keys came while this Redis was emptied, {_TRIES} times: who else uses it?"
        )

    def _forget(self, *prefixes: bytes) -> int:
        with self._borrowed() as link:
            names = [name for name in self._names(link) if name.startswith(prefixes)]
            return int(link.call("UNLINK", *names)) if names else 0

    def _jobs(self, prefix: bytes, name: bytes) -> Iterable[bytes]:
        if prefix in (keys.WORKING_PREFIX, keys.RECOVERING_PREFIX):
            with self._borrowed() as link:
                fields: list[bytes] = link.call("HGETALL", name)
            return [
                raw
                for mark, raw in zip(fields[::2], fields[1::2], strict=True)
                if mark not in _MARKS
            ]
        reader = SortedReader if prefix in _SORTED else ListReader
        return [entry.raw for window in reader(self._links, name) for entry in window.entries]

    def _names(self, link: Link) -> list[bytes]:
        """Return the names of all keys."""
        found: dict[bytes, None] = {}
        cursor = b"0"
        while True:
            cursor, names = link.call("SCAN", cursor, "COUNT", _SCAN)
            found.update(dict.fromkeys(names))
            if cursor == b"0":
                self._met.update(found)
                return list(found)

    @contextmanager
    def _borrowed(self) -> Iterator[Link]:
        link = self._links.borrow()
        try:
            yield link
        finally:
            self._links.give(link)


def _at_once(link: Link, commands: Sequence[Sequence[Arg]]) -> list[Any]:
    """Send these commands as one transaction; returns their answers.

    Raises:
        StoreError: one of them was refused: nothing is done where that is seen before it begins, else all but that one.
    """
    try:
        link.call("MULTI")
        for command in commands:
            link.call(*command)
        answers: list[Any] = link.call("EXEC")
    except StoreError:
        link.close()  # else the next caller would find a transaction begun
        raise
    for command, answer in zip(commands, answers, strict=True):
        if isinstance(answer, Exception):
            raise _Half(f"Redis refused {command[:2]!r}, and did the rest: {answer}")
    return answers


def _digest(raw: bytes) -> bytes:
    found = _DIGEST.match(raw)
    return found[1] if found else _UNLOCKED
