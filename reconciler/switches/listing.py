"""Every switch there is, for people: who said it, since when, what it has stopped, and how old what is known of it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qik_core.switches import Rule, Snapshot
from reconciler.switches.provider import Source
from reconciler.switches.rules import merged, plain, stops
from reconciler.switches.settling import dropped
from reconciler.switches.table import NOW, Shelf


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
