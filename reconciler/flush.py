"""Flush: take jobs out of Redis that SQL would tell again, and none that nothing would. `survey.py` says before what it would do.

It refuses what would be lost, unless that is named or kept in a file. What was counted before may be old: what counts is
the judgement of each job as it goes, made while nobody can fetch it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from qik_core import application
from qik_core.errors import QikError
from qik_core.flushing import Flushing, Found, Place
from qik_core.passes import Passes
from reconciler.audit import Action, record
from reconciler.derivable import Derivable, Fate
from reconciler.errors import ReconcilerError
from reconciler.export import Header, Journal
from reconciler.quarantine import RowStates
from reconciler.survey import Means, Plan, Say, judge_of
from reconciler.words import meant, size

_FATES: Final = (
    (Fate.REDERIVABLE, "re-derivable"),
    (Fate.STALE, "stale"),
    (Fate.LOST, "that nothing else brings back"),
)


class WouldLose(ReconcilerError):
    """The flush would lose jobs that nothing brings back, and was not told to."""


@dataclass(slots=True)
class Flushed:
    """What a flush has done."""

    removed: Counter[tuple[str, Fate]] = field(default_factory=Counter)
    """(job class, fate) → jobs."""
    exported: Header | None = None
    left_out: int = 0
    """Jobs that a flush which died had written into the file and not removed: out of it again, and judged anew."""
    before: int = 0
    """Bytes that Redis used."""
    after: int = 0
    seconds: float = 0.0
    unaudited: str = ""
    """Why the end could not be written into the audit; its beginning is there."""

    @property
    def jobs(self) -> int:
        """How many were removed."""
        return self.removed.total()

    def total(self, fate: Fate) -> int:
        """Return how many were removed that had this fate."""
        return sum(count for (_, each), count in self.removed.items() if each is fate)

    def told(self, export: Path | None = None) -> list[str]:
        """Return it for people, in lines; `export` is where jobs were kept."""
        fates = ", ".join(f"{self.total(fate):,} {word}" for fate, word in _FATES)
        freed = max(0, self.before - self.after)
        lines = [f"flushed {self.jobs:,} jobs in {self.seconds:.1f} s: {fates}"]
        lines.append(f"memory: {size(self.before)} → {size(self.after)}, {size(freed)} freed")
        if self.exported is not None:
            lines.append(
                f"{self.exported.jobs:,} jobs are in {export}: `reconciler import {export}` puts them back"
            )
        if self.left_out:
            lines.append(
                f"{self.left_out:,} jobs are not in it that a flush which died had written down and not removed: "
                "they were in Redis still"
            )
        if self.unaudited:
            lines.append(f"the end is not in the audit: {self.unaudited}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        classes: dict[str, dict[str, int]] = {}
        for (name, fate), count in sorted(self.removed.items()):
            classes.setdefault(name, {})[fate.value] = count
        return {
            "removed": self.jobs,
            **{each.value: self.total(each) for each in Fate},
            "classes": classes,
            "exported": self.exported.jobs if self.exported else 0,
            "left_out": self.left_out,
            "memory": {"before": self.before, "after": self.after},
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who flushes, why, and what may be lost."""

    who: str
    reason: str
    lose: frozenset[str] = frozenset()
    """Job classes whose jobs are removed though nothing brings them back."""
    export: Path | None = None
    """Where jobs are kept that nothing else brings back."""


def check(plan: Plan, by: By) -> None:
    """Refuse a flush that would lose what it was not told to lose.

    Raises:
        WouldLose: names each class, how many jobs, and why nothing brings them back.
        ReconcilerError: `lose` names a class that neither Redis nor the application knows.
    """
    known = sorted(plan.names | {each.name for each in application.jobs()})
    for name in sorted(by.lose.difference(known)):
        raise ReconcilerError(
            f"there is no job of a class {name!r}{meant(name, known)}; there are: {', '.join(known) or 'none'}"
        )
    kept = {name: count for name, count in plan.lost.items() if name not in by.lose}
    if kept and by.export is None:
        told = "\n".join(f"  {name}: {n:,} ({plan.why.get(name, '')})" for name, n in kept.items())
        lose = " ".join(f"--lose {name}" for name in kept)
        raise WouldLose(
            f"nothing brings back {sum(kept.values()):,} of these jobs, so they would be lost:\n{told}\n"
            f"Keep them with --export FILE, which `reconciler import FILE` puts back; or say that they may go: {lose}"
        )


def flush(
    plan: Plan,
    means: Means,
    by: By,
    *,
    say: Say = lambda *_: None,
    waits: Callable[[str], object] = lambda _: None,
) -> Flushed:
    """Take the jobs of a plan out of Redis. Repeatable: after a death half-way the same call goes on.

    Behind a switch that was changed a moment ago it begins when all go by it. `waits` is told what this one waits for.

    Raises:
        WouldLose: see `check`.
        SqlUnavailable, NotMigrated: the audit cannot be written: nothing was done.
        StoreError: Redis does not answer; what was done so far is done, and nothing is lost.
        FileInTheWay, BadExport, OSError: the file cannot be written: nothing was done.
    """
    check(plan, by)
    _let_switches_be_seen(means.passes, waits)
    home, begun = means.engines.home(), time.monotonic()
    done = Flushed(before=means.redis.memory()[0])
    about = {"state": "begun", **_short(plan, by)}
    with _journal(by) as journal:
        record(home, Action.FLUSHED, str(plan.selection), by.who, by.reason, about)
        if journal is not None:
            done.left_out = _take_up(journal, means.redis)
        if plan.selection.everything or Place.DEAD in plan.selection.places:
            RowStates(home, means.passes).drain()
        run = _Run(plan, judge_of(means, plan.selection), by, done, journal, say)
        whole = plan.selection.everything
        means.redis.run(run, plan.sources, whole=whole, waits=lambda who: waits(_turn_of(who)))
        run.close()
        done.exported = journal.finish() if journal else None
    done.after = _settled(means.redis)
    done.seconds = time.monotonic() - begun
    try:
        about = {"state": "ended", "lose": sorted(by.lose), **done.as_json()}
        record(home, Action.FLUSHED, str(plan.selection), by.who, by.reason, about)
    except QikError as error:
        done.unaudited = str(error)
    return done


@contextmanager
def _journal(by: By) -> Iterator[Journal | None]:
    if by.export is None:
        yield None
        return
    with Journal(by.export, who=by.who, reason=by.reason, at=time.time()) as journal:
        yield journal


def _take_up(journal: Journal, redis: Flushing) -> int:
    """Take out of the file what a flush that died has not removed; says how many. What nobody can know stays in it."""
    removed = redis.removed(journal.id, list(journal.unsure))
    if removed is None:
        # Nothing will ever tell: Redis notes other steps from now on, which would make these look as if they had stayed.
        removed = set(journal.unsure)
    stayed = [number for jid, number in journal.unsure.items() if jid not in removed]
    left = [number for jid, number in journal.unsure.items() if jid in removed]
    journal.settle(left, stayed)
    redis.note(journal.id)  # which forgets what is on disk by now
    return len(stayed)


class _Run:
    """Judges each job as it goes, writes down what only the file will keep, and counts."""

    def __init__(
        self, plan: Plan, judge: Derivable, by: By, done: Flushed, journal: Journal | None, say: Say
    ) -> None:
        self._selection = plan.selection
        self._judge = judge
        self._lose = by.lose
        self._done = done
        self._journal = journal
        self._say = say
        self._fates: dict[bytes, Fate] = {}
        self._written: dict[bytes, int] = {}

    def judge(self, jobs: Sequence[Found]) -> list[bool]:
        """Say which of these go; what nothing else brings back is on disk before they do."""
        self.close()
        chosen = [job for job in jobs if self._selection.covers(job)]
        fates = zip(chosen, self._judge.fates(chosen), strict=True)
        self._fates = {
            job.raw: fate for job, fate in fates if fate is not None and self._goes(job, fate)
        }
        kept = [job for job in chosen if self._is_kept(job)]
        if self._journal is not None and kept:
            numbers = self._journal.write(kept)
            self._written = {job.raw: n for job, n in zip(kept, numbers, strict=True)}
        return [job.raw in self._fates for job in jobs]

    def ended(self, jobs: Sequence[Found], removed: Sequence[bool]) -> None:
        """Count what has gone; what had moved meanwhile is no business of the file."""
        left: list[int] = []
        stayed: list[int] = []
        for job, out in zip(jobs, removed, strict=True):
            number = self._written.pop(job.raw, None)
            if out:
                self._done.removed[job.name, self._fates[job.raw]] += 1
            if number is not None:
                (left if out else stayed).append(number)
        if self._journal is not None:
            self._journal.settle(left, stayed)
        self._say("jobs removed", self._done.jobs)

    def close(self) -> None:
        """Take out of the file what was chosen and then never reached."""
        if self._journal is not None:
            self._journal.settle((), list(self._written.values()))
        self._written = {}

    def _goes(self, job: Found, fate: Fate) -> bool:
        return fate is not Fate.LOST or job.name in self._lose or self._journal is not None

    def _is_kept(self, job: Found) -> bool:
        return self._fates.get(job.raw) is Fate.LOST and job.name not in self._lose


def _short(plan: Plan, by: By) -> dict[str, Any]:
    fates = {each.value: plan.total(each) for each in Fate}
    export = None if by.export is None else str(by.export)
    return {"jobs": plan.jobs, **fates, "lose": sorted(by.lose), "export": export}


def _let_switches_be_seen(passes: Passes, waits: Callable[[str], object]) -> None:
    """Wait while somebody may go by older switches than these: a pass that does would tell a page again behind the flush.

    By age, since programs that push and processes of reconcilers tell nobody what they have seen.
    """
    known = passes.switches()
    if known.rules and time.time() - known.version / 1000 < _NEW:
        waits(
            "kill switches were changed a moment ago: this waits until every process goes by them"
        )
        time.sleep(_SEEN)


def _turn_of(who: str) -> str:
    return f"{who or 'somebody'} flushes now: this waits until that has ended"


def _settled(redis: Flushing) -> int:
    """Return the bytes that Redis uses once it has given back what it frees in the background."""
    used = redis.memory()[0]
    for _ in range(_LOOKS):
        time.sleep(_LOOK)
        before, used = used, redis.memory()[0]
        if used >= before:
            break
    return used


_SEEN: Final = 2.0
"""Seconds: every process looks once a second, and what it has begun to tell then needs a moment more."""
_NEW: Final = _SEEN + 3.0
"""Seconds: a switch that is younger may be unseen, by the clock of whoever published it, which may be three seconds off."""
_LOOKS: Final = 20
_LOOK: Final = 0.05
