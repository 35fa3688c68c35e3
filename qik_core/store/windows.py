"""Reading lists and sorted sets of any length in windows of at most 500, while others push, fetch and delete.

A sorted set is read behind a cursor of score and member, so each member is met once, whatever moves meanwhile. A list has
no cursor: it is read from the end where pushes arrive, and each window is lined up with the one before by what both hold.
What stays in the list is never missed; it is met twice only if thousands are pushed, or all that was read is deleted by
others, between two windows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from qik_core.errors import StoreError, WrongType
from qik_core.store.link import Links
from qik_core.store.push import MOST

_AHEAD: Final = 4  # windows in which to look for what was pushed on
_MISFIT: Final = re.compile(r"WRONGTYPE(?: key (\S+) is a (\w+))?")


class Entry(NamedTuple):
    """One member of a list or a sorted set."""

    raw: bytes
    score: float | None = None
    """Epoch seconds; None in a list."""


@dataclass(frozen=True, slots=True)
class Window:
    """Some neighbours, in their order."""

    entries: Sequence[Entry]
    at: int | None = None
    """In a list: the index of the first, from the push end; None in a sorted set."""


@contextmanager
def typed(key: bytes) -> Iterator[None]:
    """Let Redis's complaint about a type name the key and the remedy.

    Raises:
        WrongType: in place of that complaint.
    """
    try:
        yield
    except StoreError as error:
        found = _MISFIT.search(str(error))
        if found is None:
            raise
        name = found[1] or key.decode("utf-8", "replace")
        kind = f"a {found[2]}" if found[2] else "another type"
        raise WrongType(
            f"{name} holds {kind}: something else than Sidekiq or qik wrote it. Rename or delete that key"
        ) from None


class ListReader:
    """Reads one list from the push end, newest first."""

    def __init__(self, links: Links, key: bytes) -> None:
        self._links = links
        self._key = key
        self._next = 0
        self._seen: list[bytes] = []

    def __iter__(self) -> Iterator[Window]:
        """Yield windows until the end; raises StoreError."""
        while (window := self._step()) is not None:
            yield window

    def removed(self, raws: Sequence[bytes]) -> None:
        """Take note that these of the last window are gone, so that the next is lined up without a search."""
        gone = Counter(raws)
        kept = []
        for raw in reversed(self._seen):
            if gone[raw]:
                gone[raw] -= 1
            else:
                kept.append(raw)
        self._seen = kept[::-1]
        self._next = max(self._next - len(raws), 0)

    def _step(self) -> Window | None:
        at = max(self._next - 1, 0) if self._seen else self._next
        raws = self._read(at)
        behind = self._line_up(at, raws)
        if behind != at:
            at, raws = behind, raws[behind - at :] if behind > at else []
            raws = raws or self._read(at)
        if not raws:
            return None
        self._seen = [*self._seen, *raws][-MOST:]
        self._next = at + len(raws)
        return Window([Entry(raw) for raw in raws], at)

    def _line_up(self, at: int, raws: Sequence[bytes]) -> int:
        """Return the index right behind what was seen last, given what stands at `at` now."""
        if not self._seen:
            return at
        # As nearly always; and the only way among equal bytes.
        if raws and raws[0] == self._seen[-1]:
            return at + 1
        seen = set(self._seen)
        behind = _behind(at, raws, seen)
        if behind == at + MOST or behind is None:
            behind = self._search(at, seen, behind)
        return max(self._next - len(self._seen), 0) if behind is None else behind

    def _search(self, at: int, seen: Collection[bytes], best: int | None) -> int | None:
        """Look further on where pushes may have moved it, and before where deletions may have."""
        if best is None and at:
            start = max(at - MOST, 0)
            best = _behind(start, self._read(start)[: at - start], seen)
        if best is not None and best <= at:
            return best
        for start in range(at + MOST, at + (_AHEAD + 1) * MOST, MOST):
            raws = self._read(start)
            found = _behind(start, raws, seen)
            if best is not None and found is None:
                return best
            best = found
            if len(raws) < MOST or (found is not None and found < start + MOST):
                return best
        return best

    def _read(self, at: int) -> list[bytes]:
        with typed(self._key):
            raws: list[bytes] = self._links.call("LRANGE", self._key, at, at + MOST - 1)
        return raws


def _behind(start: int, raws: Sequence[bytes], seen: Collection[bytes]) -> int | None:
    """Return the index behind the last of these that was seen; None when none was."""
    known = [place for place, raw in enumerate(raws) if raw in seen]
    return start + known[-1] + 1 if known else None


class SortedReader:
    """Reads one sorted set, lowest score first; members of one score in the order of their bytes, as Redis keeps them."""

    def __init__(self, links: Links, key: bytes) -> None:
        self._links = links
        self._key = key
        self._after: tuple[float, bytes] | None = None
        self._score: bytes = b"-inf"
        self._ties = 0

    def __iter__(self) -> Iterator[Window]:
        """Yield windows until the end; raises StoreError."""
        while (window := self._step()) is not None:
            yield window

    def _step(self) -> Window | None:
        while True:
            skip = max(self._ties - 1, 0)
            rows = self._read(skip)
            places = [(float(score), raw) for raw, score in zip(rows[::2], rows[1::2], strict=True)]
            if skip and (not places or self._is_new(places[0])):
                self._ties = max(self._ties - MOST, 0)  # some of this score were deleted: go back
                continue
            fresh = [place for place in places if self._is_new(place)]
            if not fresh:
                if len(places) < MOST:
                    return None
                self._ties = skip + len(places)
                continue
            self._remember(rows[-1], places, skip)
            return Window([Entry(raw, score) for score, raw in fresh])

    def _is_new(self, place: tuple[float, bytes]) -> bool:
        return self._after is None or place > self._after

    def _remember(self, score: bytes, places: Sequence[tuple[float, bytes]], skip: int) -> None:
        ties = sum(1 for place in places if place[0] == places[-1][0])
        self._ties = skip + ties if score == self._score else ties
        self._score, self._after = score, places[-1]

    def _read(self, skip: int) -> list[bytes]:
        with typed(self._key):
            rows: list[bytes] = self._links.call(
                "ZRANGEBYSCORE", self._key, self._score, "+inf", "WITHSCORES", "LIMIT", skip, MOST
            )
        return rows
