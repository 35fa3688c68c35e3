"""The pages of one reconciler: its last passes, what it declares, what a pass would do; to run one now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from qik_core.errors import SettingsError
from qik_core.passes import Passes
from qik_core.settings import current
from qik_core.web.asked import Ask, Problem, View
from qik_core.web.showing import MASK, Shower, cut
from reconciler import registry
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import UnknownReconciler
from reconciler.explain import readable
from reconciler.lease import identity
from reconciler.passes import Tools
from reconciler.plan import Means, Plan
from reconciler.plan import plan as make
from reconciler.quarantine import RowStates
from reconciler.report import Report
from reconciler.runner import by_hand
from reconciler.status import Standing, Turn, counted, standings, turns
from reconciler.web.asking import Question, Sql, answering
from reconciler.web.rows import MOST, TEXT, last_of, row_of
from reconciler.words import span

TURNS: Final = 30
"""Passes on a page."""
COUNTED: Final = 1_000
"""Rows that a plan counts at most: somebody waits for the page."""
_SQL: Final = 20_000


@dataclass(frozen=True, slots=True)
class One:
    """The pages."""

    sql: Sql
    _running: set[str] = field(default_factory=set)
    """Reconcilers that a person has a pass of under way, from this dashboard."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _planning: threading.Lock = field(default_factory=threading.Lock)

    def look(self, ask: Ask) -> View:
        """Show its last passes and what it declares."""
        name, shard = ask.text("reconciler"), ask.text("shard")
        definition = _known(name)
        declared = self.sql.ask(lambda engines: list(_declared(definition, engines, shard)))
        stood, passed = self.sql.answer(lambda engines: _of_ledger(engines, name, shard))
        if not stood and definition is None:
            raise Problem(404, f"no reconciler called {name!r:.120} has ever run here")
        data = {
            "reconciler": name,
            "shard": shard,
            "rows": [row_of(each, definition) for each in stood[:MOST]],
            "turns": [_turn(each) for each in passed],
            "known": definition is not None,
            "sharded": definition is not None and definition.shards is not None,
            "declared": _or_why(declared),
        }
        return View("reconciler.html", f"{name}/{shard}" if shard else name, data)

    def plan(self, ask: Ask) -> View:
        """Show what a pass would do now."""
        definition = _part(_defined(ask.text("reconciler")), ask.text("shard"))
        made = self._planned(definition, Passes(ask.store))
        data = {
            **made.as_json(),
            "errors": [cut(str(each), TEXT) for each in made.errors],
            "findings": [cut(each, TEXT) for each in made.findings],
            "rows": [_row(definition, each, ask.shower) for each in made.rows],
            "at": f"/reconcilers/{definition.name}",
        }
        return View("reconciler_plan.html", f"Plan of {definition.unit}", data)

    def _planned(self, definition: Definition, seam: Passes) -> Plan:
        """Return a plan: one at a time, and no page asks for it again by itself, since it may be the plan that is slow."""
        if not self._planning.acquire(blocking=False):
            raise Problem(429, "another plan is being made: wait for it")

        def planned(engines: Engines) -> Plan:
            try:
                return _planned(definition, engines, seam)
            finally:
                self._planning.release()

        remedy = f"`reconciler plan {definition.name}` waits for it"
        late = Problem(504, f"this takes longer than a page may: {remedy}")
        return self._asked(planned).answer(late)

    def _asked(self, planned: Callable[[Engines], Plan]) -> Question[Plan]:
        try:
            return self.sql.ask(planned)
        except Problem:  # it was not even begun
            self._planning.release()
            raise

    def run(self, ask: Ask) -> View:
        """Run a pass now; a long one goes on behind the page."""
        definition, shard = _defined(ask.text("reconciler")), ask.text("shard")
        if ask.text("verb") != "run":
            raise Problem(400, f"verb is {ask.text('verb')!r}: use run")
        unit = definition.in_shard(shard).unit
        act = self._alone(unit, lambda: self._passes(definition, shard, Passes(ask.store)))
        done, said = ask.behind(f"Pass of {unit}", act)
        back = f"/reconcilers/{definition.name}"
        data = {"done": done, "said": f"Pass of {unit}: {said}", "back": back}
        return View("said.html", "Done" if done else "Going on", data)

    def _alone(self, unit: str, act: Callable[[], str]) -> Callable[[], str]:
        """Return the act, which says that it is under way already where it is."""

        def alone() -> str:
            with self._lock:
                if unit in self._running:
                    return "one is under way from here already: nothing was begun"
                self._running.add(unit)
            try:
                return act()
            finally:
                with self._lock:
                    self._running.discard(unit)

        return alone

    def _passes(self, definition: Definition, shard: str, seam: Passes) -> str:
        engines = self.sql.engines()
        tools = Tools.of(seam, engines, identity())
        shards = engines.shards(definition)
        if shard and shard not in shards:
            raise Problem(404, f"{definition.name} has no shard {shard!r}: nothing was begun")
        parts = [shard] if shard or definition.shards is None else shards
        reports = [by_hand(_part(definition, each), tools, lambda _: None) for each in parts]
        return "; ".join(map(_said, reports)) or "it has no shards"


# --- of SQL -------------------------------------------------------------------------------------------


def _of_ledger(engines: Engines, name: str, shard: str) -> tuple[list[Standing], list[Turn]]:
    home = engines.home()
    stood = [each for each in standings(home) if each.reconciler == name]
    stood = [each for each in stood if shard in ("", each.shard)]
    return stood, turns(home, name, shard, TURNS)


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "number": turn.number,
        "holder": cut(turn.holder, TEXT),
        "term": turn.term,
        "began": datetime.fromtimestamp(turn.began, UTC),
        "scanned": turn.scanned,
        "end": None if turn.end is None else last_of(turn.end),
    }


def _said(report: Report) -> str:
    counts = f": {counted(report.codes)}" if report.codes else ""
    reason = f"; {report.reason}" if report.reason else ""
    told = (
        f"{report.outcome} in {span(report.seconds)}, {report.scanned:,} rows read{counts}{reason}"
    )
    return cut(told, TEXT)


# --- what is declared -----------------------------------------------------------------------------------


def _known(name: str) -> Definition | None:
    try:
        return registry.find(name)
    except UnknownReconciler:
        return None


def _defined(name: str) -> Definition:
    found = _known(name)
    if found is None:
        raise Problem(
            409,
            f"{name!r:.120} is not known to this process, which needs its code for that: start `reconciler web` with the module "
            "that defines it",
        )
    return found


def _part(definition: Definition, shard: str) -> Definition:
    if definition.shards is None and shard:
        raise Problem(400, f"{definition.name} has no shards")
    if definition.shards is not None and not shard:
        raise Problem(400, f"{definition.name} has shards: choose one of them")
    return definition.in_shard(shard)


def _or_why(declared: Question[list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """Return what is declared; where the application cannot say its shards in time, that."""
    try:
        return declared.answer()
    except Problem as error:
        return [("Not known", str(error))]


def _declared(
    definition: Definition | None, engines: Engines, shard: str
) -> Iterator[tuple[str, str]]:
    """Yield what a reconciler declares, in words, with the SQL of its rows at the end."""
    if definition is None:
        return
    yield "Job", definition.facts.name
    yield "Queue", definition.queue or definition.facts.queue
    yield (
        "Passes",
        "at " + definition.cron.text if definition.cron else f"every {span(definition.every)}",
    )
    yield from _times(definition)
    yield from _ways(definition)
    if definition.shards is None:
        yield "Database", definition.database
    else:
        shards = engines.shards(definition)
        yield "Shards", cut(", ".join(shards) or "none", TEXT)
        definition = definition.in_shard(shard or next(iter(shards), ""))
    yield "SQL", _sql(definition, engines)


def _sql(definition: Definition, engines: Engines) -> str:
    try:
        dialect = engines.of(definition).dialect
    except SettingsError as error:
        return f"not known: {cut(str(error), TEXT)}"
    return cut(readable(definition.shape.statement, dialect, {}), _SQL)


def _times(definition: Definition) -> Iterator[tuple[str, str]]:
    spans: Mapping[str, float | None] = {
        "Jitter": definition.jitter,
        "Minimum age": definition.min_age,
        "Unique for": definition.facts.unique_for,
        "Time of a pass": definition.budget,
        "Time of a statement": definition.statement_timeout,
    }
    for name, seconds in spans.items():
        if seconds:
            yield name, span(seconds)


def _ways(definition: Definition) -> Iterator[tuple[str, str]]:
    held = definition.quarantine
    yield "Rows of a page", f"{definition.batch_size:,}"
    yield (
        "Quarantined after",
        f"{held.after} failures, {held.crashes} crashes, {held.no_progress} without progress",
    )
    if definition.backpressure.high is not None:
        yield "Waits at", f"{definition.backpressure.high:,} jobs on its queue"
    if definition.fair is not None:
        yield "Of each tenant", f"{definition.fair.per_tenant:,} rows a pass"
    if definition.freshness is not None:
        yield "Reads from", definition.freshness.replica
    if definition.guard is not None:
        yield "Guard", definition.guard.kind.value
    for name in ("recheck", "expect_progress", "edges", "shadow"):
        yield name.replace("_", " ").capitalize(), "yes" if getattr(definition, name) else "no"


# --- what a pass would do ---------------------------------------------------------------------------


def _planned(definition: Definition, engines: Engines, seam: Passes) -> Plan:
    states = RowStates(engines.home(), seam, current().release or "")
    return make(definition, Means(engines, answering(seam), COUNTED, states=states))


def _row(definition: Definition, shown: Any, shower: Shower) -> dict[str, Any]:
    """Return a row of a plan without its arguments, which may hold what must not be seen."""
    names = [definition.shape.labels[at] for at in definition.shape.key]
    key = [
        MASK if shower.hides(name) else cut(str(each), 200)
        for name, each in zip(names, shown.key, strict=False)
    ]
    return {"key": key, "told": shown.told, "delay": shown.delay, "left_out": shown.left_out}
