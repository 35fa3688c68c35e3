"""Every switch there is, for people: who said it, since when, what it has stopped, and how old what is known of it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qik_core.passes import Passes
from qik_core.switches import Rule, Snapshot
from reconciler.switches.provider import Source
from reconciler.switches.rules import merged, plain, stops
from reconciler.switches.settling import dropped
from reconciler.switches.table import NOW, Health, Shelf
from reconciler.words import span


@dataclass(frozen=True, slots=True)
class Listed:
    """One switch. Times are epoch seconds."""

    flag: str
    rules: tuple[Rule, ...]
    """What is in force."""
    passed_over: tuple[Rule, ...]
    """What providers say, and somebody has said otherwise by hand."""
    since: float
    dropped: int | None
    """Jobs that it has dropped or refused while it was on; None: not known."""

    def on(self, now: float) -> bool:
        """Whether it stops anything."""
        return stops(self.rules, now)

    def as_json(self, now: float) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "switch": self.flag,
            "on": self.on(now),
            "since": self.since or None,
            "dropped": self.dropped,
            "rules": [plain(each) for each in self.rules],
            "passed_over": [plain(each) for each in self.passed_over],
        }


@dataclass(frozen=True, slots=True)
class Published:
    """What Redis says of switches."""

    snapshot: Snapshot
    counts: Mapping[str, int]
    """Flag → jobs dropped or refused because of it."""
    seen: Mapping[str, int]
    """Worker process → the version that it goes by."""

    @property
    def newest(self) -> int:
        """How many worker processes go by the newest switches."""
        return sum(each >= self.snapshot.version for each in self.seen.values())


def published(seam: Passes) -> Published:
    """Return what Redis says of switches. Raises StoreError."""
    counts = seam.switched_off()
    return Published(seam.switches(), counts, seam.switches_seen())


def listed(shelf: Shelf | None, redis: Published | None) -> list[Listed]:
    """Return the switches as SQL has them, or, while it does not answer, Redis; None: no answer."""
    if shelf is not None:
        return of_sql(shelf, None if redis is None else redis.counts)
    return [] if redis is None else of_redis(redis.snapshot, redis.counts)


def how(health: Health, now: float) -> str:
    """Return how a provider is, for people."""
    age = span(max(0.0, now - health.at))
    if not health.problem:
        return f"answers, as of {age} ago"
    said = "" if health.known else "never known, "
    return f"{said}for {age}: {health.problem}"


def of_sql(shelf: Shelf, counts: Mapping[str, int] | None) -> list[Listed]:
    """Return the switches as SQL has them, by flag."""
    known = shelf.known()
    others = merged(
        {source: each for source, each in known.items() if source != Source.SQL}, shelf.now
    )
    found = []
    for flag, rules in sorted(merged(known, shelf.now).items()):
        noted = shelf.said.get((flag, NOW))
        count = None if counts is None else counts.get(flag, 0)
        found.append(
            Listed(
                flag,
                rules,
                others.get(flag, ()) if rules[0].source == Source.SQL else (),
                noted.at if noted else min(each.since for each in rules),
                dropped(noted.counted if noted else count, count),
            )
        )
    return found


def of_redis(published: Snapshot, counts: Mapping[str, int] | None) -> list[Listed]:
    """Return the switches as they are published: for when SQL does not answer."""
    return [
        Listed(
            flag,
            rules,
            (),
            min((each.since for each in rules), default=0.0),
            None if counts is None else counts.get(flag, 0),
        )
        for flag, rules in sorted(published.rules.items())
    ]


def on(listed: Sequence[Listed], now: float) -> list[Listed]:
    """Return those that stop something."""
    return [each for each in listed if each.on(now)]
