"""The tab of switches: what is off, who said so and why, who has seen it; to switch off and on by hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from qik_core import application
from qik_core.errors import QikError, StoreError
from qik_core.passes import Passes
from qik_core.switches import Condition, Field, Operator, Rule, flag_of_class
from qik_core.web.asked import NO_REDIS, Ask, Problem, View
from qik_core.web.showing import cut
from qik_core.web.tabs import TabPage
from reconciler.errors import NotMigrated, SqlUnavailable
from reconciler.switches import listing
from reconciler.switches.acts import Done, Order, Switcher
from reconciler.switches.listing import Listed, Published
from reconciler.switches.naming import (
    Names,
    Target,
    UnknownName,
    find,
    of_application,
    of_tables,
)
from reconciler.switches.rules import whom
from reconciler.switches.saying import Change, done_lines
from reconciler.switches.settling import By
from reconciler.switches.table import Shelf, Table
from reconciler.web.asking import ANSWER, Sql
from reconciler.web.texts import TEMPLATES, TEXT, reason_in, span_in, when

MOST: Final = 100
"""Switches on a page."""
_NAMES: Final = 500
_WORDS: Final = 300
_RULES: Final = 3
_ALL: Final = 100.0
T = TypeVar("T")
_VERBS: Final = {"disable": Change.DISABLED, "enable": Change.ENABLED}


@dataclass(frozen=True, slots=True)
class Switches:
    """The tab."""

    sql: Sql
    name: str = "Switches"
    templates: Path | None = TEMPLATES

    @property
    def pages(self) -> Sequence[TabPage]:
        """All of them."""
        told = "What is switched off, by whom and why, and who has seen it; to switch off and on"
        fields = ("verb", "switch", "reason", "expires", "cancel", "percent", "tenants", "keys")
        return (TabPage("/switches", told, self.every, self.switch, ("switch",), fields),)

    def every(self, ask: Ask) -> View:
        """Show all of them, also while one of SQL and Redis does not answer."""
        errors: list[Problem] = []
        asked = self.sql.ask(lambda engines: Table(engines.home()).read())
        redis = _unless(errors, lambda: _redis(Passes(ask.store)))
        shelf = _unless(errors, asked.answer)
        if shelf is None and redis is None:
            raise Problem(NO_REDIS, "; ".join(map(str, errors)))
        names = of_application()
        data = {
            **_listed(shelf, redis, names),
            "errors": [cut(str(each), TEXT) for each in errors],
            "names": _suggested(names),
            "meant": ask.text("switch"),
        }
        return View("switches.html", "Switches", data)

    def switch(self, ask: Ask) -> View:
        """Disable or enable what is named; with an error nothing was changed."""
        change = _VERBS.get(ask.text("verb"))
        if change is None:
            raise Problem(400, f"verb is {ask.text('verb')!r}: use disable or enable")
        by, expires = By(ask.who, reason_in(ask)), _expires(ask)
        seam = Passes(ask.store)
        names, home = self._names(seam), self.sql.engines().home()
        target = _target(ask.text("switch"), names)
        switcher = Switcher(home, seam, ANSWER)
        if change is Change.DISABLED:
            order = Order(
                flag=target.flag,
                by=by,
                percent=_percent(ask),
                where=_where(ask),
                expires_in=expires,
                cancel=ask.text("cancel") == "yes",
            )
            done = switcher.disable(order)
        else:
            _refuse_part(ask)
            done = switcher.enable(target.flag, by, expires)
        return _switched(change, target, names, done)

    def _names(self, seam: Passes) -> Names:
        """Return the names of the application; where it is not imported, those that SQL and Redis have seen."""
        if application.jobs():
            return of_application()
        try:
            classes = sorted({*seam.switches().reconciled, *(each.name for each in seam.held())})
        except StoreError:
            classes = []
        try:
            return self.sql.answer(lambda engines: of_tables(engines.home(), classes))
        except Problem:
            return Names({name: name for name in classes}, {}, complete=False)


@dataclass(frozen=True, slots=True)
class _Redis:
    """What Redis says of switches, and of jobs that are held because of them."""

    published: Published
    held: Mapping[str, int]
    """Job class → jobs."""


def _redis(seam: Passes) -> _Redis:
    try:
        held = {each.name: max(0, each.jobs) for each in seam.held()}
        return _Redis(listing.published(seam), held)
    except StoreError as error:
        raise Problem(NO_REDIS, f"Redis does not answer: {error}") from None


def _unless(errors: list[Problem], ask: Callable[[], T]) -> T | None:
    """Return the answer; None where there is none, and why among the errors."""
    try:
        return ask()
    except Problem as problem:
        errors.append(problem)
        return None


# --- what is shown -------------------------------------------------------------------------------


def _listed(shelf: Shelf | None, redis: _Redis | None, names: Names) -> dict[str, Any]:
    published = None if redis is None else redis.published
    found = listing.listed(shelf, published)
    now = time.time() if shelf is None else shelf.now
    held = {} if redis is None else redis.held
    health = {} if shelf is None else shelf.health
    targets = names.flags()
    rows = [_row(each, now) for each in found[:MOST]]
    for row in rows:
        row.update(_stopped(row["switch"], targets.get(row["switch"]), names, held))
    return {
        "rows": rows,
        "more": max(0, len(found) - MOST),
        "providers": {
            cut(name, TEXT): cut(listing.how(each, now), TEXT)
            for name, each in sorted(health.items())
        },
        "publisher": None if shelf is None else cut(shelf.publisher, TEXT),
        "processes": None if published is None else len(published.seen),
        "seen": None if published is None else published.newest,
        "held": {cut(name, _WORDS): jobs for name, jobs in sorted(held.items())[:_NAMES]},
    }


def _row(each: Listed, now: float) -> dict[str, Any]:
    return {
        "switch": each.flag,
        "on": each.on(now),
        "since": when(each.since),
        "dropped": each.dropped,
        "rules": _rules(each.rules),
        "passed_over": _rules(each.passed_over),
        "more_rules": sum(max(0, len(rules) - _RULES) for rules in (each.rules, each.passed_over)),
    }


def _stopped(
    flag: str, target: Target | None, names: Names, held: Mapping[str, int]
) -> dict[str, Any]:
    """Return what a switch stops, and how many jobs of it are held."""
    classes = set() if target is None else set(names.stopped_by(target))
    classes |= {name for name in held if flag_of_class(name) == flag}
    jobs = sum(count for name, count in held.items() if name in classes)
    return {"of": "" if target is None else cut(str(target), TEXT), "held": jobs}


def _rules(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    return [_rule(each) for each in [*rules][:_RULES]]


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "source": cut(rule.source, _WORDS),
        "who": cut(rule.who, _WORDS),
        "reason": cut(rule.reason, _WORDS),
        "whom": cut(whom(rule), _WORDS),
        "since": when(rule.since),
        "expires_at": when(rule.expires_at),
        "cancel": rule.cancel,
    }


def _suggested(names: Names) -> list[str]:
    queues = (f"queue:{each}" for each in sorted(names.queues))
    return [*sorted({*names.classes.values()}), *sorted(names.reconcilers), *queues][:_NAMES]


# --- what is done --------------------------------------------------------------------------------


def _expires(ask: Ask) -> float | None:
    seconds = span_in(ask, "expires")
    if seconds == 0:
        raise Problem(400, "expires is 0: give a span of time, or leave it empty")
    return seconds


def _percent(ask: Ask) -> float:
    text = ask.text("percent").strip()
    try:
        percent = float(text or _ALL)
    except ValueError:
        percent = math.nan
    if not 0 < percent <= _ALL:
        raise Problem(
            400, f"percent is {text!r}: use a number above 0, up to 100, or leave it empty"
        )
    return percent


def _where(ask: Ask) -> tuple[Condition, ...]:
    named = (Field.TENANT, ask.text("tenants")), (Field.KEY, ask.text("keys"))
    found = ((each, tuple(filter(None, map(str.strip, text.splitlines())))) for each, text in named)
    return tuple(Condition(each, Operator.IN, values) for each, values in found if values)


def _refuse_part(ask: Ask) -> None:
    given = [each for each in ("percent", "tenants", "keys") if ask.text(each).strip()]
    if given:
        raise Problem(
            400, f"{' and '.join(given)}: only disabling can be of a part; leave it empty to enable"
        )


def _target(text: str, names: Names) -> Target:
    try:
        return find(text.strip(), names)
    except UnknownName as error:
        raise Problem(400, cut(str(error), TEXT)) from None


def _switched(change: Change, target: Target, names: Names, done: Done) -> View:
    stands = done.in_sql or done.version is not None
    data = {
        "switch": done.flag,
        "of": cut(str(target), TEXT),
        "action": str(change),
        "done": stands,
        "lines": [
            cut(line.strip(), TEXT) for line in [*done_lines(change, target, names, done)][:MOST]
        ],
        "now": _rules(done.now),
        "before": _rules(done.before),
        "in_sql": done.in_sql,
        "in_redis": done.version is not None,
        "errors": [cut(str(each), TEXT) for each in done.errors],
    }
    title = "Done" if stands else "Not done"
    return View("switched.html", title, data, 200 if stands else _status(done.errors))


def _status(errors: Sequence[QikError]) -> int:
    """Return 503 where somebody did not answer, 400 where the switch was refused."""
    away = any(isinstance(each, (StoreError, SqlUnavailable, NotMigrated)) for each in errors)
    return NO_REDIS if away else 400
