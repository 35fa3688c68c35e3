"""From what providers say to the snapshot that every process goes by, and which of it fits into one. Pure; epoch seconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

import msgspec

from qik_core.switches import LARGEST, Rule, Snapshot
from reconciler.errors import ReconcilerError
from reconciler.switches.provider import Rules
from reconciler.switches.rules import BY_HAND, all_same, in_force, merged
from reconciler.switches.table import Shelf

TOO_MANY: Final = (
    f"is not followed to the letter, since all switches would take more than {LARGEST:,} bytes: "
    "name fewer keys or tenants (what was published of it before holds)"
)
HANDS: Final = 50_000
"""Bytes of a snapshot that providers leave to what people say."""
_HEAD: Final = 1_000


class NotPublished(ReconcilerError):
    """Redis kept the switches that it holds. The message says which version they are of."""

    def __init__(self, stands: int) -> None:
        super().__init__(
            f"Redis kept its switches of version {stands}, and took no others: whoever publishes them tries it again"
        )


class Following(NamedTuple):
    """What to publish next."""

    snapshot: Snapshot | None
    """None where what is published says all of it."""
    left_out: tuple[str, ...] = ()
    """Flags whose newest rules do not fit: what was published of them before stays."""


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
) -> Following:
    """Return the snapshot to publish after this one.

    `complete`: every provider has given a good answer once. `reconciled` are the job classes that reconcilers tell.
    What is known stays known: a provider that is added later, and has never answered, must not hold up all others.
    """
    complete = complete or (published.version > 0 and published.known)
    classes = frozenset(reconciled)
    room = LARGEST - HANDS - _HEAD - _size(sorted(classes))
    rules, left_out = _fitting(merged(known, now), published.rules, now, room)
    if (
        published.version
        and published.known == complete
        and published.reconciled == classes
        and all_same(published.rules, rules)
    ):
        return Following(None, left_out)
    version = max(int(now * 1000), published.version + 1)
    return Following(Snapshot(version, rules, complete, classes), left_out)


def too_large(snapshot: Snapshot) -> str:
    """Return why a snapshot cannot be published, and what to do; empty if it can."""
    size = _size(dict(snapshot.rules)) + _size(sorted(snapshot.reconciled)) + _HEAD
    if size <= LARGEST:
        return ""
    sizes = {flag: _size(rules) for flag, rules in snapshot.rules.items()}
    largest = max(sizes, key=sizes.__getitem__)
    return (
        f"all switches would take {size:,} bytes as JSON, more than {LARGEST:,}: name fewer keys or tenants, "
        f"or enable others first (the largest is {largest}, of {sizes[largest]:,} bytes)"
    )


def _fitting(rules: Rules, before: Rules, now: float, room: int) -> tuple[Rules, tuple[str, ...]]:
    """Return the rules that fit, and the flags of those that do not: of these, largest growth first, what was there before.

    What people say is left out last, by whoever refuses to publish it all.
    """
    over = _size(dict(rules)) - room
    if over <= 0:
        return rules, ()
    kept = {flag: _of_providers(in_force(before.get(flag, ()), now)) for flag in rules}
    grown = {
        flag: _size(each) - _size(kept[flag])
        for flag, each in rules.items()
        if _of_providers(each) == each
    }
    found, left_out = dict(rules), []
    for flag in sorted(grown, key=lambda each: (-grown[each], each)):
        if over <= 0 or grown[flag] <= 0:
            break
        over -= grown[flag]
        left_out.append(flag)
        found[flag] = kept[flag]
    return {flag: each for flag, each in found.items() if each}, tuple(left_out)


def _of_providers(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(each for each in rules if each.source not in BY_HAND)


def _size(value: object) -> int:
    return len(msgspec.json.encode(value))
