"""What the table of switches comes to, written down: what is in force now, and each change of it once into the audit."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sqlalchemy import select

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
from reconciler.tables import audit as acts

log: Final = logging.getLogger("reconciler")
_SKEW: Final = 5.0
"""Seconds by which a machine's clock may be behind the home database's."""


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
    """Write what was said by hand while SQL did not answer; returns by whom.

    A Redis that came back from an old dump holds words that SQL has had since, and others after them: these are passed over, and
    logged unless SQL says the very same. A word waits with the time of the machine where it was said, SQL's words and the audit
    have the home database's: within `_SKEW` seconds nobody can tell which was later. Then the word that waits is taken, but not
    one that SQL had already, and not against a word of SQL that says the contrary: what a person took back stays taken back.
    """
    now = writer.before.now
    known = {name: each for name, each in writer.shelf.known().items() if name not in BY_HAND}
    others = merged(known, now)
    fresh = {flag: rules for flag, rules in waiting.items() if not _is_old(writer, flag, rules)}
    for flag in waiting.keys() - fresh.keys():
        _tell_passed_over(writer, flag, waiting[flag])
    for flag, rules in fresh.items():
        if not stops(rules, now) and not stops(others.get(flag, ()), now):
            writer.drop(flag, Source.SQL)
            continue
        mine = _as_sql(rules)
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
    return {flag: By(rules[0].who, rules[0].reason) for flag, rules in fresh.items()}


def _is_old(writer: Writer, flag: str, rules: tuple[Rule, ...]) -> bool:
    """Return whether something was said of a flag by hand, in SQL, after this."""
    said = writer.shelf.said.get((flag, Source.SQL))
    if said is not None and said.at > _since(rules, stopping=_stop(said.rules)):
        return True
    return _was_audited(writer, flag, rules)


def _since(rules: tuple[Rule, ...], *, stopping: bool) -> float:
    """Return after which moment a word of SQL, which stops work or does not, is later than these rules."""
    since = max(each.since for each in rules)
    return since + _SKEW if stopping == _stop(rules) else since


def _stop(rules: tuple[Rule, ...]) -> bool:
    return any(each.percent > 0 for each in rules)


def _was_audited(writer: Writer, flag: str, rules: tuple[Rule, ...]) -> bool:
    """Return whether the audit has a change by hand after these, or these: of what was enabled nothing else is left."""
    since, words = max(each.since for each in rules), [plain(each) for each in _as_sql(rules)]
    by_hand = Action.DISABLED.value, Action.ENABLED.value
    ours = acts.c.subject == flag, acts.c.action.in_(by_hand), acts.c.at > since - _SKEW
    columns = acts.c.action, acts.c.at, acts.c.details
    for action, at, text in writer.connection.execute(select(*columns).where(*ours)):
        details = json.loads(text)
        later = at > _since(rules, stopping=action == Action.DISABLED)
        for each in (*details["rules"], *details["before"]):
            if each["source"] == Source.SQL and (later or each in words):
                return True
    return False


def _as_sql(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(replace(each, source=Source.SQL.value) for each in rules)


def _tell_passed_over(writer: Writer, flag: str, rules: tuple[Rule, ...]) -> None:
    said = writer.shelf.said.get((flag, Source.SQL))
    if said is None or said.rules != _as_sql(rules):
        log.warning(
            "a word of Redis is passed over: SQL was told another since",
            extra={"switch": flag, "who": rules[0].who, "reason": rules[0].reason},
        )


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
