"""The page of rebuilds: everything pending that has no job is told again, behind the page, which says how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from qik_core.passes import Passes
from qik_core.web.asked import Ask, Problem, View
from reconciler import registry
from reconciler.definition import Definition
from reconciler.errors import ReconcilerError, UnknownReconciler
from reconciler.journal import ended, question, told
from reconciler.lease import identity
from reconciler.passes import Tools
from reconciler.rebuild import rebuild
from reconciler.rebuilt import RATE, Order, Progress
from reconciler.web.asking import Sql
from reconciler.web.behind import Behind, Work
from reconciler.web.texts import reason_in
from reconciler.words import rate_of

MOST: Final = 500
"""Reconcilers to choose from."""
FIELDS: Final = ("verb", "reconciler", "rate", "override", "reason", "sure")
"""Of its form."""
_NO_APP: Final = (
    "no reconciler is known here: start the dashboard with the application, reconciler web APP"
)


@dataclass(frozen=True, slots=True)
class Rebuilds:
    """The page."""

    sql: Sql
    behind: Behind = field(default_factory=Behind)

    def look(self, ask: Ask) -> View:
        """Show how far the rebuild is that goes on, or how the last one ended."""
        work = self.behind.last
        data: dict[str, Any] = {
            "work": None if work is None else work.as_json(),
            "names": [each.name for each in registry.everything()][:MOST],
            "given": ask.text("reconciler"),
            "rate": f"{RATE:g}/s",
            "problem": "" if registry.everything() else _NO_APP,
        }
        return View("rebuild.html", "Rebuild", data)

    def act(self, ask: Ask) -> View:
        """Rebuild, or stop; without `sure=yes` say what a rebuild does, and do nothing."""
        verb = ask.text("verb")
        if verb == "stop":
            self._stop()
        elif verb == "rebuild":
            wanted, order = _wanted(ask), _order(ask)
            if ask.text("sure") != "yes":
                return _question(ask, wanted, order)
            self._begin(ask, wanted, order)
        else:
            raise Problem(400, f"verb is {verb!r}: use rebuild or stop")
        return self.look(ask)

    def _begin(self, ask: Ask, wanted: list[Definition], order: Order) -> None:
        seam = Passes(ask.store)

        def do(work: Work) -> None:
            def tell(seen: Progress) -> None:
                work.progress = "; ".join([told(seen), *seen.notes])

            tools = Tools.of(seam, self.sql.engines(), identity())
            done = rebuild(wanted, tools, order, stop=lambda: work.stopping, tell=tell)
            work.lines, work.result = ended(done), done.as_json()
            if done.error is not None:
                raise ReconcilerError(f"{done.error}. Rebuild again: it goes on from here")

        of = ask.text("reconciler") or "everything"
        self.behind.begin(f"the rebuild of {of}", do)

    def _stop(self) -> None:
        work = self.behind.last
        if work is None or work.done:
            raise Problem(409, "no rebuild of this dashboard goes on: there is nothing to stop")
        work.stopping = True


def _wanted(ask: Ask) -> list[Definition]:
    if not registry.everything():
        raise Problem(409, _NO_APP)
    name = ask.text("reconciler")
    try:
        return [registry.find(name)] if name else registry.everything()
    except UnknownReconciler as error:
        raise Problem(404, str(error)) from None


def _order(ask: Ask) -> Order:
    try:
        rate = rate_of(ask.text("rate").strip() or f"{RATE:g}/s")
    except ValueError as error:
        raise Problem(400, f"rate: {error}") from None
    override = ask.text("override") == "yes"
    return Order(rate=rate, override=override, who=ask.who, reason=reason_in(ask))


def _question(ask: Ask, wanted: list[Definition], order: Order) -> View:
    data = {
        "sure": False,
        "action": "/incident/rebuild",
        "fields": {name: ask.text(name) for name in FIELDS if ask.text(name) and name != "sure"},
        "said": "Rebuild",
        "what": question([each.name for each in wanted], order),
        "back": "/incident/rebuild",
    }
    return View("confirm.html", "Are you sure?", data)
