"""What SQL would tell again: the fate of jobs that a flush removes. The same question as before a run, of many jobs at once.

    re-derivable   the row matches: the next pass tells it
    stale          the row matches no more: the job would be skipped
    lost           nothing would bring the job back, or nobody can say

Whoever cannot be asked is no witness: what is not known to come back counts as lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from time import time
from typing import Any, Final

from sqlalchemy import Engine, bindparam, or_
from sqlalchemy.sql.elements import ColumnElement

from qik_core.flushing import Found
from qik_core.rows import Asked, Standing
from reconciler import registry
from reconciler.columns import plain, python_type
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.moments import epoch
from reconciler.occurrences import SlotQuestion
from reconciler.question import Question
from reconciler.recheck import AWAY, Recheck
from reconciler.shape import Shape
from reconciler.sql import clock
from reconciler.tellers import Place, Teller, Tellers


class Fate(StrEnum):
    """What the removal of a job means."""

    REDERIVABLE = "rederivable"
    STALE = "stale"
    LOST = "lost"


class Derivable:
    """Says of jobs what SQL knows of them. `tenant` leaves out all whose row is not this tenant's, as is typed.

    Not for two threads at once. `now` gives epoch seconds.
    """

    def __init__(
        self, engines: Engines, *, tenant: str | None = None, now: Callable[[], float] = time
    ) -> None:
        self.why: dict[str, str] = {}
        """Job class → why its jobs would be lost."""
        self._tenant = tenant
        self._now = now
        self._asking = _Asking(engines, tenant, self.why)

    def fates(self, jobs: Sequence[Found]) -> list[Fate | None]:
        """Say what becomes of each of these jobs; None for one that is not the tenant's."""
        found: list[Fate | None] = [None] * len(jobs)
        by_name: dict[str, list[int]] = {}
        for at, job in enumerate(jobs):
            by_name.setdefault(job.name, []).append(at)
        for places in by_name.values():
            fates = self._of_class([jobs[at] for at in places])
            for at, fate in zip(places, fates, strict=True):
                found[at] = fate
        return found

    def has_tenants(self) -> bool:
        """Whether a reconciler says whose its rows are."""
        return any(each.shape.tenant_at is not None for each in registry.everything())

    def _of_class(self, jobs: Sequence[Found]) -> Iterator[Fate | None]:
        tellers = self._asking.tellers(jobs[0].name)
        reason = _untold(jobs[0], tellers)
        other = None if self._tenant is not None else Fate.LOST
        if reason and other is not None:
            self.why[jobs[0].name] = reason
        asked = [] if reason else [job.asked for job in jobs if job.asked is not None]
        standings = iter(self._asking.look(asked))
        for job in jobs:
            if reason or job.asked is None:
                yield other
                if not reason:
                    self.why[job.name] = _UNFIT
            else:
                yield self._fate(tellers, job.asked, next(standings))

    def _fate(self, tellers: Tellers, asked: Asked, standing: Standing) -> Fate | None:
        if standing is Standing.PENDING:
            if self._is_told(tellers, asked):
                return Fate.REDERIVABLE
            self.why[asked.name] = _TOO_OLD
            return Fate.LOST
        if self._tenant is not None:
            return None
        if standing is Standing.GONE and tellers.checked:
            return Fate.STALE
        if standing is Standing.GONE:
            self.why[asked.name] = _UNCHECKED
        return Fate.LOST

    def _is_told(self, tellers: Tellers, asked: Asked) -> bool:
        """Say whether passes still look at this row: at slots they look back only so far."""
        return any(_in_reach(each, asked, self._now()) for each in tellers.each)


class _Asking(Recheck):
    """Asks as the re-check does, but of rows that are not due yet too, and only of reconcilers that tell."""

    def __init__(self, engines: Engines, tenant: str | None, why: dict[str, str]) -> None:
        super().__init__(lambda: engines)
        self._tenant = tenant
        self._why = why
        self._known: dict[str, Tellers] = {}
        self._made: dict[tuple[str, str], Question] = {}

    def tellers(self, name: str) -> Tellers:
        """Return the reconcilers of a class that tell its rows, and whose rows are a tenant's if one is meant."""
        if name not in self._known:
            telling = (each for each in registry.telling(name) if not each.shadow)
            self._known[name] = Tellers.of(
                tuple(e for e in telling if self._tenant is None or e.shape.tenant_at is not None)
            )
        return self._known[name]

    def _tellers(self, name: str) -> Tellers:
        return self.tellers(name)

    def _question(self, definition: Definition, engine: Engine) -> Question:
        place = (definition.name, engine.dialect.name)
        if place not in self._made:
            kind = Question if definition.shape.slots is None else SlotQuestion
            shape = _whenever(_of_tenant(definition.shape, self._tenant), engine.dialect.name)
            self._made[place] = kind(shape, engine.dialect.name)
        return self._made[place]

    def _unknown(self, teller: Teller, place: Place, _keys: int, error: Exception) -> None:
        if isinstance(error, SqlUnavailable) and self._away.get(place, 0.0) <= self._clock():
            self._away[place] = self._clock() + AWAY
        self._why[teller.definition.facts.name] = f"its rows cannot be asked for: {error}"


def _untold(job: Found, tellers: Tellers) -> str:
    """Return why nothing tells jobs of this class again; empty if something may."""
    if not job.defined:
        return _UNKNOWN
    if not tellers.each:
        return _SHADOW if registry.telling(job.name) else _ALONE
    return "" if tellers.known else _HIDDEN


def _in_reach(teller: Teller, asked: Asked, now: float) -> bool:
    slots, key = teller.definition.shape.slots, teller.key(asked.args)
    if slots is None or key is None:
        return key is not None
    return SlotQuestion.seconds(key[0]) >= now - slots.catchup


def _of_tenant(shape: Shape, tenant: str | None) -> Shape:
    if tenant is None or shape.tenant_at is None:
        return shape
    column = plain(list(shape.statement.selected_columns)[shape.tenant_at])
    return replace(shape, statement=shape.statement.where(_equals(column, tenant)))


def _equals(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Return what is true of rows with this value, typed as the column has it; of none where it cannot have it."""
    kind: Callable[[str], Any] | None = python_type(column)
    if kind is None or kind is str:
        return column == text
    try:
        value = kind(text)
    except (TypeError, ValueError, ArithmeticError):
        return column.in_(())
    return column == bindparam(None, value, type_=column.type)


def _whenever(shape: Shape, dialect: str) -> Shape:
    """Return what passes look at, whenever it is due: a row that is due tomorrow is told again tomorrow."""
    when = shape.run_at
    if when is None:
        return shape
    statement = shape.statement
    if when.grace is not None:
        late = epoch(when.column) < clock(dialect) - when.grace
        statement = statement.where(or_(when.column.is_(None), ~late))
    return replace(shape, statement=statement, run_at=None)


_UNKNOWN: Final = "no imported module defines it"
_ALONE: Final = "no reconciler tells it"
_SHADOW: Final = "its reconciler is in shadow and tells nothing"
_HIDDEN: Final = "its rows cannot be found: args= of its reconciler changes the key"
_UNFIT: Final = "some have arguments that do not fit perform()"
_UNCHECKED: Final = "recheck=False: it runs though its row is pending no more"
_TOO_OLD: Final = "slots are older than catchup=: no pass looks at them"
