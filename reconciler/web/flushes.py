"""The page of flushes: what one would do, which changes nothing, and then the flush itself, behind the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from qik_core.flushing import Flushing, Place
from qik_core.passes import Passes
from qik_core.web.asked import Ask, Problem, View
from qik_core.web.showing import cut
from reconciler import registry
from reconciler.derivable import Fate
from reconciler.errors import ReconcilerError
from reconciler.flush import By, flush
from reconciler.survey import Line, Means, Plan, Selection, survey
from reconciler.web.asking import Sql
from reconciler.web.behind import Behind, Work
from reconciler.web.texts import TEXT, reason_in
from reconciler.words import size

MOST: Final = 300
"""Lines of a plan on a page: those with the most jobs."""
_CHOICE: Final = ("everything", "class", "queue", "set", "tenant")
FIELDS: Final = ("verb", *_CHOICE, "plan", "word", "reason", "lose")
"""Of its form."""
SETS: Final = {
    "queued": Place.QUEUED,
    "schedule": Place.SCHEDULED,
    "retry": Place.RETRYING,
    "dead": Place.DEAD,
    "held": Place.HELD,
}
"""The places of jobs, as commands call them."""
_NAME, _NAMED, _NOTES = 200, 20, 100
_NO_APP: Final = "this dashboard was started without the application: reconciler web APP"


@dataclass(frozen=True, slots=True)
class _Planned:
    """What somebody has seen before they decide."""

    number: int
    plan: Plan
    refused: str
    """Why nobody can flush this; empty: somebody can."""


@dataclass(slots=True)
class Flushes:
    """The page."""

    sql: Sql
    behind: Behind = field(default_factory=Behind)
    _planned: _Planned | None = None

    def look(self, ask: Ask) -> View:
        """Show what was planned last, and how far the work is that goes on."""
        work, planned = self.behind.last, self._planned
        data = {
            "work": None if work is None else work.as_json(),
            "plan": None if planned is None else _shown(planned),
            "sets": list(SETS),
            "given": {name: ask.text(name) for name in ("everything", "class", "queue", "tenant")},
            "set": ask.text("set"),
        }
        return View("flush.html", "Flush", data)

    def act(self, ask: Ask) -> View:
        """Plan a flush, or flush what was planned."""
        verb = ask.text("verb")
        if verb == "plan":
            self._plan(ask)
        elif verb == "flush":
            self._flush(ask)
        else:
            raise Problem(400, f"verb is {verb!r}: use plan or flush")
        return self.look(ask)

    def _plan(self, ask: Ask) -> None:
        chosen, store, who = _selection(ask), ask.store, ask.who

        def do(work: Work) -> None:
            means = Means(self.sql.engines(), Flushing(store, who=who), Passes(store))
            plan = survey(means, chosen, _telling(work))
            if unknown := plan.unknown():
                raise ReconcilerError(unknown)
            nothing = not (plan.jobs or plan.aside or chosen.everything)
            refused = "no job is meant: there is nothing to flush" if nothing else ""
            self._planned = _Planned(work.number, plan, refused)
            work.lines = ["nothing was changed"]

        self.behind.begin(f"the dry run of a flush of {chosen}", do)

    def _flush(self, ask: Ask) -> None:
        plan, store, who = self._confirmed(ask), ask.store, ask.who
        by = By(who=who, reason=reason_in(ask), lose=frozenset(filter(None, ask.texts("lose"))))
        _check(plan, by)

        def do(work: Work) -> None:
            means = Means(self.sql.engines(), Flushing(store, who=who), Passes(store))
            self._planned = None
            done = flush(plan, means, by, say=_telling(work), waits=_waiting(work))
            work.lines, work.result = done.told(), done.as_json()

        self.behind.begin(f"the flush of {plan.selection}", do)

    def _confirmed(self, ask: Ask) -> Plan:
        """Return the plan that somebody has seen, and means."""
        planned = self._planned
        if planned is None or ask.text("plan") != str(planned.number):
            raise Problem(
                409, "this plan is not the last one: make a dry run, look at it, then decide"
            )
        if planned.refused:
            raise Problem(409, planned.refused)
        word = planned.plan.selection.word
        if ask.text("word").strip() != word:
            raise Problem(400, f"write {word!r} to go on: nothing was done")
        return planned.plan


# --- what is asked -------------------------------------------------------------------------------


def _selection(ask: Ask) -> Selection:
    """Return which jobs are meant: all, or those that fit everything that is said."""
    classes, queues, sets = (_said(ask, name) for name in ("class", "queue", "set"))
    tenant = ask.text("tenant").strip() or None
    if wrong := sets - SETS.keys():
        raise Problem(400, f"there is no set {min(wrong)!r}: use {', '.join(SETS)}")
    if bool(ask.text("everything")) == bool(classes or queues or sets or tenant):
        raise Problem(
            400, "say which jobs: all, or some of class, queue, tenant and set, which must all fit"
        )
    places = frozenset(SETS[each] for each in sets)
    return Selection(bool(ask.text("everything")), classes, queues, places, tenant)


def _said(ask: Ask, name: str) -> frozenset[str]:
    return frozenset(each.strip() for each in ask.texts(name) if each.strip())


def _check(plan: Plan, by: By) -> None:
    kept = {name: count for name, count in plan.lost.items() if name not in by.lose}
    if kept:
        named = ", ".join(f"{n:,} of {cut(name, _NAME)}" for name, n in [*kept.items()][:_NAMED])
        raise Problem(
            409,
            f"nothing brings these jobs back: {named}. Choose each class whose jobs may be lost, or keep them in a file: "
            f"{_command(plan)}",
        )


def _command(plan: Plan) -> str:
    """Return the command that keeps in a file what nothing brings back."""
    chosen = plan.selection
    names = {place: name for name, place in SETS.items()}
    options = ["--all"] if chosen.everything else []
    options += _option("--class", chosen.classes) + _option("--queue", chosen.queues)
    options += _option("--set", (names[each] for each in chosen.places))
    options += _option("--tenant", () if chosen.tenant is None else (chosen.tenant,))
    return " ".join(["reconciler flush", *options, "--export FILE --reason '…'"])


def _option(name: str, values: Iterable[str]) -> list[str]:
    return [f"{name} {shlex.quote(each)}" for each in sorted(values)]


# --- what is shown -------------------------------------------------------------------------------


def _telling(work: Work) -> Any:
    def say(what: str, count: int) -> None:
        work.progress = f"{count:,} {what}"

    return say


def _waiting(work: Work) -> Any:
    def waits(what: str) -> None:
        work.progress = what

    return waits


def _shown(planned: _Planned) -> dict[str, Any]:
    plan, problem = planned.plan, "" if registry.everything() else _NO_APP
    named = {name: jobs for name, jobs in plan.lost.items() if len(name) <= _NAME}
    lines = sorted(plan.lines.values(), key=lambda line: (-line.jobs, line.name, line.queue))
    return {
        "number": planned.number,
        "selection": cut(str(plan.selection), TEXT),
        "jobs": plan.jobs,
        "rederivable": plan.total(Fate.REDERIVABLE),
        "stale": plan.total(Fate.STALE),
        "lost": plan.total(Fate.LOST),
        "lines": [_line(each) for each in lines[:MOST]],
        "more": max(0, len(lines) - MOST),
        "notes": _notes(plan.notes(problem)),
        "would_lose": dict([*named.items()][:MOST]),
        "unnamed": sum(plan.lost.values()) - sum(named.values()),
        "command": _command(plan) if plan.lost else "",
        "word": plan.selection.word,
        "refused": planned.refused,
    }


def _line(line: Line) -> dict[str, Any]:
    row = {"size": size(line.bytes), **line.as_json()}
    return {**row, "class": cut(line.name, _NAME), "queue": cut(line.queue, _NAME)}


def _notes(notes: list[str]) -> list[str]:
    """Return the notes, of many classes not all: the first one and the last ones are about the whole."""
    left = len(notes) - _NOTES
    if left > 0:
        notes = [*notes[: _NOTES // 2], f"… and of {left:,} more", *notes[-_NOTES // 2 :]]
    return [cut(each, TEXT) for each in notes]
