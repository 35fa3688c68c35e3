"""The rules of several providers: merged, compared, said in words, and as plain JSON values. Pure; times are epoch seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from qik_core.errors import BadSnapshot
from qik_core.switches import Condition, Field, Operator, Rule
from reconciler.audit import Action
from reconciler.switches.provider import Rules, Source
from reconciler.words import moment

BY_HAND: Final = (Source.SQL.value, Source.REDIS.value)
"""In this order: what was said while SQL did not answer is newer."""
_SHOWN: Final = 3


def in_force(rules: Iterable[Rule], now: float) -> tuple[Rule, ...]:
    """Return the rules that have not expired."""
    return tuple(each for each in rules if each.expires_at is None or each.expires_at > now)


def stops(rules: Iterable[Rule], now: float) -> bool:
    """Return whether any of them stops anything: a rule of 0 % says by hand that a flag of others is to be passed over."""
    return any(each.percent > 0 for each in in_force(rules, now))


def merged(known: Mapping[str, Rules], now: float) -> dict[str, tuple[Rule, ...]]:
    """Return flag → rules: what was said by hand, either way, goes before all others; else any provider's rule stops."""
    found: dict[str, tuple[Rule, ...]] = {}
    for source in (*sorted(known.keys() - {*BY_HAND}), *BY_HAND):
        for flag, rules in known.get(source, {}).items():
            live = in_force(rules, now)
            if live:
                found[flag] = live if source in BY_HAND else found.get(flag, ()) + live
    return found


def same(one: Iterable[Rule], other: Iterable[Rule]) -> bool:
    """Return whether these rules do the same and say the same, whenever they were first seen."""
    return _timeless(one) == _timeless(other)


def all_same(one: Rules, other: Rules) -> bool:
    """Return whether these flags have the same rules, whenever those were first seen."""
    return one.keys() == other.keys() and all(
        same(rules, other[flag]) for flag, rules in one.items()
    )


def dated(rules: Iterable[Rule], before: Iterable[Rule], now: float) -> tuple[Rule, ...]:
    """Return rules of a provider with the moment since when they hold: as they were known before, else now."""
    known = {_timeless([each]): each.since for each in before}
    return tuple(
        replace(each, since=known.get(_timeless([each]), each.since or now)) for each in rules
    )


def _timeless(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(replace(each, since=0.0) for each in rules)


# --- what has changed -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A switch that does otherwise than it did."""

    flag: str
    action: Action
    before: tuple[Rule, ...]
    """What was in force; empty for one that is new."""
    after: tuple[Rule, ...]
    """What is in force now; empty for one that stops nothing any more."""

    @property
    def who(self) -> str:
        """Who did it, as far as the rules tell: a person, or the provider."""
        rule = (self.after or self.before)[0]
        return rule.who or rule.source

    @property
    def reason(self) -> str:
        """Why, in the words of whoever did it; for one that went off, why it had been on."""
        if self.after:
            return self.after[0].reason
        if self.action is Action.EXPIRED:
            return f"its time was over; it was on because: {self.before[0].reason or 'nobody said why'}"
        return f"{self.before[0].source} has it no longer"


def changes(before: Rules, after: Rules, now: float) -> list[Change]:
    """Return what has changed between two merged states, by flag. `before` may hold rules that have expired since."""
    found = []
    for flag in sorted({*before, *after}):
        was = tuple(each for each in before.get(flag, ()) if each.percent > 0)
        live = in_force(after.get(flag, ()), now)
        is_now = tuple(each for each in live if each.percent > 0)
        if not same(was, is_now):
            found.append(Change(flag, _action(was, is_now, now), was, is_now))
    return found


def _action(was: tuple[Rule, ...], is_now: tuple[Rule, ...], now: float) -> Action:
    if is_now:
        return Action.DISABLED
    return Action.ENABLED if in_force(was, now) else Action.EXPIRED


# --- words and plain values -------------------------------------------------------------------------


def whom(rule: Rule) -> str:
    """Return whom a rule stops, for people: `90 % of keys where tenant in acme`; empty for everything."""
    parts = [] if rule.percent == 100 else [f"{rule.percent:g} % of keys"]  # noqa: PLR2004 - all
    if rule.where:
        parts.append(f"where {' and '.join(map(_condition, rule.where))}")
    return " ".join(parts)


def _condition(each: Condition) -> str:
    shown = ", ".join(each.values[:_SHOWN])
    more = f", and {len(each.values) - _SHOWN:,} more" if len(each.values) > _SHOWN else ""
    return f"{each.field} {'in' if each.operator is Operator.IN else 'not in'} {shown}{more}"


def told(rule: Rule) -> str:
    """Return a rule for people: who, whom, why, until when."""
    by = f"{rule.source}, by {rule.who}" if rule.who else rule.source
    reason = f": {rule.reason}" if rule.reason else ""
    until = f", until {moment(rule.expires_at)}" if rule.expires_at is not None else ""
    wide = whom(rule)
    return f"{by}{f', {wide}' if wide else ''}{until}{reason}"


def plain(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON values."""
    return {
        "percent": rule.percent,
        "where": [
            {"field": str(each.field), "operator": str(each.operator), "values": list(each.values)}
            for each in rule.where
        ],
        "source": rule.source,
        "who": rule.who,
        "reason": rule.reason,
        "since": rule.since,
        "expires_at": rule.expires_at,
        "cancel": rule.cancel,
    }


def of_plain(value: Any) -> Rule:
    """Return the rule that `plain` gave.

    Raises:
        BadSnapshot: it is not of that form.
    """
    try:
        percent, since, expires = value["percent"], value["since"], value["expires_at"]
        texts = [value[name] for name in ("source", "who", "reason")]
        where = tuple(_condition_of(each) for each in value["where"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadSnapshot(f"no rule of a switch: {error!r:.200}") from None
    numbers = [percent, since, *([] if expires is None else [expires])]
    if not all(map(_is_number, numbers)) or set(map(type, texts)) != {str}:
        raise BadSnapshot(f"no rule of a switch: {value!r:.200}")
    return Rule(
        percent=float(percent),
        where=where,
        source=texts[0],
        who=texts[1],
        reason=texts[2],
        since=float(since),
        expires_at=None if expires is None else float(expires),
        cancel=value.get("cancel") is True,
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -sys.float_info.max <= value <= sys.float_info.max


def _condition_of(value: Any) -> Condition:
    values = value["values"]
    if type(values) is not list or not all(type(each) is str for each in values):
        raise ValueError("values are no list of texts")
    return Condition(Field(value["field"]), Operator(value["operator"]), tuple(values))
