"""What a flush would do: what waits in Redis, per class and queue, and what its removal would mean. Writes nothing.

Counts of a live Redis are approximate: others push and fetch while it is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qik_core import application
from qik_core.flushing import Flushing, Found, Place, Seen
from qik_core.passes import Passes
from reconciler.derivable import Derivable, Fate
from reconciler.engines import Engines
from reconciler.errors import ReconcilerError
from reconciler.words import meant, size

_NAMED: Final = 20
_FATES: Final = (
    (Fate.REDERIVABLE, "re-derivable"),
    (Fate.STALE, "stale"),
    (Fate.LOST, "would be lost"),
)
Say = Callable[[str, int], object]
"""Takes what is being done, and how many jobs so far."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs are meant: those that fit everything that is said."""

    everything: bool = False
    """All of them, and the loss id changes: passes begin again, every lock is made anew."""
    classes: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    places: frozenset[Place] = frozenset()
    tenant: str | None = None
    """As one types it; jobs whose row is pending and of this tenant."""
    put_back: bool = False
    """None: what a flush that died has put aside goes back."""

    def covers(self, job: Found) -> bool:
        """Whether a job is meant, but for its tenant."""
        return not self.put_back and (
            (not self.classes or job.name in self.classes)
            and (not self.queues or job.queue in self.queues)
            and (not self.places or job.home.place in self.places)
        )

    @property
    def word(self) -> str:
        """What a person writes who means it."""
        names = [*sorted(self.classes), *sorted(self.queues), *sorted(self.places)]
        return "all" if self.everything else [*names, self.tenant or ""][0]

    def __str__(self) -> str:
        if self.everything or self.put_back:
            return "all" if self.everything else "put back"
        words = [f"class:{each}" for each in sorted(self.classes)]
        words += [f"queue:{each}" for each in sorted(self.queues)]
        words += [f"set:{each}" for each in sorted(self.places)]
        return " ".join([*words, *([] if self.tenant is None else [f"tenant:{self.tenant}"])])


@dataclass(frozen=True, slots=True)
class Means:
    """What a flush works with."""

    engines: Engines
    redis: Flushing
    passes: Passes

    @classmethod
    def of(cls, engines: Engines, who: str = "") -> Means:
        """Return them for the Redis of the settings; `who` is told to others who would flush meanwhile."""
        return cls(engines, Flushing(who=who), Passes())


@dataclass(slots=True)
class Line:
    """The jobs of one class on one queue."""

    name: str
    queue: str
    places: Counter[Place] = field(default_factory=Counter)
    running: int = 0
    """Jobs that processes hold: they are not touched, and counted in nothing else."""
    bytes: int = 0
    """Of their payloads."""
    fates: Counter[Fate] = field(default_factory=Counter)

    @property
    def jobs(self) -> int:
        """How many are meant."""
        return self.fates.total()

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        places = {each.value: self.places[each] for each in Place}
        fates = {each.value: self.fates[each] for each in Fate}
        row = {"class": self.name, "queue": self.queue, "jobs": self.jobs, "bytes": self.bytes}
        return {**row, **places, "running": self.running, **fates}


@dataclass(slots=True)
class Plan:
    """What a flush would do, as Redis and SQL were a moment ago."""

    selection: Selection
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    foreign: int = 0
    """Jobs of others that were met: they are left alone."""
    others: int = 0
    """Jobs of ours that are not meant."""
    aside: int = 0
    """Jobs that a flush which died has put aside; this one goes on with them."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Job class → why its jobs would be lost."""
    sources: set[bytes] = field(default_factory=set)
    """Keys with jobs that are meant."""
    names: set[str] = field(default_factory=set)
    """Every class that was met, also those whose jobs all run."""
    queues: set[str] = field(default_factory=set)
    used: int = 0
    """Bytes that Redis uses."""
    limit: int = 0
    """Bytes that it may use; 0 without a limit."""

    @property
    def jobs(self) -> int:
        """How many jobs are meant."""
        return sum(line.jobs for line in self.lines.values())

    @property
    def lost(self) -> dict[str, int]:
        """Job class → how many of its jobs nothing would bring back."""
        found: Counter[str] = Counter()
        for line in self.lines.values():
            found[line.name] += line.fates[Fate.LOST]
        return {name: count for name, count in sorted(found.items()) if count}

    def total(self, fate: Fate) -> int:
        """Return how many jobs have this fate."""
        return sum(line.fates[fate] for line in self.lines.values())

    def unknown(self) -> str:
        """Return which class or queue is meant that neither Redis nor the application knows; empty: they know all."""
        jobs, chosen = application.jobs(), self.selection
        wanted = (
            ("class", chosen.classes, self.names | {each.name for each in jobs}),
            ("queue", chosen.queues, self.queues | {each.queue for each in jobs}),
        )
        for kind, names, known in wanted:
            for name in sorted(names - known):
                there = ", ".join(sorted(known)[:_NAMED]) or "none"
                near = meant(name, sorted(known))
                return f"there is no job of {kind} {name!r}{near}; there are: {there}"
        return ""

    def notes(self, problem: str = "") -> list[str]:
        """Return what people are told beside the numbers; `problem`: why no class is known."""
        fates = ", ".join(f"{self.total(fate):,} {word}" for fate, word in _FATES)
        of = f" of {size(self.limit)}" if self.limit else ""
        notes = [f"{self.jobs:,} jobs: {fates}. Redis uses {size(self.used)}{of}"]
        for name, n in self.lost.items():
            notes.append(f"{name}: {n:,} would be lost: {self.why.get(name, '')}")
        if self.selection.tenant is not None:
            notes += [f"{name}: left out: {why}" for name, why in sorted(self.why.items())]
        if self.others or self.foreign:
            notes.append(
                f"left alone: {self.others:,} other jobs of ours, {self.foreign:,} of others"
            )
        if self.aside:
            notes.append(
                f"a flush ended half-way: {self.aside:,} jobs are aside. "
                "This one goes on with them: what it does not mean goes back"
            )
        if problem:
            notes.append(f"No class is known, so nothing counts as re-derivable: {problem}")
        return notes

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "selection": str(self.selection),
            "jobs": self.jobs,
            **{each.value: self.total(each) for each in Fate},
            "lines": [line.as_json() for _, line in sorted(self.lines.items())],
            "would_lose": {
                name: {"jobs": count, "why": self.why.get(name, "")}
                for name, count in self.lost.items()
            },
            "others": self.others,
            "foreign": self.foreign,
            "aside": self.aside,
            "memory": {"used": self.used, "limit": self.limit},
        }


def survey(means: Means, selection: Selection, say: Say = lambda *_: None) -> Plan:
    """Return what a flush would do. Writes nothing.

    Raises:
        StoreError: Redis does not answer.
        ReconcilerError: a tenant is meant, and no reconciler says whose its rows are.
    """
    judge = judge_of(means, selection)
    plan, seen = Plan(selection, why=judge.why), 0
    for some in means.redis.look():
        seen += len(some.jobs) + some.foreign
        plan.foreign += some.foreign
        plan.aside += (len(some.jobs) + some.foreign) if some.home.trash else 0
        _count(plan, some, judge)
        say("jobs looked at", seen)
    for job in means.redis.running():
        plan.names.add(job.name)
        if selection.covers(job) and selection.tenant is None:
            _line(plan, job).running += 1
    plan.used, plan.limit = means.redis.memory()
    return plan


def judge_of(means: Means, selection: Selection) -> Derivable:
    """Return what knows the fates of the jobs that are meant; raises ReconcilerError as `survey` does."""
    judge = Derivable(means.engines, tenant=selection.tenant)
    if selection.tenant is not None and not judge.has_tenants():
        raise ReconcilerError(
            "no reconciler says whose its rows are, so no job is known to be a tenant's: derive(…, tenant=Invoice.account_id)"
        )
    return judge


def _count(plan: Plan, some: Seen, judge: Derivable) -> None:
    plan.names.update(job.name for job in some.jobs)
    plan.queues.update(job.queue for job in some.jobs)
    jobs = [job for job in some.jobs if plan.selection.covers(job)]
    plan.others += len(some.jobs) - len(jobs)
    for job, fate in zip(jobs, judge.fates(jobs), strict=True):
        if fate is None:
            plan.others += 1
            continue
        line = _line(plan, job)
        line.places[job.home.place] += 1
        line.bytes += len(job.raw)
        line.fates[fate] += 1
        plan.sources.add(job.home.key)


def _line(plan: Plan, job: Found) -> Line:
    at = (job.name, job.queue)
    if at not in plan.lines:
        plan.lines[at] = Line(*at)
    return plan.lines[at]
