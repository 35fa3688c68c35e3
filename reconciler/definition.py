"""A reconciler, checked: what its query and its keywords come to. Read `define` first.

Everything that can be wrong is said when the class is defined.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from qik_core.switches import OnUnknown
from reconciler.cron import Crontab, Slots, crontab
from reconciler.errors import Rule, broken
from reconciler.guards import check_guard
from reconciler.jobs import JobFacts, facts
from reconciler.mapping import beside_shard
from reconciler.options import (
    LARGEST_BATCH,
    Backpressure,
    Fair,
    Freshness,
    Guard,
    Options,
    Quarantine,
    Shards,
    seconds,
)
from reconciler.pending import Columns, Pending
from reconciler.shape import Shape, shape
from reconciler.slots import slot_shape
from reconciler.words import meant

T = TypeVar("T")

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}", re.ASCII)
_QUEUE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One reconciler, checked. Times are in seconds."""

    name: str
    job: type[Any]
    facts: JobFacts
    shape: Shape
    every: float
    """Between the beginnings of two passes; with `cron` the longest time between two."""
    cron: Crontab | None
    jitter: float
    min_age: float
    batch_size: int
    database: str
    queue: str | None
    budget: float
    statement_timeout: float
    backpressure: Backpressure
    quarantine: Quarantine
    fair: Fair | None
    freshness: Freshness | None
    shards: Shards | None
    guard: Guard | None
    recheck: bool
    expect_progress: bool
    edges: bool
    shadow: bool
    on_unknown: OnUnknown
    origin: tuple[str, str]
    """File and qualified name, to tell a clash of names from a reload."""
    shard: str = ""
    """Which of the shards this one reads; empty for a reconciler without."""

    @property
    def unit(self) -> str:
        """What is leased and run by itself: the name, with the shard behind it where there is one."""
        return f"{self.name}/{self.shard}" if self.shard else self.name

    def in_shard(self, shard: str) -> Definition:
        """Return the part of it that reads one shard."""
        return replace(self, shard=shard)

    def arguments(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the arguments of each row's job, the shard first where there is one."""
        made = self.shape.arguments(rows)
        return [(self.shard, *each) for each in made] if self.shard else made

    @property
    def queues(self) -> list[str]:
        """The queues on which jobs of this reconciler may be."""
        return sorted({self.facts.queue, self.queue or self.facts.queue})


# --- the checks -------------------------------------------------------------------------------


def define(cls: type[Any], given: Mapping[str, Any], slots: Slots | None = None) -> Definition:
    """Return the definition of a class with its keywords. With `slots` its rows say what is done of them.

    Raises:
        DefinitionError: names the class, the rule and the remedy.
    """
    owner = cls.__qualname__
    check_names(owner, "option", given, Options.__annotations__)
    pending = _declared(cls, "pending" if slots is None else "done")
    check_names(owner, "argument of derive()", pending.columns, (*Columns.__annotations__, "args"))
    job = _job(owner, pending)
    every, cron = _times(owner, given)
    made = Definition(
        name=_name(owner, given.get("name", cls.__name__)),
        job=pending.job,
        facts=job,
        shape=shape(owner, pending, _derived(owner, job, given), every)
        if slots is None
        else slot_shape(owner, pending, job, slots),
        every=every,
        cron=cron,
        jitter=seconds(owner, "jitter", given.get("jitter", 0.0)),
        min_age=_min_age(owner, pending, given),
        batch_size=_batch_size(owner, given.get("batch_size", LARGEST_BATCH)),
        database=_database(owner, given.get("database", "default")),
        queue=_queue(owner, given.get("queue")),
        budget=seconds(owner, "budget", given.get("budget", 600.0)),
        statement_timeout=seconds(owner, "statement_timeout", given.get("statement_timeout", 10.0)),
        **_values(owner, given),
        origin=(_file(cls), f"{cls.__module__}.{owner}"),
    )
    _check_times(owner, made)
    _check_reading(owner, made)
    if made.guard is not None:
        sharded = made.shards is not None
        check_guard(owner, made.guard, made.shape, job, work=made.job, sharded=sharded)
    return made


def check_names(
    owner: str, what: str, given: Iterable[str], known: Collection[str], rule: Rule = Rule.OPTION
) -> None:
    """Check that only names are given that there are; `what` is one of them.

    Raises:
        DefinitionError: with the name that may have been meant.
    """
    for name in given:
        if name not in known:
            near = meant(name, known)
            raise broken(
                owner,
                rule,
                f"there is no {what} {name!r}{near}",
                f"There are: {', '.join(sorted(known))}",
            )


def _declared(cls: type[Any], name: str) -> Pending[Any]:
    pending = getattr(cls, name, None)
    if isinstance(pending, Pending):
        return pending
    raise broken(
        cls.__qualname__,
        Rule.PENDING,
        f"it does not say which rows {'want a job' if name == 'pending' else 'are done'}"
        if pending is None
        else f"{name} is a {type(pending).__name__}",
        f"Write {name} = derive(SomeJob, select(Row.{'id' if name == 'pending' else 'slot'}).where(...))",
    )


def _job(owner: str, pending: Pending[Any]) -> JobFacts:
    job = facts(pending.job)
    if job is None:
        raise broken(
            owner,
            Rule.JOB,
            f"{pending.job!r:.80} is not a job",
            "Give derive() a class with perform: class X(Job, unique_for=...), or a function with @job",
        )
    if job.unique_for is None:
        raise broken(
            owner,
            Rule.UNIQUE_FOR,
            f"{job.name} is not unique, so every pass would add a copy of every job",
            f"Write class {job.name}(Job, unique_for=timedelta(hours=1))",
        )
    if job.unique_until != "success":
        raise broken(
            owner,
            Rule.UNIQUE_UNTIL,
            f"the lock of {job.name} ends when it starts, so a pass would add a copy beside each running one",
            f"Write class {job.name}(Job, unique_until='success')",
        )
    return job


def _derived(owner: str, job: JobFacts, given: Mapping[str, Any]) -> JobFacts:
    """Return what of the job its rows have to give."""
    if not isinstance(given.get("shards"), Shards):
        return job
    if "database" in given:
        raise broken(
            owner,
            Rule.OPTION,
            "both database= and shards= are given",
            "Leave database= out: Shards(load) says where each shard's rows are",
        )
    return beside_shard(owner, job)


def _times(owner: str, given: Mapping[str, Any]) -> tuple[float, Crontab | None]:
    """Return how many seconds lie between two passes at most, and their times."""
    if given.get("cron") is None:
        return seconds(owner, "every", given.get("every"), Rule.EVERY), None
    if given.get("every") is not None:
        raise broken(owner, Rule.CRON, "both every= and cron= are given", "Leave one of them out")
    cron = crontab(owner, "cron", given["cron"])
    return cron.longest, cron


def _check_reading(owner: str, made: Definition) -> None:
    """Check what belongs together of what passes read."""
    if made.fair is not None and made.shape.tenant_at is None:
        raise broken(
            owner,
            Rule.FAIR,
            "fair= is given, and nothing says whose a row is",
            "Say whose: derive(..., tenant=Invoice.account_id)",
        )
    if made.freshness is None:
        return
    if made.shards is not None:
        raise broken(
            owner,
            Rule.FRESHNESS,
            "both freshness= and shards= are given, and one replica has not the rows of all shards",
            "Leave freshness= out",
        )
    if made.freshness.replica == made.database:
        raise broken(
            owner,
            Rule.FRESHNESS,
            f"the replica is {made.database!r}, which is where the rows are written",
            "Name the replica's own database: Freshness(replica='reporting')",
        )


def _check_times(owner: str, made: Definition) -> None:
    if made.jitter > made.every:
        raise broken(
            owner,
            Rule.JITTER_EVERY,
            f"jitter is {made.jitter:g} s and every {made.every:g} s: rows would wait longer than for the next pass",
            f"Use a jitter of at most {made.every:g} s",
        )
    if made.jitter >= (made.facts.unique_for or 0):
        raise broken(
            owner,
            Rule.JITTER_UNIQUE,
            f"jitter is {made.jitter:g} s and {made.facts.name} is unique for {made.facts.unique_for} s: "
            "its lock would end before the job is due",
            "Use a longer unique_for on the job, or a shorter jitter",
        )
    for option in ("every", "budget", "statement_timeout"):
        if getattr(made, option) <= 0:
            raise broken(
                owner,
                Rule.EVERY if option == "every" else Rule.OPTION,
                f"{option} is {getattr(made, option):g} s",
                f"Use more than 0: {option}=timedelta(minutes=1)",
            )


def _min_age(owner: str, pending: Pending[Any], given: Mapping[str, Any]) -> float:
    has_age = pending.columns.get("age") is not None
    if "min_age" not in given:
        return 30.0 if has_age else 0.0
    least = seconds(owner, "min_age", given["min_age"])
    if least and not has_age:
        raise broken(
            owner,
            Rule.MIN_AGE,
            f"min_age is {least:g} s, and nothing says how old a row is",
            "Say when a row became pending: derive(..., age=Invoice.updated_at)",
        )
    return least


def _values(owner: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that take a value of a class of their own, or True and False."""
    return {
        "backpressure": _typed(owner, given, "backpressure", Backpressure) or Backpressure(),
        "quarantine": _typed(owner, given, "quarantine", Quarantine) or Quarantine(),
        "fair": _typed(owner, given, "fair", Fair),
        "freshness": _typed(owner, given, "freshness", Freshness),
        "shards": _typed(owner, given, "shards", Shards),
        "guard": _typed(owner, given, "guard", Guard),
        "recheck": _switch(owner, given, "recheck", default=True),
        "expect_progress": _switch(owner, given, "expect_progress", default=True),
        "edges": _switch(owner, given, "edges", default=False),
        "shadow": _switch(owner, given, "shadow", default=False),
        "on_unknown": _on_unknown(owner, given.get("on_unknown", "run")),
    }


def _typed(owner: str, given: Mapping[str, Any], option: str, kind: type[T]) -> T | None:
    value = given.get(option)
    if value is not None and not isinstance(value, kind):
        raise broken(
            owner,
            Rule.OPTION,
            f"{option} is {value!r:.80}",
            f"Use {option}={kind.__name__}(...), from reconciler import {kind.__name__}",
        )
    return value


def _switch(owner: str, given: Mapping[str, Any], option: str, *, default: bool) -> bool:
    value = given.get(option, default)
    if type(value) is not bool:
        raise broken(owner, Rule.OPTION, f"{option} is {value!r:.80}", "Use True or False")
    return value


def _on_unknown(owner: str, value: object) -> OnUnknown:
    if type(value) is not str or value not in list(OnUnknown):
        raise broken(owner, Rule.OPTION, f"on_unknown is {value!r:.80}", "Use 'run' or 'stop'")
    return OnUnknown(value)


def _batch_size(owner: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= LARGEST_BATCH:
        raise broken(
            owner, Rule.OPTION, f"batch_size is {value!r:.80}", f"Use 1 to {LARGEST_BATCH:,}"
        )
    return value


def _name(owner: str, value: object) -> str:
    if type(value) is not str or _NAME.fullmatch(value) is None:
        raise broken(
            owner,
            Rule.NAME,
            f"{value!r:.80} cannot be a name",
            "Use up to 100 of A-Z a-z 0-9 _ . : - with a letter first: name='billing.open-invoices'",
        )
    return value


def _database(owner: str, value: object) -> str:
    if type(value) is not str or not value:
        raise broken(
            owner,
            Rule.OPTION,
            f"database is {value!r:.80}",
            "Use the name of a database in the settings: database='billing'",
        )
    return value


def _queue(owner: str, value: object) -> str | None:
    if value is not None and (type(value) is not str or _QUEUE.fullmatch(value) is None):
        raise broken(
            owner, Rule.OPTION, f"queue is {value!r:.80}", "Use 1 to 128 of A-Z a-z 0-9 _ . : -"
        )
    return value


def _file(cls: type) -> str:
    try:
        return inspect.getfile(cls)
    except (TypeError, OSError):
        return cls.__module__
