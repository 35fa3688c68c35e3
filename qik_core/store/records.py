"""What a person may do with jobs that wait or are dead: one script each, atomic against workers.

Every change names the exact bytes of a job: who removes them owns it, so two people and a worker who reach for one job make
one change of it. Calls are sent once. After a lost answer the same call is safe again: what was done is not there any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from qik_core.store import keys
from qik_core.store.cursors import Call, members, pages
from qik_core.store.link import Arg
from qik_core.store.push import MOST
from qik_core.store.recovery import holders
from qik_core.store.store import Store
from qik_core.store.windows import Entry, ListReader, SortedReader, Window, typed

CANCEL_SECONDS: Final = 86_400.0
"""For how long a jid stays cancelled."""
_OVERLAP: Final = 50  # entries looked at twice, in case that others delete before them meanwhile


class Claim(NamedTuple):
    """One job as a script acts on it."""

    raw: bytes
    jid: str
    digest: str = ""
    """Of its lock; empty without one."""
    seconds: int = 0
    """`unique_for`."""
    note: bytes = b""
    """What the reconciler is told when that is done: see `store.ended`; empty: nothing."""


class Move(NamedTuple):
    """A job that goes to a queue."""

    claim: Claim
    queue: str
    raw: bytes
    """What stands on the queue, without `enqueued_at`."""


class _Kind(NamedTuple):
    """Of a key and of what is done: the type that it must have, and how many of the dead are kept, for how long."""

    is_list: bool
    keep: tuple[int, float] | None = None

    def args(self) -> tuple[Arg, ...]:
        return ("list" if self.is_list else "zset", *(self.keep or ()))

    def row(self, claim: Claim) -> tuple[Arg, ...]:
        told = () if self.keep is None else (claim.note,)
        return (claim.digest, claim.jid, claim.raw, *told)


class Records:
    """The jobs in the lists and sorted sets of one Redis. Safe to use from many threads.

    All methods raise StoreError, and WrongType where a key holds something else.
    """

    def __init__(self, store: Store) -> None:
        self._links = store.links
        self._candidate = store.candidate
        self._milliseconds = "1" if store.milliseconds else ""

    # --- read ----------------------------------------------------------------

    def list_windows(self, key: bytes) -> ListReader:
        """Return a reader of a list, newest first."""
        return ListReader(self._links, key)

    def sorted_windows(self, key: bytes) -> SortedReader:
        """Return a reader of a sorted set, lowest score first."""
        return SortedReader(self._links, key)

    def size(self, key: bytes, *, is_list: bool) -> int:
        """Return how many there are."""
        with typed(key):
            count: int = self._links.call("LLEN" if is_list else "ZCARD", key)
        return count

    def oldest(self, key: bytes, count: int) -> Window:
        """Return the oldest jobs of a list, at most 500, next to be fetched last."""
        count = min(count, MOST)
        with typed(key):
            raws = self._links.call("LRANGE", key, -count, -1)
        return Window([Entry(raw) for raw in raws], -count)

    def at_score(self, key: bytes, score: float, skip: int = 0) -> list[Entry]:
        """Return the members with this score, a millionth of a second either way: at most 500, behind the first `skip`."""
        edges = (f"{score - 1e-6:.7f}", f"{score + 1e-6:.7f}")
        with typed(key):
            rows = self._links.call("ZRANGEBYSCORE", key, *edges, "WITHSCORES", "LIMIT", skip, MOST)
        return _entries(rows)

    def all_at_score(
        self,
        key: bytes,
        score: float,
        *,
        until: float,
        now: Callable[[], float] = time.monotonic,
    ) -> Iterator[Entry]:
        """Yield the members of a sorted set with this score, some twice: the first 500, then on until that moment."""
        skip, entries = 0, self.at_score(key, score)
        yield from entries
        while len(entries) == MOST and now() < until:
            skip += MOST - _OVERLAP
            entries = self.at_score(key, score, skip)
            yield from entries

    def search_list(self, key: bytes, text: str) -> Iterator[Entry]:
        """Yield the entries of a list that contain this text; the server looks."""
        at, read = 0, MOST
        while read == MOST:
            with typed(key):
                read, *raws = self._links.run("find", (key,), (at, MOST, text))
            yield from map(Entry, raws)
            at += MOST - _OVERLAP

    def search_sorted(
        self, key: bytes, text: str, more: Callable[[], bool] = lambda: True
    ) -> Iterator[Entry]:
        """Yield the members of a sorted set that contain this text: the server looks, at first 1,000, on while `more` says so."""
        pattern = f"*{_escaped(text)}*"
        for at, rows in enumerate(pages(self._call_on(key), "ZSCAN", key, rest=("MATCH", pattern))):
            yield from _entries(rows)
            if at and not more():
                return

    def queues(self) -> list[str]:
        """Return the names of all queues that were ever pushed to, sorted."""
        return self._names(keys.QUEUES)

    def suspects(self) -> list[str]:
        """Return the names of the queues that have suspects, sorted."""
        return self._names(keys.SUSPECTS)

    def is_paused(self, queue: str) -> bool:
        """Whether nothing is fetched from a queue."""
        with typed(keys.PAUSED):
            return bool(self._links.call("SISMEMBER", keys.PAUSED, queue))

    def time(self) -> float:
        """Return the server's clock, epoch seconds."""
        seconds, micros = self._links.call("TIME")
        return int(seconds) + int(micros) / 1e6

    # --- change --------------------------------------------------------------

    def drop(
        self, key: bytes, claims: Sequence[Claim], *, at: int | None, is_list: bool
    ) -> list[bool]:
        """Delete jobs and free their locks; says for each whether it was there.

        `at` is where the window of a list was read in which they are; None looks for each in the whole list.
        """
        return self._take("drop", key, claims, at, _Kind(is_list))

    def bury(
        self,
        key: bytes,
        claims: Sequence[Claim],
        *,
        at: int | None,
        is_list: bool,
        keep: tuple[int, float],
    ) -> list[bool]:
        """Make jobs dead and free their locks; `keep` says how many of the dead are kept, and for how many seconds."""
        return self._take("bury", key, claims, at, _Kind(is_list, keep))

    def requeue(self, key: bytes, moves: Sequence[Move]) -> list[str]:
        """Put jobs of a sorted set on their queues.

        Returns for each `1`, `0` when it was not there any more, or `=` and the jid of the job that holds its key.
        """
        args: list[Arg] = [self._candidate.text, self._milliseconds]
        for move in moves:
            claim = move.claim
            args += (claim.digest, claim.seconds, claim.jid, move.queue, claim.raw, move.raw)
            args.append(claim.note)
        with typed(key):
            answers = self._links.run("requeue", (key,), args)
        return [answer.decode("utf-8", "replace") for answer in answers]

    def reschedule(self, key: bytes, claims: Sequence[Claim], when: float) -> list[bool]:
        """Let jobs of a sorted set become due at `when`, epoch seconds; says for each whether it was there."""
        rows = [(claim.digest, claim.seconds, claim.jid, claim.raw) for claim in claims]
        return self._flags("reschedule", key, (f"{when:.6f}",), rows)

    def pause(self, queue: str, *, on: bool) -> bool:
        """Let every fetch pass over a queue, or serve it again; says whether that changed something."""
        with typed(keys.PAUSED):
            return bool(self._links.run("pause", (), (queue, "1" if on else "0")))

    def cancel(self, jid: str, *, on: bool) -> None:
        """Let a job neither start nor go on running for a day, wherever it is; or take that back."""
        with typed(keys.CANCELLED):
            self._links.run("cancel", (), (jid, CANCEL_SECONDS if on else ""))

    def held(self) -> Iterator[tuple[str, bytes]]:
        """Yield every job that a process holds: its identity, the payload. A job that moves meanwhile may be missed."""
        link = self._links.borrow()
        try:
            hashes = holders(link)
        finally:
            self._links.give(link)
        for working in hashes:
            identity = working[len(keys.WORKING_PREFIX) :].decode("utf-8", "replace")
            for key in (working, keys.recovering(identity)):
                for raw in self._values(key):
                    yield identity, raw

    def _values(self, key: bytes) -> Iterator[bytes]:
        for rows in pages(self._call_on(key), "HSCAN", key):
            pairs = zip(rows[::2], rows[1::2], strict=True)
            yield from (raw for name, raw in pairs if name not in (b"#", b"@"))

    def _names(self, key: bytes) -> list[str]:
        return members(self._call_on(key), key)

    def _call_on(self, key: bytes) -> Call:
        def call(*args: Arg) -> Any:
            with typed(key):
                return self._links.call(*args)

        return call

    def _take(
        self, name: str, key: bytes, claims: Sequence[Claim], at: int | None, kind: _Kind
    ) -> list[bool]:
        """Take jobs out of their window; what pushes have moved out of it meanwhile is looked for one at a time."""
        rows = [kind.row(claim) for claim in claims]
        flags = self._flags(name, key, ("" if at is None else at, *kind.args()), rows)
        if at is not None:
            for place, flag in enumerate(flags):
                if not flag:
                    flags[place] = self._flags(name, key, ("", *kind.args()), rows[place:][:1])[0]
        return flags

    def _flags(
        self, name: str, key: bytes, front: Sequence[Arg], rows: Sequence[Sequence[Arg]]
    ) -> list[bool]:
        if len(rows) > MOST:
            raise ValueError(f"{name} takes at most {MOST} jobs, these are {len(rows)}")
        args: list[Arg] = [self._candidate.text, *front]
        for row in rows:
            args += row
        with typed(key):
            flags: Any = self._links.run(name, (key,), args)
        return [flag == ord("1") for flag in flags]


def _entries(rows: Sequence[bytes]) -> list[Entry]:
    return [Entry(raw, float(score)) for raw, score in zip(rows[::2], rows[1::2], strict=True)]


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in "*?[]^-\\" else each for each in text)
