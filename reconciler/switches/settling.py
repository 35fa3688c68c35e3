"""What the table of switches comes to, written down: what is in force now, and each change of it once into the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from qik_core.switches import Rule
from reconciler import audit
from reconciler.audit import Action
from reconciler.switches.provider import Rules, Source
from reconciler.switches.rules import (
    BY_HAND,
    Change,
    changes,
    dated,
    in_force,
    merged,
    plain,
    same,
    stops,
)
from reconciler.switches.table import NOW, Said, Writer


class By(NamedTuple):
    """Who does something by hand, and why."""

    who: str
    reason: str


def settle(
    writer: Writer, counts: Mapping[str, int] | None, by: Mapping[str, By] | None = None
) -> list[Change]:
    """Write what is in force now, and every change of it into the audit.

    `counts` says how many jobs each flag has stopped since ever (None: Redis does not say), `by` who changed a flag by hand.
    """
    now = writer.before.now
    _forget_expired(writer, now)
    found = changes(writer.shelf.of(NOW), merged(writer.shelf.known(), now), now)
    for change in found:
        _write(writer, change, counts, (by or {}).get(change.flag))
    return found


def copy(writer: Writer, source: str, rules: Rules) -> None:
    """Write what a provider says over what it said before."""
    before, now = writer.shelf.of(source), writer.before.now
    for flag in before.keys() - rules.keys():
        writer.drop(flag, source)
    for flag, new in rules.items():
        old = before.get(flag, ())
        if not same(old, new):
            made = dated(new, old, now)
            first: Rule = made[0]
            said = Said(
                flag=flag, source=source, rules=made, who=first.who, reason=first.reason, at=now
            )
            writer.put(said)


def adopt(writer: Writer, waiting: Rules) -> dict[str, By]:
    """Write what was said by hand while SQL did not answer; returns by whom."""
    now = writer.before.now
    known = {name: each for name, each in writer.shelf.known().items() if name not in BY_HAND}
    others = merged(known, now)
    for flag, rules in waiting.items():
        if not stops(rules, now) and not stops(others.get(flag, ()), now):
            writer.drop(flag, Source.SQL)
            continue
        mine = tuple(replace(each, source=Source.SQL.value) for each in rules)
        first = mine[0]
        writer.put(
            Said(
                flag=flag,
                source=Source.SQL.value,
                rules=mine,
                who=first.who,
                reason=first.reason,
                at=now,
            )
        )
    return {flag: By(rules[0].who, rules[0].reason) for flag, rules in waiting.items()}


def forget(writer: Writer, source: str) -> None:
    """Forget a provider that is not configured any more."""
    for flag in writer.shelf.of(source):
        writer.drop(flag, source)
    writer.forget(source)


def _forget_expired(writer: Writer, now: float) -> None:
    """Take away what was said by hand for a time that is over."""
    for flag, rules in writer.shelf.of(Source.SQL).items():
        if not in_force(rules, now):
            writer.drop(flag, Source.SQL)


def _write(writer: Writer, change: Change, counts: Mapping[str, int] | None, by: By | None) -> None:
    before = writer.shelf.said.get((change.flag, NOW))
    count = None if counts is None else counts.get(change.flag, 0)
    who = change.who if by is None else by.who
    reason = change.reason if by is None else by.reason
    audit.write_down(
        writer.connection,
        change.action,
        change.flag,
        who,
        reason,
        _details(writer, change, before, count),
    )
    if not change.after:
        writer.drop(change.flag, NOW)
        return
    now = writer.before.now
    said = Said(
        flag=change.flag,
        source=NOW,
        rules=change.after,
        who=who,
        reason=reason,
        at=now if before is None else before.at,
        counted=count if before is None else before.counted,
    )
    writer.put(said)


def _details(
    writer: Writer, change: Change, before: Said | None, count: int | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rules": [plain(each) for each in change.after],
        "before": [plain(each) for each in change.before],
        "expires_at": max((each.expires_at or 0.0 for each in change.after), default=0.0) or None,
    }
    if change.action is not Action.DISABLED and before is not None:
        found["on_for"] = round(writer.before.now - before.at, 3)
        found["dropped"] = dropped(before.counted, count)
    return found


def dropped(before: int | None, count: int | None) -> int | None:
    """Return how many jobs a flag has stopped since it went on; None where Redis did not say.

    A count that is smaller than it was belongs to another life of Redis: then it is what is known.
    """
    if count is None:
        return None
    return count - before if before is not None and before <= count else count
