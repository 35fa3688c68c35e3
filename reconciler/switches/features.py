"""What an Unleash server says of the flags that disable jobs, turned into rules. Pure.

Its answer is a document of features, each with strategies: any one that fits is enough, and all constraints of a strategy must
hold, those of its segments too. Strategies become rules; what cannot become one (a custom strategy, a constraint on what no
job has, a flag that depends on another one) is named, to be asked of Unleash's own engine, class by class.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import msgspec

from qik_core.switches import (
    Condition,
    Field,
    Operator,
    Rule,
    flag_of_class,
    flag_of_queue,
    flag_of_reconciler,
)
from reconciler.switches.provider import Source

PREFIX: Final = "disable_"
"""Features of other names are none of ours."""
_WHOLE: Final = 100.0
_MEMBERS: Final = {"IN": False, "NOT_IN": True}
_TEXTS: Final[dict[str, Callable[[str, str], bool]]] = {
    "STR_STARTS_WITH": str.startswith,
    "STR_ENDS_WITH": str.endswith,
    "STR_CONTAINS": str.__contains__,
}
_SHARES: Final = {
    "flexibleRollout": "rollout",
    "gradualRolloutRandom": "percentage",
    "gradualRolloutSessionId": "percentage",
    "gradualRolloutUserId": "percentage",
}
_NUMBER: Final = re.compile(r"\d{1,3}", re.ASCII)
_ESCAPED: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
"""A whole character of two escapes, half of one, or any other escape."""
_NEAR: Final = 0.8
_BY_KEY: Final = {"", "default", "random", "key"}


class BadDocument(ValueError):
    """This is no answer of an Unleash server. The message says in which way."""


class Constraint(msgspec.Struct, frozen=True, rename="camel"):
    """One condition of a strategy."""

    context_name: str
    operator: str
    values: tuple[str, ...] | None = None
    inverted: bool | None = None
    case_insensitive: bool | None = None


class Strategy(msgspec.Struct, frozen=True):
    """One way in which a feature is on."""

    name: str
    parameters: dict[str, Any] | None = None
    constraints: tuple[Constraint, ...] | None = None
    segments: tuple[int, ...] | None = None


class _Name(msgspec.Struct, frozen=True):
    name: str
    enabled: bool


class _Parent(msgspec.Struct, frozen=True):
    feature: str


class Feature(msgspec.Struct, frozen=True):
    """One flag of ours."""

    name: str
    enabled: bool
    strategies: tuple[Strategy, ...] | None = None
    dependencies: tuple[_Parent, ...] | None = None
    description: str | None = None


class _Segment(msgspec.Struct, frozen=True):
    id: int
    constraints: tuple[Constraint, ...] | None = None


class _Wire(msgspec.Struct, frozen=True):
    version: int
    features: tuple[msgspec.Raw, ...]
    segments: tuple[_Segment, ...] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """An answer that can be read: the flags that disable, and the segments that their strategies may name."""

    features: Mapping[str, Feature]
    segments: Mapping[int, tuple[Constraint, ...]]


@dataclass(frozen=True, slots=True)
class Names:
    """What an application has, for constraints that compare parts of names, and for questions class by class."""

    queues: Mapping[str, str]
    """Job class → its queue."""
    reconcilers: Mapping[str, str]
    """Reconciler → its job class."""
    others: frozenset[str] = frozenset()
    """Further queues, which workers serve or passes use."""

    def of(self, field: Field) -> Iterable[str] | None:
        """Return all values of a field, None where there is no end of them."""
        known: dict[Field, Iterable[str]] = {
            Field.CLASS: sorted(self.queues),
            Field.QUEUE: sorted({*self.queues.values(), *self.others}),
            Field.RECONCILER: sorted(self.reconcilers),
        }
        return known.get(field)


@dataclass(frozen=True, slots=True)
class Ground:
    """What is the same for every question of one process: the names there are, and fields such as `appName`."""

    names: Names
    fixed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of a document."""

    rules: Mapping[str, tuple[Rule, ...]]
    """By flag; `since` is not set."""
    asked: Mapping[str, tuple[int, ...] | None]
    """Flags to ask the engine for → the strategies that did not become rules; None: the flag as a whole."""
    notes: tuple[str, ...]
    """What people should know of flags that could not be followed to the letter."""


_wire: Final = msgspec.json.Decoder(_Wire)
_name: Final = msgspec.json.Decoder(_Name)
_feature: Final = msgspec.json.Decoder(Feature)


def parse(text: str) -> Document:
    """Return the flags of a document.

    Raises:
        BadDocument: it is none, or a flag of ours in it cannot be read.
    """
    try:
        wire = _wire.decode(text)
        named = [(_name.decode(raw).name, raw) for raw in wire.features]
        ours = {name: _feature.decode(raw) for name, raw in named if name.startswith(PREFIX)}
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadDocument(f"no features of Unleash: {error} (it begins {text[:40]!r})") from None
    segments = {each.id: each.constraints or () for each in wire.segments or ()}
    return Document(ours, segments)


def whole(text: str) -> str:
    """Return a document in which no half of a character is escaped: one text that was cut off must not hold up all flags."""
    return _ESCAPED.sub(lambda found: "\\ufffd" if found["half"] else found[0], text)


def translate(document: Document, ground: Ground) -> Reading:
    """Return the rules of a document, and what is left to ask the engine for."""
    rules: dict[str, tuple[Rule, ...]] = {}
    asked: dict[str, tuple[int, ...] | None] = {}
    notes: list[str] = []
    for flag, feature in sorted(document.features.items()):
        if not feature.enabled:
            continue
        turned = _Turned(feature, document, ground)
        if turned.rules:
            rules[flag] = turned.rules
        if turned.left:
            asked[flag] = turned.asked
            notes.append(f"{flag} is decided class by class, as it has {', '.join(turned.left)}")
        notes.extend(f"{flag} {note}" for note in turned.notes)
    return Reading(rules, asked, tuple(notes))


class _Turned:
    """One feature that is on, strategy by strategy."""

    def __init__(self, feature: Feature, document: Document, ground: Ground) -> None:
        self._feature, self._segments, self._ground = feature, document.segments, ground
        self.rules: tuple[Rule, ...] = ()
        self.asked: tuple[int, ...] | None = None
        self.left: list[str] = []
        self.notes: list[str] = []
        if feature.dependencies:
            self.left = ["a dependency on another flag"]
        elif feature.strategies:
            self._turn(feature.strategies)
        else:
            self.rules = (self._rule(_WHOLE, ()),)

    def _turn(self, strategies: tuple[Strategy, ...]) -> None:
        asked: list[int] = []
        for place, strategy in enumerate(strategies):
            share, where = _share(strategy), self._where(strategy)
            if where is False or share == 0:
                continue
            if isinstance(share, str) or isinstance(where, str):
                self.left.append(share if isinstance(share, str) else str(where))
                asked.append(place)
                continue
            self.rules += (self._rule(share, () if where is True else where),)
            self._note(strategy, share)
        self.asked = tuple(asked)

    def _where(self, strategy: Strategy) -> tuple[Condition, ...] | bool | str:
        """Return conditions; False: it never fits; a text: what cannot be told."""
        said = [_condition(each, self._ground) for each in strategy.constraints or ()]
        for segment in strategy.segments or ():
            constraints = self._segments.get(segment)
            if constraints is None:
                return f"segment {segment}, which is not there"
            said += [_condition(each, self._ground) for each in constraints]
        if False in said:
            return False
        for each in said:
            if isinstance(each, str):
                return each
        return tuple(each for each in said if isinstance(each, Condition))

    def _rule(self, share: float, where: tuple[Condition, ...]) -> Rule:
        said = (self._feature.description or "").strip()
        return Rule(
            percent=share,
            where=where,
            source=Source.UNLEASH,
            who=Source.UNLEASH,
            reason=said or f"{self._feature.name} is on in Unleash",
        )

    def _note(self, strategy: Strategy, share: float) -> None:
        stickiness = str((strategy.parameters or {}).get("stickiness", ""))
        if share < _WHOLE and stickiness not in _BY_KEY:
            self.notes.append(f"stops {share:g} % of the keys, and is not sticky by {stickiness}")


def _share(strategy: Strategy) -> float | str:
    """Return the percentage of a strategy; a text: what it is, if it is none that can be told."""
    if strategy.name == "default":
        return _WHOLE
    if strategy.name not in _SHARES:
        return f"strategy {strategy.name}"
    said = (strategy.parameters or {}).get(_SHARES[strategy.name])
    # The engine reads nothing else, and then says no.
    share = int(said) if isinstance(said, str) and _NUMBER.fullmatch(said) else -1
    return float(share) if 0 <= share <= _WHOLE else f"{strategy.name} of {said!r} %"


def _condition(each: Constraint, ground: Ground) -> Condition | bool | str:
    """Return a condition; True or False where its answer is the same for all; a text: what cannot be told."""
    cannot = f"{each.operator} on {each.context_name}"
    fits = _comparison(each)
    if fits is None:
        return cannot
    if each.operator in _TEXTS and not each.values:
        return f"{cannot} without values"
    inverted = bool(each.inverted) is not _MEMBERS.get(each.operator, False)
    if each.context_name in ground.fixed:
        return fits(ground.fixed[each.context_name]) is not inverted
    if each.context_name not in set(Field):
        return cannot
    field, operator = Field(each.context_name), Operator.NOT_IN if inverted else Operator.IN
    if each.operator in _MEMBERS:
        return Condition(field, operator, each.values or ())
    names = ground.names.of(field)
    return cannot if names is None else Condition(field, operator, tuple(filter(fits, names)))


def _comparison(each: Constraint) -> Callable[[str], bool] | None:
    values = each.values or ()
    if each.operator in _MEMBERS:
        return values.__contains__
    test = _TEXTS.get(each.operator)
    if test is None:
        return None
    if not each.case_insensitive:
        return lambda text: any(test(text, value) for value in values)
    return lambda text: any(test(text.lower(), value.lower()) for value in values)


Ask: TypeAlias = Callable[[str, Mapping[str, str]], bool]
"""Asks Unleash's engine: a flag, and what is known."""


def answers(flag: str, contexts: Iterable[Mapping[str, str]], ask: Ask) -> tuple[Rule, ...]:
    """Return what the engine says of a flag, class by class, as rules.

    A percentage in it falls on whole classes here, always the same ones: there is no other user to be sticky by.
    """
    said = [(context, ask(flag, context)) for context in contexts]
    stopped = [context for context, on in said if on]
    if not stopped:
        return ()
    rule = Rule(source=Source.UNLEASH, who=Source.UNLEASH, reason=f"{flag} is on in Unleash")
    if len(stopped) == len(said):
        return (rule,)
    classes = tuple(sorted({context[Field.CLASS] for context in stopped}))
    return (replace(rule, where=(Condition(Field.CLASS, Operator.IN, classes),)),)


def contexts(names: Names) -> dict[str, list[dict[str, str]]]:
    """Return, for every flag that an application can have, what is known wherever it applies.

    That is its class, the classes of its queue, its reconciler.
    """
    found: dict[str, list[dict[str, str]]] = {}
    for name, queue in sorted(names.queues.items()):
        for flag in {flag_of_class(name), flag_of_queue(queue)}:
            found.setdefault(flag, []).append(_context(name, queue))
    for reconciler, name in sorted(names.reconcilers.items()):
        context = {Field.RECONCILER.value: reconciler, **_context(name, names.queues.get(name, ""))}
        found.setdefault(flag_of_reconciler(reconciler), []).append(context)
    return found


def strays(on: Iterable[str], names: Names) -> Iterator[str]:
    """Say of flags that are on, and are none of this application's, which one may have been meant.

    Of those that resemble none nothing is said: other applications may share the server.
    """
    known = {*contexts(names), *map(flag_of_queue, names.others)}
    ends = {flag.removeprefix(PREFIX): flag for flag in known}
    for flag in sorted({*on} - known):
        near = get_close_matches(flag.removeprefix(PREFIX), ends, n=1, cutoff=_NEAR)
        if near:
            yield f"{flag} is on and stops nothing of this application: is {ends[near[0]]} meant?"


def _context(name: str, queue: str) -> dict[str, str]:
    return {Field.CLASS.value: name, Field.QUEUE.value: queue, "userId": name, "sessionId": name}


def for_engine(text: str, asked: Mapping[str, tuple[int, ...] | None]) -> str:
    """Return a document without the strategies that became rules, of flags that the engine is asked for.

    Otherwise its answer for a class would hold a percentage of keys that the rules follow already.
    """
    less = {flag: places for flag, places in asked.items() if places is not None}
    if not less:
        return text
    document = json.loads(text)
    parents = {
        parent["feature"]
        for feature in document["features"]
        for parent in feature.get("dependencies") or ()
    }
    for feature in document["features"]:
        places = less.get(feature["name"])
        if places is not None and feature["name"] not in parents:
            feature["strategies"] = [feature["strategies"][place] for place in places]
    return json.dumps(document)
