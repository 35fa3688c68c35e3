"""From what providers say to the snapshot that every process goes by. Pure; times are epoch seconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qik_core.switches import Snapshot
from reconciler.switches.provider import Rules
from reconciler.switches.rules import all_same, merged
from reconciler.switches.table import Shelf


def sound(shelf: Shelf) -> dict[str, Rules]:
    """Return what the table says of those who have ever given a good answer."""
    never = {name for name, each in shelf.health.items() if not each.known}
    return {source: rules for source, rules in shelf.known().items() if source not in never}


def of_source(published: Snapshot, source: str) -> Rules:
    """Return what is published of one source, by flag."""
    found = {
        flag: tuple(each for each in rules if each.source == source)
        for flag, rules in published.rules.items()
    }
    return {flag: rules for flag, rules in found.items() if rules}


def following(
    published: Snapshot,
    known: Mapping[str, Rules],
    now: float,
    *,
    complete: bool,
    reconciled: Collection[str],
) -> Snapshot | None:
    """Return the snapshot to publish after this one; None where this one says all of it.

    `complete`: every provider has given a good answer once. `reconciled` are the job classes that reconcilers tell.
    What is known stays known: a provider that is added later, and has never answered, must not hold up all others.
    """
    complete = complete or (published.version > 0 and published.known)
    rules, classes = merged(known, now), frozenset(reconciled)
    if (
        published.version
        and published.known == complete
        and published.reconciled == classes
        and all_same(published.rules, rules)
    ):
        return None
    return Snapshot(max(int(now * 1000), published.version + 1), rules, complete, classes)
