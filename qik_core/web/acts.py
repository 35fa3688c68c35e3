"""What each button does. Everything here stands behind the gate: only who may change things gets so far.

A job is named by its mark, so exactly what was shown is acted on; one that has moved meanwhile stays as it is, and the answer
says so. What a filter means is counted first, and done when a person has confirmed it.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from qik_core.api import Act, Acted, Cancelled, ProcessSet, Queue, cancel
from qik_core.api.filters import Filter
from qik_core.api.paging import PATIENCE, Mark, again, count_of, name_of, named
from qik_core.api.sets import JobSet
from qik_core.errors import QikError
from qik_core.web.asked import Ask, Problem, View, problem_of
from qik_core.web.looks import VERBS, verbs_of

T = TypeVar("T")
log: Final = logging.getLogger("qik_core.web")

MOST_AT_ONCE: Final = 4
_PATIENT: Final = 1.0  # seconds for which a bulk action is waited for; then it goes on behind
_LOOKING: Final = 5.0  # seconds for which all jobs of one request together are searched for
_KEPT: Final = 20  # bulk actions that have ended
_SHOWN: Final = 300.0  # seconds for which pages say how one ended
_SAID: Final = {
    Act.DONE: "{done}",
    Act.GONE: "had moved on meanwhile: nothing was changed",
    Act.BLOCKED: "stays: another job holds its unique key",
    Act.NO_JOB: "stays: these bytes are no job, so no queue can have them",
}
_DONE: Final = {
    "retry": "retried",
    "run": "put on its queue",
    "delete": "deleted",
    "bury": "buried",
}
_CANCELLED: Final = {
    Cancelled.REMOVED: "removed: it was waiting, and its lock is free",
    Cancelled.ASKED: "asked to stop: it ends at its next checkpoint, or is not started",
    Cancelled.NOT_FOUND: "not found: it has ended, is dead, or never was",
}


@dataclass(slots=True)
class Errand:
    """One bulk action."""

    number: int
    text: str
    done: bool = False
    said: str = "going on"
    behind: bool = False
    """Its page was answered before it ended."""
    ended_at: float = 0.0
    who: str = ""


@dataclass(slots=True)
class Errands:
    """Bulk actions, a few at once; a long one goes on when its page has been answered."""

    now: Callable[[], float] = time.monotonic
    kept: list[Errand] = field(default_factory=list)
    """The newest first: all that go on, and some that have ended."""
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def behind(self, text: str, act: Callable[[], str], who: str = "") -> tuple[bool, str]:
        """Do what a tab asks for: see `asked.Behind`. Raises Problem: too many are going on."""
        errand = self.run(text, act, str, who)
        return errand.done, errand.said

    def run(
        self, text: str, act: Callable[[], T], say: Callable[[T], str], who: str = ""
    ) -> Errand:
        """Do it, and wait for a second.

        Raises:
            Problem: too many are going on.
        """
        with self._lock:
            going = [each for each in self.kept if not each.done]
            if len(going) >= MOST_AT_ONCE:
                raise Problem(
                    429, f"{MOST_AT_ONCE} bulk actions are going on: wait for one of them"
                )
            errand = Errand(next(self._numbers), text, who=who)
            self.kept = [
                errand,
                *(each for n, each in enumerate(self.kept) if n < _KEPT or each in going),
            ]
        # A daemon: Python waits for all other threads before it ends, and this may take as long as there are jobs.
        thread = threading.Thread(
            target=self._finish, args=(errand, act, say), name="qik-web-bulk", daemon=True
        )
        thread.start()
        thread.join(_PATIENT)
        errand.behind = not errand.done
        return errand

    def shown(self) -> list[Errand]:
        """Return what pages tell: those that go on, and those that ended a short while ago, behind their page."""
        since = self.now() - _SHOWN
        return [
            each for each in self.kept if not each.done or (each.behind and each.ended_at > since)
        ]

    def _finish(self, errand: Errand, act: Callable[[], T], say: Callable[[T], str]) -> None:
        about = {"what": errand.text, "who": errand.who}
        try:
            errand.said = say(act())
            log.info("a bulk action ended", extra={**about, "result": errand.said})
        except QikError as error:
            errand.said = f"ended early: {error}"
            log.warning("a bulk action ended early", extra={**about, "error": str(error)})
        except Exception:
            log.exception("a bulk action failed", extra=about)
            errand.said = "failed: the log of the dashboard says why"
        finally:
            errand.ended_at = self.now()
            errand.done = True


class Acts:
    """The actions."""

    def __init__(self, errands: Errands, now: Callable[[], float] = time.monotonic) -> None:
        self.errands = errands
        self._now = now

    def queue(self, ask: Ask) -> View:
        """Pause a queue, or resume it."""
        place, verb = named(f"queue:{ask.text('queue')}", ask.store), ask.text("verb")
        if not isinstance(place, Queue) or verb not in ("pause", "resume"):
            raise Problem(400, f"verb is {verb!r}: use pause or resume")
        changed = place.pause() if verb == "pause" else place.resume()
        now = "is paused" if verb == "pause" else "is served"
        text = (
            f"{place.name} {now}" if changed else f"{place.name} {now} already: nothing was changed"
        )
        return _said(text, {"changed": changed}, f"/queues/{place.name}")

    def jobs(self, ask: Ask) -> View:
        """Act on the jobs that were chosen, each by its mark: on none unless every mark is one.

        Raises:
            Problem: Redis failed half-way; it says what was done before.
        """
        place, verb = _place(ask)
        chosen = [_chosen(text) for text in ask.texts("job")]
        if not chosen:
            raise Problem(400, "no job was chosen: tick some, or act on all that the filter means")
        until = self._now() + _LOOKING
        counts: Counter[Act] = Counter()
        try:
            for mark, jid in chosen:
                patience = max(min(PATIENCE, until - self._now()), 0.0)
                job = again(place, mark, jid, patience=patience, store=ask.store)
                acted = Acted(Act.GONE) if job is None else getattr(place, VERBS[verb][0])(job)
                counts[acted.act] += 1
        except QikError as error:
            raise _half_way(error, verb, counts, len(chosen)) from error
        told = _tell(verb, counts)
        if counts[Act.GONE] and self._now() >= until:
            told += f"; not all were searched for within {_LOOKING:g} s: load the page again"
        return _said(told, {each.value: n for each, n in counts.items()}, _back(place))

    def bulk(self, ask: Ask) -> View:
        """Act on all jobs that a filter means; without `sure=yes` say how many that is, and change nothing."""
        place, verb = _place(ask)
        where = str(Filter.parse(ask.text("where")))
        if ask.text("sure") != "yes":
            count, whole = count_of(place, where, store=ask.store)
            more, which = (
                "" if whole else " or more",
                f"that match {where}" if where else "all of them",
            )
            fields = {"place": name_of(place), "verb": verb, "where": where}
            what = f"{count:,}{more} jobs in {name_of(place)}, {which}"
            answer = _sure("/bulk", fields, VERBS[verb][1], what, _back(place, where))
            return replace(answer, data={**answer.data, "count": count, "all": whole})
        act = getattr(place, f"{VERBS[verb][0]}_all")
        text = f"{VERBS[verb][1]}: {where or 'all'} in {name_of(place)}"
        errand = self.errands.run(
            text, lambda: act(where), lambda tally: _tell(verb, tally.counts), ask.who
        )
        return _said(
            f"{errand.text}: {errand.said}",
            {"done": errand.done, "said": errand.said},
            _back(place),
        )

    def cancel(self, ask: Ask) -> View:
        """Cancel a job, wherever it is."""
        jid = ask.text("jid")
        result = cancel(jid, ask.store)
        return _said(f"{jid}: {_CANCELLED[result]}", {"result": result.value}, "/busy")

    def processes(self, ask: Ask) -> View:
        """Ask one process to be quiet or to stop; or all, with `sure=yes`, else say how many that is."""
        verb, identity = ask.text("verb"), ask.text("identity") or None
        processes = ProcessSet(ask.store)
        ask_for = {"quiet": processes.quiet, "stop": processes.stop}.get(verb)
        if ask_for is None:
            raise Problem(400, f"verb is {verb!r}: use quiet or stop")
        if identity is None and ask.text("sure") != "yes":
            count = sum(not each.embedded for each in processes)
            return _sure(
                "/processes", {"verb": verb}, verb.capitalize(), f"all {count:,} processes", "/busy"
            )
        asked = ask_for(identity)
        text = f"{asked} asked to {'be quiet' if verb == 'quiet' else 'stop'}: they look at their next beat"
        return _said(
            text if asked else "nobody was asked: it is gone, or takes no signals",
            {"asked": asked},
            "/busy",
        )


def _place(ask: Ask) -> tuple[JobSet, str]:
    place, verb = named(ask.text("place"), ask.store), ask.text("verb")
    verbs = verbs_of(place)
    if verb not in verbs:
        raise Problem(
            400, f"verb is {verb!r}: with jobs of {name_of(place)} use {', '.join(verbs)}"
        )
    return place, verb


def _chosen(text: str) -> tuple[Mark, str]:
    mark, _, jid = text.partition(" ")
    return Mark.parse(mark), jid


def _half_way(error: QikError, verb: str, counts: Counter[Act], chosen: int) -> Problem:
    problem, done = problem_of(error), counts.total()
    if not done:
        return problem
    told = f"{done:,} of {chosen:,} jobs were acted on: {_tell(verb, counts)}. Then: {problem}"
    return Problem(problem.status, told)


def _tell(verb: str, counts: Counter[Act]) -> str:
    told = [
        f"{n:,} {_SAID[act].format(done=_DONE[verb])}" for act, n in sorted(counts.items()) if n
    ]
    return "; ".join(told) or "no job was meant: nothing was changed"


def _back(place: JobSet, where: str = "") -> str:
    return f"/jobs?{urlencode({'place': name_of(place), 'where': where})}"


def _sure(action: str, fields: dict[str, str], said: str, what: str, back: str) -> View:
    """Return the question whether that is meant; nothing was changed."""
    data = {
        "sure": False,
        "action": action,
        "fields": fields,
        "said": said,
        "what": what,
        "back": back,
    }
    return View("confirm.html", "Are you sure?", data)


def _said(text: str, data: dict[str, Any], back: str) -> View:
    return View("said.html", "Done", {"said": text, **data, "back": back})
