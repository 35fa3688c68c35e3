"""The tab for incidents: what happened lately, and what is done about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from qik_core.web.asked import Ask, View
from qik_core.web.showing import cut
from qik_core.web.tabs import TabPage
from reconciler.timeline import Event, timeline
from reconciler.web.asking import Sql
from reconciler.web.flushes import FIELDS as FLUSH
from reconciler.web.flushes import Flushes
from reconciler.web.rebuilds import FIELDS as REBUILD
from reconciler.web.rebuilds import Rebuilds
from reconciler.web.texts import TEMPLATES, TEXT, span_in, when
from reconciler.words import span

MOST: Final = 200
"""Events on a page."""
SINCE: Final = 7_200.0
"""Seconds that a page looks back, unless it is asked otherwise."""


class Incident:
    """The tab."""

    name: str = "Incident"
    templates: Path | None = TEMPLATES

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._flushes = Flushes(sql)
        self._rebuilds = Rebuilds(sql)

    @property
    def pages(self) -> Sequence[TabPage]:
        """All of them."""
        told = "What happened lately, the newest first"
        flushes, rebuilds = self._flushes, self._rebuilds
        return (
            TabPage("/incident", told, self.timeline, None, ("since",)),
            TabPage(
                "/incident/flush",
                "What a flush would do; the flush itself",
                flushes.look,
                flushes.act,
                fields=FLUSH,
            ),
            TabPage(
                "/incident/rebuild",
                "Tell all that has no job; how far that is",
                rebuilds.look,
                rebuilds.act,
                ("reconciler",),
                REBUILD,
            ),
        )

    def timeline(self, ask: Ask) -> View:
        """Show what happened lately: switches, flushes, losses, leases, quarantines, rebuilds, releases, bad passes."""
        given = span_in(ask, "since")
        seconds = SINCE if given is None else given
        found = self._sql.answer(lambda engines: timeline(engines.home(), seconds, MOST))
        data = {
            "since": when(found.since),
            "now": when(found.now),
            "span": span(seconds),
            "given": ask.text("since"),
            "events": [_event(each) for each in reversed(found.events)],
            "left_out": found.left_out,
        }
        return View("incident.html", "Incident", data)


def _event(each: Event) -> dict[str, Any]:
    return {
        "at": when(each.at),
        "until": when(each.until),
        "what": str(each.what),
        "subject": cut(each.subject, TEXT),
        "text": cut(each.text, TEXT),
        "who": cut(each.who, TEXT),
        "times": each.times,
    }
