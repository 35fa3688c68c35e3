"""The tab of reconcilers: who runs each, how its last pass ended, when the next one comes."""

from __future__ import annotations

from collections.abc import Sequence

from qik_core.passes import Passes
from qik_core.web.asked import Ask, View
from qik_core.web.showing import cut
from qik_core.web.tabs import Card, TabPage
from reconciler import registry
from reconciler.status import standings, whole
from reconciler.web import overview
from reconciler.web.asking import Shared, Sql, answering
from reconciler.web.one import One
from reconciler.web.rows import MOST, TEXT, row_of
from reconciler.web.texts import TEMPLATES


class Reconcilers:
    """The tab."""

    name = "Reconcilers"
    templates = TEMPLATES

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._known = Shared(sql, overview.Asking().ask)
        one = One(sql)
        told = "One reconciler: its last passes, what it declares; to run a pass now"
        path = "/reconcilers/{reconciler}"
        self.pages: Sequence[TabPage] = (
            TabPage("/reconcilers", "Who runs each reconciler, and its last pass", self.every),
            TabPage(path, told, one.look, one.run, ("shard",), ("verb", "shard")),
            TabPage(f"{path}/plan", "What a pass would do now", one.plan, None, ("shard",)),
        )

    def cards(self, ask: Ask) -> Sequence[Card]:  # noqa: ARG002 - Redis has answered the rest of the page
        """Say on the overview how whole everything is."""
        return overview.cards(self._known.answer())

    def every(self, ask: Ask) -> View:
        """Show all of them."""
        asked = self._sql.ask(lambda engines: standings(engines.home()))
        answers = answering(Passes(ask.store)) is not None
        rows = asked.answer()
        known = {each.name: each for each in registry.everything()}
        data = {
            "rows": [row_of(each, known.get(each.reconciler)) for each in rows[:MOST]],
            "more": max(0, len(rows) - MOST),
            "whole": cut(whole(rows, answers=answers), TEXT) if rows else "",
        }
        return View("reconcilers.html", "Reconcilers", data)
