"""How many jobs of which class wait in Redis, in a time that does not grow with them: of long lists a part is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from qik_core.store import held, keys
from qik_core.store.cursors import members
from qik_core.store.link import Links
from qik_core.store.push import MOST

COUNTED: Final = 20_000
"""Jobs that are looked at, about; each list has its share, and of a longer one the rest is taken to be like that."""


class Where(StrEnum):
    """Where jobs wait."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RETRYING = "retrying"
    HELD = "held"


@dataclass(slots=True)
class Census:
    """The jobs of one moment, about: others push and fetch meanwhile."""

    jobs: dict[str, Counter[Where]] = field(default_factory=dict)
    """Job class, empty for jobs that are not ours → where → how many."""
    exact: bool = True
    """False: some list was too long to be counted whole."""

    def add(self, name: str, where: Where, count: int) -> None:
        """Count some jobs in."""
        if count:
            self.jobs.setdefault(name, Counter())[where] += count


def census(links: Links, most: int = COUNTED) -> Census:
    """Return how many jobs of which class wait. Raises StoreError."""
    found, lists = Census(), list(_lists(links))
    share = max(MOST, most // len(lists))
    for key, where in lists:
        _count(links, key, where, share, found)
    for each in held.held(links.call):
        found.add(each.name, Where.HELD, max(each.jobs, 0))
    return found


def _lists(links: Links) -> Iterator[tuple[bytes, Where]]:
    yield keys.SCHEDULE, Where.SCHEDULED
    yield keys.RETRY, Where.RETRYING
    for name in members(links.call, keys.QUEUES):
        if keys.is_queue(name):
            yield keys.later(name), Where.SCHEDULED
            yield keys.suspect(name), Where.QUEUED
            yield keys.queue(name), Where.QUEUED


def _count(links: Links, key: bytes, where: Where, most: int, found: Census) -> None:
    counted: Counter[str] = Counter()
    length, at = 1, 0
    while at < min(length, most):
        length, *pairs = links.run("census", (key,), (at, at + min(MOST, most - at) - 1))
        for name, count in zip(pairs[::2], pairs[1::2], strict=True):
            counted[name.decode("utf-8", "replace")] += count
        at += MOST
    seen = counted.total()
    scale = length / seen if seen and length > most else 1.0
    found.exact = found.exact and length <= most
    for name, count in counted.items():
        found.add(name, where, round(count * scale))
