"""What an application writes: a class that says which rows want which job, how often, and how it is told.

    class OpenInvoices(Reconciler, every=timedelta(minutes=1), jitter=timedelta(seconds=30)):
        pending = derive(ChargeInvoice, select(Invoice.id).where(Invoice.status == "open"))

Everything that can be wrong with it is said when the class is defined.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any, ClassVar, Final, Required, TypeAlias, TypedDict, Unpack, cast

from reconciler.errors import Rule, UnknownReconciler, broken
from reconciler.jobs import JobFacts, facts
from reconciler.pending import Pending
from reconciler.shape import Shape, shape

Duration: TypeAlias = timedelta | float
"""A timedelta, or seconds."""

LARGEST_BATCH: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}", re.ASCII)
_QUEUE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)


class Options(TypedDict, total=False):
    """The class keywords of a reconciler."""

    every: Required[Duration]
    """Between the beginnings of two passes."""
    jitter: Duration
    """Told jobs become due within so long, each at an instant of its own. 0 by default."""
    min_age: Duration
    """Rows younger than this are left to their own push. Needs `age=`; then 30 s by default."""
    batch_size: int
    """Rows of a page. 1,000 by default and at most."""
    database: str
    """Where the rows live; `default` by default."""
    queue: str
    """A queue of the passes' own; the job's by default."""
    name: str
    """The class's name by default."""
    budget: Duration
    """A pass ends after so long and the next one goes on where it stood. 10 minutes by default."""
    statement_timeout: Duration
    """A page may take so long, then it is tried again at half the size. 10 s by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One reconciler, checked. Times are in seconds."""

    name: str
    job: type[Any]
    facts: JobFacts
    shape: Shape
    every: float
    jitter: float
    min_age: float
    batch_size: int
    database: str
    queue: str | None
    budget: float
    statement_timeout: float
    origin: tuple[str, str]
    """File and qualified name, to tell a clash of names from a reload."""

    @property
    def queues(self) -> list[str]:
        """The queues on which jobs of this reconciler may be."""
        return sorted({self.facts.queue, self.queue or self.facts.queue})


class Reconciler:
    """The base of reconcilers. `pending = derive(...)` says which rows want which job; the keywords are `Options`.

    Raises:
        DefinitionError: at definition; names the class, the rule and the remedy.
    """

    definition: ClassVar[Definition]

    def __init_subclass__(cls, **options: Unpack[Options]) -> None:
        super().__init_subclass__()
        cls.definition = _define(cls, dict(options))
        register(cls.definition)


# --- the checks -------------------------------------------------------------------------------


def _define(cls: type[Reconciler], given: Mapping[str, Any]) -> Definition:
    owner = cls.__qualname__
    for option in given:
        if option not in Options.__annotations__:
            raise broken(
                owner,
                Rule.OPTION,
                f"there is no option {option!r}",
                f"There are: {', '.join(sorted(Options.__annotations__))}",
            )
    pending = cls.__dict__.get("pending", getattr(cls, "pending", None))
    if not isinstance(pending, Pending):
        raise broken(
            owner,
            Rule.PENDING,
            "it does not say which rows want a job"
            if pending is None
            else f"pending is a {type(pending).__name__}",
            "Write pending = derive(SomeJob, select(Row.id).where(...))",
        )
    job = _job(owner, pending)
    made = Definition(
        name=_name(owner, given.get("name", cls.__name__)),
        job=pending.job,
        facts=job,
        shape=shape(owner, pending, job),
        every=_seconds(owner, "every", given.get("every")),
        jitter=_seconds(owner, "jitter", given.get("jitter", 0.0)),
        min_age=_min_age(owner, pending, given),
        batch_size=_batch_size(owner, given.get("batch_size", LARGEST_BATCH)),
        database=given.get("database", "default"),
        queue=_queue(owner, given.get("queue")),
        budget=_seconds(owner, "budget", given.get("budget", 600.0)),
        statement_timeout=_seconds(
            owner, "statement_timeout", given.get("statement_timeout", 10.0)
        ),
        origin=(_file(cls), f"{cls.__module__}.{owner}"),
    )
    _check_times(owner, made)
    return made


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
    seconds = _seconds(owner, "min_age", given["min_age"])
    if seconds and not has_age:
        raise broken(
            owner,
            Rule.MIN_AGE,
            f"min_age is {seconds:g} s, and nothing says how old a row is",
            "Say when a row became pending: derive(..., age=Invoice.updated_at)",
        )
    return seconds


def _seconds(owner: str, option: str, value: object) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if (
        type(value) not in (int, float)
        or not 0 <= cast("float", value) < timedelta.max.total_seconds()
    ):
        raise broken(
            owner,
            Rule.EVERY if option == "every" else Rule.OPTION,
            f"{option} is missing" if value is None else f"{option} is {value!r:.80}",
            f"Use a timedelta or a number of seconds: {option}=timedelta(minutes=1)",
        )
    return float(cast("float", value))


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


# --- names to definitions -----------------------------------------------------------------------

_lock = Lock()
_definitions: dict[str, Definition] = {}


def register(definition: Definition) -> None:
    """Make a reconciler known by its name. Defining the same class again replaces it.

    Raises:
        DefinitionError: another class has the name.
    """
    with _lock:
        there = _definitions.get(definition.name)
        if there is not None and there.origin != definition.origin:
            raise broken(
                definition.origin[1],
                Rule.NAME_CLASH,
                f"two reconcilers are called {definition.name!r}: {there.origin[1]} in {there.origin[0]} "
                f"and {definition.origin[1]} in {definition.origin[0]}",
                "Give one of them another name: name='billing.OpenInvoices'",
            )
        _definitions[definition.name] = definition


def find(name: str) -> Definition:
    """Return the reconciler of this name.

    Raises:
        UnknownReconciler: no imported module defines it.
    """
    with _lock:
        if name in _definitions:
            return _definitions[name]
        known = sorted(_definitions)
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise UnknownReconciler(
        f"no reconciler is called {name!r}{meant}; there are: {', '.join(known) or 'none'}. "
        "Is the module that defines it imported by your app?"
    )


def everything() -> list[Definition]:
    """Return all reconcilers of the imported modules, by name."""
    with _lock:
        return [_definitions[name] for name in sorted(_definitions)]


@contextmanager
def scope() -> Iterator[None]:
    """Forget at the end whatever was defined inside: for tests that define reconcilers of their own."""
    with _lock:
        before = dict(_definitions)
    try:
        yield
    finally:
        with _lock:
            _definitions.clear()
            _definitions.update(before)
