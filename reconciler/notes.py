"""What processes of reconcilers leave to those after them: small JSON objects in SQL, by kind and name.

Where a rebuild stands, what was last known of Redis, which release ran. Losing them costs work, never a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Engine, bindparam, delete, select, update

from reconciler.sql import again, clock, missing_rows, reading, writing
from reconciler.tables import note

_QUERY: Final = 5.0
_TOGETHER: Final = 200
"""Notes that one statement makes."""

Value: TypeAlias = Mapping[str, Any]
Also: TypeAlias = Callable[[Connection, Value], object]
"""Writes in the transaction of a change; gets its connection and the new value. Called anew where that begins again."""


class Kind(StrEnum):
    """What notes are about."""

    REBUILD = "rebuild"  # by unit: where its rebuild stands
    REDIS = "redis"  # what was known of Redis last, and which losses are told
    RELEASE = "release"  # what `reconciler run` ran last


@dataclass(frozen=True, slots=True)
class Note:
    """One note, as it was read."""

    value: Value
    age: float
    """Seconds since it was written, by the database's clock."""


class Notes:
    """The notes in the home database. All methods raise SqlUnavailable and NotMigrated."""

    def __init__(self, home: Engine) -> None:
        self._home = home
        self._clock = clock(home.dialect.name)

    def read(self, kind: Kind) -> dict[str, Note]:
        """Return the notes of a kind, by name."""
        age = (self._clock - note.c.at).label("age")
        query = select(note.c.name, note.c.value, age).where(note.c.kind == str(kind))
        with reading(self._home, _QUERY) as connection:
            return {name: Note(_parsed(text), age) for name, text, age in connection.execute(query)}

    def put(self, kind: Kind, values: Mapping[str, Value]) -> None:
        """Write notes of a kind, in place of those of the same names."""
        if values:
            again(lambda: self._put(kind, values))

    def change(
        self,
        kind: Kind,
        name: str,
        how: Callable[[Value, float], Value | None],
        also: Also = lambda *_: None,
    ) -> Value | None:
        """Change one note, as nobody else does at the same moment: `how` gets its value and age, and returns the new value.

        An absent note has no values and is as old as time. None from `how` leaves it as it is, and is returned. What `also`
        writes belongs to the change: there is none of the two without the other.
        """
        return again(lambda: self._change(kind, name, how, also))

    def forget(self, kind: Kind, names: list[str]) -> None:
        """Remove notes."""

        def remove() -> None:
            with writing(self._home) as connection:
                forget(connection, kind, names)

        if names:
            again(remove)

    def _put(self, kind: Kind, values: Mapping[str, Value]) -> None:
        with writing(self._home) as connection:
            self._make(connection, kind, list(values))
            written = [
                {"of": name, "text": json.dumps(dict(value))} for name, value in values.items()
            ]
            connection.execute(_of(kind).values(value=bindparam("text"), at=self._clock), written)

    def _change(
        self, kind: Kind, name: str, how: Callable[[Value, float], Value | None], also: Also
    ) -> Value | None:
        with writing(self._home) as connection:
            self._make(connection, kind, [name])
            age = (self._clock - note.c.at).label("age")
            mine = note.c.kind == str(kind), note.c.name == name
            row = connection.execute(select(note.c.value, age).where(*mine).with_for_update()).one()
            new = how(_parsed(row.value), row.age)
            if new is not None:
                changed = update(note).where(*mine).values(value=json.dumps(dict(new)))
                connection.execute(changed.values(at=self._clock))
                also(connection, new)
            return new

    def _make(self, connection: Connection, kind: Kind, names: list[str]) -> None:
        for at in range(0, len(names), _TOGETHER):
            rows = [
                {"kind": str(kind), "name": name, "value": "{}", "at": 0.0}
                for name in names[at : at + _TOGETHER]
            ]
            connection.execute(missing_rows(self._home.dialect.name, note, rows))


def forget(connection: Connection, kind: Kind, names: list[str]) -> None:
    """Remove notes in a transaction under way."""
    connection.execute(delete(note).where(note.c.kind == str(kind), note.c.name.in_(names)))


def _of(kind: Kind) -> Any:
    return update(note).where(note.c.kind == str(kind), note.c.name == bindparam("of"))


def _parsed(text: str) -> Value:
    found: Value = json.loads(text or "{}")
    return found
