"""The tab of the quarantine: rows that passes leave out because their jobs do not end well; to release them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from qik_core.web.asked import Ask, Problem, View
from qik_core.web.showing import MASK, Shower, cut
from qik_core.web.tabs import TabPage
from reconciler import registry
from reconciler.engines import Engines
from reconciler.memory import MARK, Memory
from reconciler.operators import Operator, release_job, release_one, remembered
from reconciler.states import Hold, State, how
from reconciler.web.asking import Sql
from reconciler.web.texts import TEMPLATES, TEXT, reason_in, when

MOST: Final = 100
"""Rows on a page."""
_CLASSES: Final = 500
_NAME: Final = 200
_NAMED: Final = re.compile(r"(\w+)=")
_GONE: Final = "nothing holds this row back any more, or something has happened to it since: nothing was changed"


class Quarantine:
    """The tab."""

    name = "Quarantine"
    templates = TEMPLATES

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        told = "Rows that are held back, by job; to release one, or all of a job"
        params, fields = (
            ("class", "state", "after"),
            ("verb", "class", "row", "mark", "reason", "sure"),
        )
        self.pages: Sequence[TabPage] = (
            TabPage("/quarantine", told, self.look, self.release, params, fields),
        )

    def look(self, ask: Ask) -> View:
        """Show how many rows of each job are held back, and of one job which."""
        job, hold, after = ask.text("class"), _hold(ask), ask.text("after")
        counts, states = self._sql.answer(lambda engines: _read(engines, job, hold, after))
        shown = states[:MOST]
        data = {
            "classes": _classes(counts),
            "more_classes": max(0, len(counts) - _CLASSES),
            "class": job,
            "state": "" if hold is None else hold.value,
            "rows": [_row(each, ask.shower) for each in shown],
            "after": shown[-1].digest if len(states) > MOST else "",
            "first": not after,
        }
        return View(
            "quarantine.html", f"Quarantine of {cut(job, _NAME)}" if job else "Quarantine", data
        )

    def release(self, ask: Ask) -> View:
        """Release a row, or all of a job; without `sure=yes` say what that is, and change nothing."""
        if ask.text("verb") != "release":
            raise Problem(400, f"verb is {ask.text('verb')!r}: use release")
        job = ask.text("class")
        if job in ("", MARK):
            raise Problem(400, "class is missing: say of which job")
        if ask.text("sure") != "yes":
            return self._ask(ask, job)
        by = Operator(ask.who, reason_in(ask))
        if digest := ask.text("row"):
            return self._begin(ask, job, lambda: self._one(job, digest, ask.text("mark"), by))
        return self._begin(ask, job, lambda: self._all(job, by))

    def _ask(self, ask: Ask, job: str) -> View:
        digest = ask.text("row")
        if not digest:
            counts = self._sql.answer(lambda engines: Memory(engines.home()).counts())
            count = counts.get(job, {}).get(Hold.QUARANTINED, 0)
            return _sure(job, count=count)
        state = self._sql.answer(lambda engines: remembered(Memory(engines.home()), job, digest))
        if state is None:
            raise Problem(
                404, "nothing holds this row back: it was released, or its job ended well"
            )
        return _sure(job, row=_row(state, ask.shower))

    def _begin(self, ask: Ask, job: str, act: Callable[[], str]) -> View:
        done, said = ask.behind(f"Release of {cut(job, _NAME)}", act)
        data = {"done": done, "said": said, "back": "/quarantine"}
        return View("said.html", "Done" if done else "Going on", data)

    def _one(self, job: str, digest: str, mark: str, by: Operator) -> str:
        memory = Memory(self._sql.engines().home())
        state = remembered(memory, job, digest)
        if state is None or mark not in ("", _mark(state)):
            return _GONE
        done = release_one(memory, state, _subject(job, state.shard), by)
        return "1 row is released: the next pass tells it" if done else _GONE

    def _all(self, job: str, by: Operator) -> str:
        count = release_job(Memory(self._sql.engines().home()), job, _subject(job, ""), by)
        return f"{count:,} rows are released: the next pass tells them"


def _read(
    engines: Engines, job: str, hold: Hold | None, after: str
) -> tuple[Mapping[str, Mapping[Hold, int]], list[State]]:
    memory = Memory(engines.home())
    return memory.counts(), memory.page(job, after=(job, after), hold=hold) if job else []


def _hold(ask: Ask) -> Hold | None:
    text = ask.text("state")
    if text and text not in list(Hold):
        raise Problem(400, f"state is {text!r}: use {' or '.join(Hold)}, or leave it empty")
    return Hold(text) if text else None


def _classes(counts: Mapping[str, Mapping[Hold, int]]) -> list[dict[str, Any]]:
    """Return the job classes with rows that are held back, those with most of them in quarantine first."""
    most = sorted(counts.items(), key=lambda each: (-each[1].get(Hold.QUARANTINED, 0), each[0]))
    return [
        {"class": job, **{each.value: held.get(each, 0) for each in Hold}}
        for job, held in most[:_CLASSES]
    ]


def _row(state: State, shower: Shower) -> dict[str, Any]:
    return {
        "row": state.digest,
        "mark": _mark(state),
        "shard": cut(state.shard, _NAME),
        "key": _key(state, shower),
        "state": state.hold.value,
        "reason": state.reason.value,
        "failures": state.failures,
        "crashes": state.crashes,
        "no_progress": state.no_progress,
        "error": cut(how(state), TEXT),
        "jid": cut(state.jid, 64),
        "next_at": when(state.next_at) if state.hold is Hold.WAITING else None,
        "first_at": when(state.first_at),
        "last_at": when(state.last_at),
    }


def _mark(state: State) -> str:
    """Return what tells a state from what becomes of it: nobody releases what they have not seen."""
    return f"{state.hold.value} {state.ends} {state.last_at:.6f}"


def _key(state: State, shower: Shower) -> str:
    """Return the key of a row, masked where one of its names must not be seen."""
    names = {name for each in registry.telling(state.job) for name in each.facts.unique}
    if any(map(shower.hides, names | {*_NAMED.findall(state.key)})):
        return MASK
    return cut(state.key or state.digest, _NAME)


def _subject(job: str, shard: str) -> str:
    """Return what the audit calls it: the reconciler, where one alone tells the job here, else the job."""
    telling = registry.telling(job)
    name = telling[0].name if len(telling) == 1 else job
    return f"{name}/{shard}" if shard else name


def _sure(job: str, *, row: Mapping[str, Any] | None = None, count: int = 1) -> View:
    """Return the question whether that is meant; nothing was changed."""
    data = {"sure": False, "class": job, "row": row, "count": count}
    return View("release.html", "Are you sure?", data)
