"""A roll: a new generation of locks, and a walk from the side of the jobs that carries over what is still wanted.

Sources are read before targets (held jobs, what a flush has put aside, schedule, later, retry, suspects, then the lists),
so that a job which moves while we walk is met at one of the two. Any process may walk; one at a time; one that died is
walked again in the generation it made.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from qik_core.store import keys
from qik_core.store.cursors import keys_like, members
from qik_core.store.epoch import Epoch
from qik_core.store.link import Link
from qik_core.store.recovery import holders
from qik_core.store.store import Candidate

_STEP: Final = 250
_NOT_YET: Final = -1
_ROLLER_SECONDS: Final = 60
_PREFIXES: Final = (keys.queue(""), keys.later(""), keys.suspect(""))
_HOLDS_JOBS: Final = b"q*:*"  # what else matches is filtered


class Roll:
    """One roll, walked by one process."""

    def __init__(self, link: Link, candidate: Candidate, walker: str) -> None:
        self._link = link
        self._candidate = candidate
        self._walker = walker
        self._generation = ""
        self._holders: list[bytes] = []

    def begin(self) -> bool:
        """Make the new generation, or take up the one that stands; False when another process walks."""
        args = (self._candidate.text, os.urandom(4).hex(), self._walker, _ROLLER_SECONDS)
        text, mine = self._link.run("roll_begin", (), args)
        self._generation = Epoch.parse(text).generation
        return bool(mine)

    def walk(self) -> bool:
        """Read every job once; False when the generation changed under us."""
        held = keys_like(self._link.call, keys.held("") + b"*")
        return (
            all(map(self._walk_one, held))
            and self._walk_asides()
            and all(map(self._walk_one, self._sources()))
            and self._walk_asides()  # a list may have gone aside since, before the walk had come to it
        )

    def end(self) -> int:
        """Drop the previous generation; says how many locks had no job.

        -1: somebody has not beaten yet; -2: the generation changed.
        """
        if not self._holders:  # who comes later begins in the new generation
            self._holders = [
                *holders(self._link),
                *keys_like(self._link.call, keys.UNIQUE + b"*"),
            ]
        args = (self._candidate.text, self._generation)
        left: int = self._link.run("roll_end", self._holders, args)
        return left

    def _sources(self) -> Iterator[bytes]:
        queues = sorted(_queues(self._link))
        yield keys.SCHEDULE
        yield from (keys.later(name) for name in queues)
        yield keys.RETRY
        yield from (keys.suspect(name) for name in queues)
        yield from (keys.queue(name) for name in queues)

    def _walk_asides(self) -> bool:
        return all(map(self._walk_aside, keys_like(self._link.call, keys.TRASH_PREFIX + b"*")))

    def _walk_aside(self, key: bytes) -> bool:
        """Read a list that a flush has put aside, from its far end: at the other end the flush takes jobs out of it."""
        at, read = _STEP, _STEP
        while read >= _STEP:
            args = (self._candidate.text, self._generation, -at, 0, _STEP)
            read, _, _ = self._link.run("roll_walk", (key,), args)
            if read < 0:
                return False
            at += _STEP
        return True

    def _walk_one(self, key: bytes) -> bool:
        kind = self._link.call("TYPE", key)
        position, ties, read = b"-inf" if kind == b"zset" else b"0", 0, _STEP
        while read >= _STEP:
            args = (self._candidate.text, self._generation, position, ties, _STEP)
            read, position, ties = self._link.run("roll_walk", (key,), args)
            if read < 0:
                return False
        return True


def roll(
    link: Link,
    candidate: Candidate,
    walker: str,
    *,
    deadline: float,
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> int | None:
    """Walk now; returns the locks that had no job behind them, None when it has not ended by `deadline` (monotonic)."""
    attempt = Roll(link, candidate, walker)
    while not attempt.begin():
        if now() >= deadline:
            return None
        wait(0.1)
    if not attempt.walk():
        return None
    while (left := attempt.end()) == _NOT_YET:
        if now() >= deadline:
            return None
        wait(0.1)
    return max(left, 0)


def _queues(link: Link) -> set[str]:
    """Return every queue that is known or holds something: `queues` may have been deleted by hand."""
    names = set(members(link.call, keys.QUEUES))
    for key in keys_like(link.call, _HOLDS_JOBS):
        prefix = next(filter(key.startswith, _PREFIXES), b"")
        names.update({key[len(prefix) :].decode("utf-8", "replace")} if prefix else ())
    return names
