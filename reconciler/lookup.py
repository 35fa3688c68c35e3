"""Which row somebody means: a key as it is typed, `7` or `org_id=1 user_id=2`, or the job of a row by its jid."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Engine, select

from qik_core.passes import Passes
from reconciler import columns
from reconciler.definition import Definition
from reconciler.errors import ReconcilerError
from reconciler.inverse import Key, inverse
from reconciler.registry import telling
from reconciler.sql import reading
from reconciler.tables import row_state
from reconciler.words import meant


class KeyNotUnderstood(ReconcilerError):
    """What was typed is no key of this reconciler."""


class NoSuchJob(ReconcilerError):
    """No job of a jid is known, or none of a row."""


@dataclass(frozen=True, slots=True)
class Meant:
    """One row of one reconciler."""

    definition: Definition
    key: Key


_QUERY: Final = 2.0
_SEARCH: Final = 1.5
_TRUE: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _flag(text: str) -> bool:
    return _TRUE[text.lower()]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


_READ: Final[tuple[tuple[type, Callable[[str], Any]], ...]] = (
    (bool, _flag),
    (int, int),
    (float, float),
    (Decimal, Decimal),
    (UUID, UUID),
    (datetime, _moment),
    (date, date.fromisoformat),
    (bytes, bytes.fromhex),
    (str, str),
)


def key_of(definition: Definition, words: Sequence[str]) -> Key:
    """Return the key that was typed, each value as its column has it.

    Raises:
        KeyNotUnderstood: too few or too many values, an unknown name, a value that its column cannot have.
    """
    kinds = _columns(definition)
    given = _named(definition, list(kinds), words)
    key = tuple(_value(name, each, given[name]) for name, each in kinds.items())
    return key if definition.shape.slots is None else tuple(map(_slot, key))


def typed(definition: Definition, key: Key) -> str:
    """Return a key as one types it for a command."""
    names = list(_columns(definition))
    if len(names) == 1:
        return shlex.quote(str(key[0]))
    return " ".join(shlex.quote(f"{name}={value}") for name, value in zip(names, key, strict=True))


def _columns(definition: Definition) -> dict[str, Any]:
    """Return the columns of the key by name."""
    selected = list(definition.shape.statement.selected_columns)
    found = [selected[at] for at in definition.shape.key]
    return {columns.name(columns.plain(each)): each for each in found}


def _slot(value: Any) -> Any:
    """Return a slot as a job takes it: in UTC, and said so."""
    naive = isinstance(value, datetime) and value.tzinfo is None
    return value.replace(tzinfo=UTC) if naive else value


def row_of_jid(jid: str, seam: Passes, home: Engine, *, patience: float = _SEARCH) -> Meant:
    """Return the row that a job is of: the job is looked for in Redis, then in what is kept of rows that are held back.

    Redis' lists are searched for `patience` seconds.

    Raises:
        NoSuchJob: it is in neither, or no reconciler tells such jobs.
        StoreError: Redis does not answer.
        SqlUnavailable: the home database does not answer.
    """
    spot = seam.find(jid, patience=patience)
    name, args = (spot.name, spot.args) if spot is not None else _remembered(jid, home)
    reconcilers = telling(name)
    for definition in reconcilers:
        found = _row_of(definition, definition.job.definition.arguments.load(args))
        if found is not None:
            return found
    where = "" if spot is None else f", and is in {spot.key}"
    if not reconcilers:
        raise NoSuchJob(f"job {jid} is a {name}{where}: no reconciler tells such jobs")
    raise NoSuchJob(
        f"job {jid} is a {name}{where}: which row it is of cannot be known from its arguments {list(args)!r:.200}"
    )


def _remembered(jid: str, home: Engine) -> tuple[str, Sequence[Any]]:
    asked = select(row_state.c.job_class, row_state.c.args).where(row_state.c.last_jid == jid)
    with reading(home, _QUERY) as connection:
        row = connection.execute(asked).first()
    if row is None or not row.args:
        raise NoSuchJob(
            f"no job has the jid {jid}: it has ended well, or somebody deleted it. "
            "Ask for its row: reconciler why RECONCILER KEY"
        )
    return row.job_class, json.loads(row.args)


def _row_of(definition: Definition, args: Sequence[Any]) -> Meant | None:
    """Return the row that a job with these arguments is of; None where this reconciler tells no such job."""
    way = inverse(definition.shape, definition.facts, sharded=definition.shards is not None)
    key = None if way is None else way.key_of(args)
    if key is None:
        return None
    return Meant(
        definition if definition.shards is None else definition.in_shard(str(args[0])), key
    )


def _named(definition: Definition, names: Sequence[str], words: Sequence[str]) -> Mapping[str, str]:
    pairs = [each.partition("=") for each in words]
    if len(names) == 1 and len(words) > 1:
        raise KeyNotUnderstood(
            f"the key of {definition.name} is one value ({names[0]}), and {len(words)} were given"
        )
    if len(names) == len(words) and not any(sign and name in names for name, sign, _ in pairs):
        if len(names) == 1:
            return {names[0]: words[0]}
        raise KeyNotUnderstood(f"{_usage(definition, names)}: name each value")
    given: dict[str, str] = {}
    for name, sign, value in pairs:
        if not sign or name not in names:
            wrong = f"{name!r} is not of it{meant(name, names)}"
            raise KeyNotUnderstood(f"{_usage(definition, names)}: {wrong}")
        given[name] = value
    missing = [each for each in names if each not in given]
    if missing:
        raise KeyNotUnderstood(f"{_usage(definition, names)}: {', '.join(missing)} is missing")
    return given


def _usage(definition: Definition, names: Sequence[str]) -> str:
    shown = names[0].upper() if len(names) == 1 else " ".join(f"{each}=…" for each in names)
    return f"the key of {definition.name} is {shown}"


def _value(name: str, column: Any, text: str) -> Any:
    enum = getattr(column.type, "enum_class", None)
    if enum is not None:
        return _member(name, enum, text)
    kind = columns.python_type(column)
    read = next((how for each, how in _READ if kind is not None and issubclass(kind, each)), str)
    try:
        value = read(text)
    except (ValueError, KeyError, InvalidOperation) as error:
        shown = "a value" if kind is None else f"a {kind.__name__}"
        raise KeyNotUnderstood(f"{name} is {shown}, and {text!r:.80} is none ({error})") from None
    return _zoned(column, value) if isinstance(value, datetime) else value


def _member(name: str, enum: type[Enum], text: str) -> Enum:
    for each in enum:
        if text in (each.name, str(each.value)):
            return each
    there = ", ".join(each.name for each in enum)
    raise KeyNotUnderstood(f"{name} is one of {there}, and {text!r:.80} is none of them")


def _zoned(column: Any, value: datetime) -> datetime:
    """Return a moment as its column has it: without a zone it is in UTC."""
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if getattr(column.type, "timezone", False):
        return aware
    return aware.astimezone(UTC).replace(tzinfo=None)
