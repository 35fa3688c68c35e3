"""Which flag a person means by a name: of a job class, of a reconciler, of `queue:NAME`, or the flag itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sqlalchemy import Engine, select

from qik_core import application
from qik_core.settings import current
from qik_core.switches import flag_of_class, flag_of_queue, flag_of_reconciler
from reconciler.errors import ReconcilerError
from reconciler.lease import PROCESS
from reconciler.registry import everything
from reconciler.sql import reading
from reconciler.tables import lease, passes, row_state
from reconciler.words import meant

FLAG: Final = re.compile(r"disable_[A-Za-z0-9_.-]{1,190}", re.ASCII)
_QUEUE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_TYPED: Final = re.compile(r"(class|reconciler|queue):(?!:)(.+)", re.ASCII)
_QUERY: Final = 2.0


class UnknownName(ReconcilerError):
    """Nothing is called so, or more than one thing is."""


class Kind(StrEnum):
    """What a switch stops."""

    CLASS = "class"
    RECONCILER = "reconciler"
    QUEUE = "queue"
    FLAG = "flag"  # taken as it is


@dataclass(frozen=True, slots=True)
class Target:
    """What a person means."""

    kind: Kind
    name: str

    @property
    def flag(self) -> str:
        """The flag that stops it."""
        makers = {
            Kind.CLASS: flag_of_class,
            Kind.RECONCILER: flag_of_reconciler,
            Kind.QUEUE: flag_of_queue,
        }
        return self.name if self.kind is Kind.FLAG else makers[self.kind](self.name)

    def __str__(self) -> str:
        return self.name if self.kind is Kind.FLAG else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Names:
    """The names that there are. `told` are the reconcilers of each class."""

    classes: Mapping[str, str] = field(default_factory=dict)
    """Name or alias → name."""
    told: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Job class → the reconcilers that tell it."""
    queues: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Queue → the job classes that are pushed to it."""
    tenants: frozenset[str] = frozenset()
    """Job classes that say which argument is their tenant."""
    complete: bool = True
    """They are all there are; otherwise only those that SQL and Redis have seen at work."""

    @property
    def reconcilers(self) -> frozenset[str]:
        """The names of reconcilers."""
        return frozenset(name for names in self.told.values() for name in names)

    def stopped_by(self, target: Target) -> list[str]:
        """Return the job classes that a switch of it stops, as far as they are known."""
        if target.kind is Kind.CLASS:
            return [target.name]
        return sorted(self.queues.get(target.name, ())) if target.kind is Kind.QUEUE else []

    def flags(self) -> dict[str, Target]:
        """Return flag → what it stops."""
        targets = [
            *(Target(Kind.QUEUE, name) for name in self.queues),
            *(Target(Kind.RECONCILER, name) for name in self.reconcilers),
            *(Target(Kind.CLASS, name) for name in {*self.classes.values()}),
        ]
        return {each.flag: each for each in targets}


def of_application() -> Names:
    """Return the names of the application that was imported."""
    jobs = application.jobs()
    told: dict[str, set[str]] = {}
    for each in everything():
        told.setdefault(each.facts.name, set()).add(each.name)
    served = {queue for each in current().all_capsules().values() for queue, _ in each.queues}
    queues: dict[str, set[str]] = {queue: set() for queue in served}
    uses = [(each.queue, each.name) for each in jobs]
    uses += [(each.queue, each.facts.name) for each in everything() if each.queue]
    for queue, name in uses:
        queues.setdefault(queue, set()).add(name)
    return Names(
        {alias: each.name for each in jobs for alias in (each.name, *each.aliases)},
        {name: frozenset(names) for name, names in told.items()},
        {queue: frozenset(names) for queue, names in queues.items()},
        frozenset(each.name for each in jobs if each.tenant is not None),
    )


def of_tables(home: Engine, classes: Iterable[str] = ()) -> Names:
    """Return the names that SQL has seen at work, and these classes: for when the application cannot be imported.

    Raises:
        SqlUnavailable: the home database does not answer.
        NotMigrated: it has no tables of ours.
    """
    with reading(home, _QUERY) as connection:
        pairs = connection.execute(
            select(passes.c.reconciler, passes.c.job_class).distinct()
        ).fetchall()
        held = connection.execute(select(row_state.c.job_class).distinct()).scalars().all()
        leased = connection.execute(select(lease.c.reconciler).distinct()).scalars().all()
    told: dict[str, set[str]] = {name: set() for name in classes}
    for reconciler, name in pairs:
        told.setdefault(name, set()).add(reconciler)
    left = {each for each in leased if not each.startswith(PROCESS)}
    found = {*told, *(each for each in held if each[0].isalpha())}
    unknown = {"": frozenset(left - {each for names in told.values() for each in names})}
    return Names(
        {name: name for name in found if name},
        {name: frozenset(names) for name, names in told.items()} | unknown,
        complete=False,
    )


def find(text: str, names: Names) -> Target:
    """Return what is meant: a class, a reconciler, `queue:NAME`, or a flag as it is; `class:` and `reconciler:` tell two apart.

    Raises:
        UnknownName: with the name that may have been meant.
    """
    typed = _TYPED.fullmatch(text)
    if typed is not None and (typed[1] == Kind.QUEUE or typed[2] in _of(Kind(typed[1]), names)):
        return _certain(Kind(typed[1]), typed[2], names)
    if FLAG.fullmatch(text) is not None:
        return names.flags().get(text, Target(Kind.FLAG, text))
    found = [each for each in (Kind.CLASS, Kind.RECONCILER) if text in _of(each, names)]
    if len(found) == 1:
        return _certain(found[0], text, names)
    if found:
        raise UnknownName(
            f"a job class and a reconciler are called {text!r}: say class:{text} or reconciler:{text}"
        )
    raise _unknown(text, names)


def _of(kind: Kind, names: Names) -> Iterable[str]:
    if kind is Kind.QUEUE:
        return names.queues
    return names.classes if kind is Kind.CLASS else names.reconcilers


def _certain(kind: Kind, name: str, names: Names) -> Target:
    if kind is Kind.CLASS:
        return Target(kind, names.classes[name])
    if kind is Kind.QUEUE and (
        _QUEUE.fullmatch(name) is None or (names.complete and name not in names.queues)
    ):
        near = meant(name, names.queues)
        raise UnknownName(
            f"no job, reconciler or worker uses a queue {name!r}{near}. "
            f"If it is another application's, name the flag: {flag_of_queue(name)}"
        )
    return Target(kind, name)


def _unknown(text: str, names: Names) -> UnknownName:
    known = [
        *names.classes,
        *sorted(names.reconcilers),
        *(f"queue:{each}" for each in sorted(names.queues)),
    ]
    more = (
        ""
        if names.complete
        else "; the application could not be asked, so these are the names that SQL and Redis have seen at work"
    )
    return UnknownName(
        f"no job class or reconciler is called {text!r}{meant(text, known)}. "
        f"There are: {', '.join(known) or 'none'}{more}. A queue is queue:NAME, any flag is disable_…"
    )
