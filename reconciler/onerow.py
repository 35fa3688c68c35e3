"""One row, as its own database has it: does the select find it, if not why, what is it as a job, how old is it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, select

from qik_core.errors import ArgumentError
from reconciler.clauses import Unmatched, unmatched
from reconciler.definition import Definition
from reconciler.fair import ranked
from reconciler.inverse import Key
from reconciler.mapping import Marker
from reconciler.moments import epoch
from reconciler.occurrences import MOST, SlotQuestion, Told, source_of
from reconciler.rows import tag
from reconciler.source import by_key, eligible
from reconciler.sql import clock, read_clock, reading
from reconciler.words import moment

_QUERY: Final = 2.0
_ALL: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRow:
    """What its own database says of a row. Times are epoch seconds by that database's clock."""

    now: float
    matches: bool
    """The reconciler's select finds it."""
    unmatched: Unmatched | None = None
    args: tuple[Any, ...] | None = None
    """Of its job, with the shard in front; None where the row is not there."""
    digest: str = ""
    """The key of its lock; empty where it cannot be known."""
    version: str = ""
    """The tag of its version, as the lock record has it."""
    invalid: str = ""
    """Why its arguments cannot travel."""
    age: float | None = None
    """Since when it is pending."""
    run_at: float | None = None
    tenant: Any = None
    """Whose it is; None for a reconciler that does not say."""
    rank: int | None = None
    """Its number among the rows of its tenant, from 1; None for a reconciler without fair shares."""


def of_row(engine: Engine, definition: Definition, key: Key, told: Told | None = None) -> OfRow:
    """Ask the database of a row for it; `told` says of digests which are told, for slots that exclude each other.

    Raises:
        SqlUnavailable: it does not answer.
    """
    shape = definition.shape
    if shape.slots is not None:
        return _of_slot(engine, definition, key, told)
    extra = [] if shape.age is None or shape.age_at is None else [epoch(shape.age)]
    found = by_key(shape).add_columns(*(each.label("qik__age") for each in extra))
    values = {f"key_{at}": each for at, each in enumerate(key)}
    with reading(engine, min(definition.statement_timeout, _QUERY)) as connection:
        now = float(connection.execute(select(clock(engine.dialect.name))).scalar_one())
        row = connection.execute(found, values).first()
        rank = None if row is None else _rank(connection, definition, key, now)
        if row is None:
            lost = unmatched(connection, shape, key)
            return _job_of(definition, lost.row, OfRow(now=now, matches=False, unmatched=lost))
    seen = OfRow(
        now=now,
        matches=True,
        age=None if not extra or row[-1] is None else float(row[-1]),
        run_at=_number(row, shape.run_at_at),
        tenant=None if shape.tenant_at is None else row[shape.tenant_at],
        rank=rank,
        version="" if shape.version is None else tag(row[shape.version]),
    )
    return _job_of(definition, row, seen)


def _rank(connection: Connection, definition: Definition, key: Key, now: float) -> int | None:
    """Return the number of a row among those of its tenant that a pass looks at."""
    shape = definition.shape
    if definition.fair is None:
        return None
    rows = eligible(definition, now, connection.dialect.name)
    places = list(ranked(shape, rows, _ALL, None)[0].subquery().c)
    here = (places[at] == value for at, value in zip(shape.key, key, strict=True))
    found: int | None = connection.execute(select(places[-1]).where(*here)).scalar()
    return found


def _of_slot(engine: Engine, definition: Definition, key: Key, told: Told | None) -> OfRow:
    """Ask whether a slot is expected, and whether a row says that it is done."""
    now, shape = read_clock(engine), definition.shape
    question = SlotQuestion(shape, engine.dialect.name)
    seconds = question.seconds(key[0])
    at, seen = moment(seconds), OfRow(now=now, matches=False)
    expected = shape.slots is not None and seconds in shape.slots.expected(now)
    if not expected:
        note = f"{at} is no slot of the schedule between the start of the catch-up window and now"
        lost = Unmatched(exists=False, note=note)
        return _job_of(definition, (question.slot(seconds),), replace(seen, unmatched=lost))
    wanted = source_of(definition, engine, now, told=told).read(None, MOST)
    if (question.slot(seconds),) in [tuple(each) for each in wanted]:
        return _job_of(definition, (question.slot(seconds),), replace(seen, matches=True))
    with reading(engine, min(definition.statement_timeout, _QUERY)) as connection:
        done = bool(question.among(connection, [seconds]))
    note = f"the slot {at} is done: a row says so" if done else _OVERLAP.format(at)
    lost = Unmatched(exists=True, note=note)
    return _job_of(definition, (question.slot(seconds),), replace(seen, unmatched=lost))


_OVERLAP: Final = (
    "the slot {} is left to another one: overlap= lets no two of them be told at a time"
)


def _number(row: Row[Any], at: int | None) -> float | None:
    return None if at is None or row[at] is None else float(row[at])


def _job_of(definition: Definition, row: Sequence[Any] | None, seen: OfRow) -> OfRow:
    """Add what the row is as a job."""
    if row is None:
        return seen
    (args,) = definition.arguments([definition.shape.own(row)])
    try:
        digest = _digest(definition, args)
    except ArgumentError as error:
        return replace(seen, args=args, invalid=str(error))
    return replace(seen, args=args, digest=digest)


def digest_of_key(definition: Definition, key: Key) -> str:
    """Return the key of the lock that a row of this key has; empty where more of the row decides it."""
    shape = definition.shape
    values: list[Any] = [Marker(at) for at in range(len(shape.labels))]
    for at, each in zip(shape.key, key, strict=True):
        values[at] = each
    try:
        (args,) = definition.arguments([shape.own(tuple(values))])
        hidden = any(isinstance(each, (Marker, list, tuple, dict)) for each in args)
        return "" if hidden else _digest(definition, args)
    except Exception:  # noqa: BLE001 - whatever an application's `args` may raise at a marker
        return ""


def _digest(definition: Definition, args: tuple[Any, ...]) -> str:
    (digest,) = definition.job.definition.digests([args])
    return str(digest.decode())
