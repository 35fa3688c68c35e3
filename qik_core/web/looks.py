"""What each page shows. None of these functions changes anything."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from qik_core.api import History, ProcessSet, Queue, Stats, WorkSet
from qik_core.api.filters import Filter
from qik_core.api.paging import Mark, Marked, again, all_places, look, name_of, named, page
from qik_core.api.sets import JobSet
from qik_core.errors import QikError
from qik_core.store import Store, trace
from qik_core.web.asked import Ask, Problem, View, problem_of
from qik_core.web.showing import cut
from qik_core.web.tabs import Card, CardTab, Tab, Tone

log: Final = logging.getLogger("qik_core.web")

VERBS: Final = {
    "retry": ("retry", "Retry now"),
    "run": ("advance", "Run now"),
    "delete": ("delete", "Delete"),
    "bury": ("bury", "Bury"),
}
"""What can be done with a job: the method of its place, and what a button says."""
MOST_ROWS: Final = 500
MOST_BUSY: Final = 200
"""Processes, and runs, of a page that every open browser asks for every 3 s."""
_ALL, _EACH = 0.7, 0.2  # seconds for all places together, and for one of them
_DAYS: Final = 7
_CARDS, _CARD_NAME, _CARD_VALUE = 20, 60, 300


class Rates:
    """Runs a second, from the totals that pages happened to read within the last minute."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def add(self, processed: int) -> float:
        """Take a total, and return the rate; 0 until a second has passed."""
        now = self._now()
        with self._lock:
            while self._seen and (now - self._seen[0][0] > 60 or self._seen[0][1] > processed):  # noqa: PLR2004
                self._seen.popleft()
            if not self._seen or now - self._seen[-1][0] >= 1:
                self._seen.append((now, processed))
            since, before = self._seen[0]
        return (processed - before) / (now - since) if now - since >= 1 else 0.0


def verbs_of(place: JobSet) -> dict[str, str]:
    """Return what can be done with the jobs of a place: verb → what a button says."""
    return {verb: said for verb, (method, said) in VERBS.items() if hasattr(place, method)}


class Looks:
    """The pages."""

    def __init__(self, rates: Rates, tabs: Sequence[Tab] = ()) -> None:
        self._rates = rates
        self._tabs = [tab for tab in tabs if isinstance(tab, CardTab)]

    def overview(self, ask: Ask) -> View:
        """Show how much of everything there is."""
        stats, history = Stats.read(ask.store), History.read(_DAYS, store=ask.store)
        days = [
            {"day": day, "processed": count, "failed": history.failed[day]}
            for day, count in history.processed.items()
        ]
        data = {**_numbers(stats), "per_second": self._rates.add(stats.processed), "days": days}
        cards = [_card(each) for tab in self._tabs for each in _cards_of(tab, ask)]
        return View("overview.html", "Overview", {**data, "queues": _queues(stats), "cards": cards})

    def pulse(self, ask: Ask) -> View:
        """Show the totals alone: every open page asks for them."""
        stats = Stats.read(ask.store)
        rate = self._rates.add(stats.processed)
        return View("pulse.html", "Pulse", {**_numbers(stats), "per_second": rate})

    def queues(self, ask: Ask) -> View:
        """Show all queues."""
        stats = Stats.read(ask.store)
        held = [
            {"job": name, "jobs": each.jobs, "bytes": each.bytes}
            for name, each in stats.held.items()
        ]
        later = [
            {"name": name_of(place), "size": place.size}
            for place in islice(all_places(ask.store), 2 * MOST_ROWS)
            if name_of(place).startswith(("later:", "suspects:")) and place.size
        ]
        return View(
            "queues.html", "Queues", {"queues": _queues(stats), "held": held, "elsewhere": later}
        )

    def queue(self, ask: Ask) -> View:
        """Show one queue and its jobs, the newest first."""
        place = named(f"queue:{ask.text('queue')}", ask.store)
        assert isinstance(place, Queue)  # noqa: S101  for the type checker: the name says so
        numbers = {
            "name": place.name,
            "size": place.size,
            "latency": place.latency,
            "paused": place.paused,
        }
        shown = _shown(ask, place)
        return View("place.html", f"Queue {place.name}", {**shown, "queue": numbers})

    def place(self, ask: Ask, name: str, title: str) -> View:
        """Show the jobs of one place."""
        return View("place.html", title, {**_shown(ask, named(name, ask.store)), "queue": None})

    def jobs(self, ask: Ask) -> View:
        """Show the jobs that a filter means: of one place, or the first of every place."""
        where, places = str(Filter.parse(ask.text("where"))), all_places(ask.store)
        names = ["", *map(name_of, islice(places, MOST_ROWS))]
        if ask.text("place"):
            shown = _shown(ask, named(ask.text("place"), ask.store))
            return View("place.html", "Jobs", {**shown, "queue": None, "places": names})
        count = ask.number("count", 25)
        found, cut = _everywhere(places, where, count, ask.store)
        data = {"where": where, "rows": [ask.shower.row(each) for each in found], "places": names, "count": count, "cut": cut,
                "place": "", "after": "", "looked": 0, "size": 0, "verbs": {}, "queue": None}  # fmt: skip
        return View("place.html", "Jobs", data)

    def job(self, ask: Ask) -> View:
        """Show one job: by its id, or exactly the one of a mark."""
        marked = _marked(ask)
        view, verbs = (
            ask.shower.whole(marked),
            verbs_of(named(marked.place, ask.store)) if marked.place else {},
        )
        lock = trace.trace(ask.store, view.unique, patience=0.4) if view.unique else None
        told = lock and {
            "state": lock.state.value,
            "jid": lock.jid,
            "holder": lock.holder.identity if lock.holder else "",
            "expires_at": lock.expires_at,
            "again": lock.dirty,
        }
        title = f"{view.row.job} {view.row.jid}"
        return View("job.html", title, {"job": view, "lock": told, "verbs": verbs})

    def busy(self, ask: Ask) -> View:
        """Show processes and what runs."""
        processes = [
            {"identity": each.identity, "hostname": each.hostname, "pid": each.pid, "tag": each.tag,
             "version": each.version, "started_at": each.started_at, "beat_at": each.beat_at, "busy": each.busy,
             "concurrency": each.concurrency, "quiet": each.quiet, "embedded": each.embedded,
             "rss_kb": each.rss, "queues": list(each.queues)[:20]}
            for each in islice(ProcessSet(ask.store), MOST_BUSY)
        ]  # fmt: skip
        works = [ask.shower.work(each) for each in islice(WorkSet(ask.store), MOST_BUSY)]
        stats = Stats.read(ask.store)
        of = {"processes": stats.processes, "works": stats.busy, "most": MOST_BUSY}
        return View("busy.html", "Busy", {"processes": processes, "works": works, "of": of})

    def aside(self, ask: Ask) -> View:
        """Show what cannot be run: bytes that are no job, and jobs whose class or arguments nobody knows."""
        parts = []
        for title, name, where in (
            ("No jobs at all", "dead", "class:qik:malformed"),
            ("Unknown here, to be tried again", "retries", "error:UnknownJob"),
            ("Unknown here, dead", "dead", "error:UnknownJob"),
        ):
            found = page(named(name, ask.store), where, count=25, patience=_EACH, store=ask.store)
            rows = [ask.shower.row(each) for each in found.jobs]
            parts.append(
                {
                    "title": title,
                    "place": name,
                    "where": where,
                    "rows": rows,
                    "more": bool(found.after),
                }
            )
        return View("aside.html", "Set aside", {"parts": parts})


def _cards_of(tab: CardTab, ask: Ask) -> Sequence[Card]:
    """Return the cards of a tab; one that says why, where it has none: the rest of the overview stands."""
    try:
        return tab.cards(ask)[:_CARDS]
    except QikError as error:
        said = str(problem_of(error))
    except Exception:
        log.exception("the cards of the tab %s failed", tab.name)
        said = "failed: the log of the dashboard says why"
    return [Card(tab.name, said, tab.pages[0].path, Tone.BAD)]


def _card(card: Card) -> dict[str, str]:
    return {
        "name": cut(card.name, _CARD_NAME),
        "value": cut(card.value, _CARD_VALUE),
        "path": card.path,
        "tone": card.tone,
    }


def _marked(ask: Ask) -> Marked:
    jid = ask.text("jid")
    place, mark = ask.text("place"), ask.text("mark")
    if place and mark:
        job = again(named(place, ask.store), Mark.parse(mark), jid, store=ask.store)
        if job is not None:
            return Marked(place, job, Mark.parse(mark))
    found = look(jid, ask.store) if jid != "-" else None
    if found is None:
        raise Problem(
            404, f"there is no job {jid} here: it has ended, or is further back than was looked"
        )
    return found


def _everywhere(
    places: Sequence[JobSet], where: str, count: int, store: Store
) -> tuple[list[Marked], bool]:
    """Return the first jobs of all places, and whether there are more, or may be."""
    found: list[Marked] = []
    until, cut = time.monotonic() + _ALL, False
    for place in places:
        if time.monotonic() >= until or len(found) >= count:
            return found, True
        some = page(place, where, count=count - len(found), patience=_EACH, store=store)
        found += some.jobs
        cut = cut or bool(some.after)
    return found, cut


def _shown(ask: Ask, place: JobSet) -> dict[str, Any]:
    where, count = str(Filter.parse(ask.text("where"))), ask.number("count", 25)
    found = page(place, where, after=ask.text("after"), count=count, store=ask.store)
    return {
        "place": name_of(place),
        "where": where,
        "count": count,
        "rows": [ask.shower.row(each) for each in found.jobs],
        "after": found.after,
        "looked": found.looked,
        "cut": False,
        "size": place.size,
        "verbs": verbs_of(place),
        "places": [],
    }


def _queues(stats: Stats) -> Sequence[dict[str, Any]]:
    most = sorted(stats.queues.values(), key=lambda each: (-each.size, each.name))[:MOST_ROWS]
    return [
        {"name": q.name, "size": q.size, "latency": q.latency, "paused": q.paused} for q in most
    ]


def _numbers(stats: Stats) -> dict[str, Any]:
    return {
        "processed": stats.processed, "failed": stats.failed, "busy": stats.busy, "enqueued": stats.enqueued,
        "scheduled": stats.scheduled, "retries": stats.retries, "dead": stats.dead,
        "processes": stats.processes, "held": sum(each.jobs for each in stats.held.values()),
        "wrong": stats.wrong,
    }  # fmt: skip
