"""Which of these keys are pending? One statement for many of them, made of the reconciler's own predicate.

The database is the judge of what is equal: rows that come back are matched to the keys by value, and where its collation
or its types may see as equal what Python does not, it is asked again, with one answer for each key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import Connection, Select, and_, bindparam, exc, exists, or_, select
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from reconciler.columns import is_short_float, name, plain
from reconciler.errors import ReconcilerError
from reconciler.inverse import Key
from reconciler.moments import epoch
from reconciler.shape import RunAt, Shape
from reconciler.sql import clock, is_of_a_value

MOST: Final = 500
"""Keys of one statement."""
EARLY: Final = 5.0
"""Seconds before its moment that a job may run: Redis says when, and its clock is not the database's."""
_EACH: Final = 50
"""Keys of a statement with an answer for each."""
_KEYS: Final = "qik__keys"
T = TypeVar("T")
Reading: TypeAlias = Callable[[], AbstractContextManager[Connection]]


class Question:
    """What one kind of database is asked about the rows of one reconciler."""

    def __init__(self, shape: Shape, dialect: str) -> None:
        selected = list(shape.statement.selected_columns)
        self._at = shape.key
        self._columns = [plain(selected[at]) for at in shape.key]
        self._statement = shape.statement
        if shape.run_at is not None:
            self._statement = self._statement.where(_is_due(shape.run_at, dialect))
        short = [each for each in self._columns if is_short_float(each.type, dialect)]
        self._inexact = name(short[0]) if short else None
        self._spelt_out: dict[int, Select[Any]] = {}
        self._in: Select[Any] | None = None
        if len(self._columns) == 1:
            keys: BindParameter[Any] = bindparam(_KEYS, expanding=True)
            self._in = self._where(self._columns[0].in_(keys))

    def pending(self, reading: Reading, keys: Sequence[Key]) -> list[bool | None]:
        """Say of each key whether its row matches; None where a value in it cannot be sent to this database.

        `reading` opens a connection in a transaction: one for 500 keys.

        Raises:
            ReconcilerError: the key is of a type whose values are not equal to themselves here.
            SQLAlchemyError: the statement itself cannot work.
        """
        if self._inexact is not None:
            raise ReconcilerError(
                f"key column {self._inexact} is a FLOAT of 4 bytes, which is not found by its value: use Double"
            )
        found: list[bool | None] = []
        for chunk in _chunks(keys, MOST):
            found += self._chunk(reading, chunk)
        return found

    def row(self, connection: Connection, key: Key) -> Any:
        """Return the row of a key as the reconciler's select reads it, None if it does not match."""
        return connection.execute(self._where(self._is(key))).first()

    # --- the steps -------------------------------------------------------------------------------

    def _chunk(self, reading: Reading, keys: Sequence[Key]) -> list[bool | None]:
        """Ask for all; where one of them has a value that cannot be sent, for the others without it."""
        try:
            with reading() as connection:
                return [*self._found(connection, keys)]
        except (exc.StatementError, OverflowError) as error:
            if not is_of_a_value(error):
                raise
            if len(keys) == 1:
                return [None]
        middle = len(keys) // 2
        return [*self._chunk(reading, keys[:middle]), *self._chunk(reading, keys[middle:])]

    def _found(self, connection: Connection, keys: Sequence[Key]) -> list[bool]:
        there = {tuple(row[at] for at in self._at) for row in self._read(connection, keys)}
        found = [key in there for key in keys]
        strange = not there.issubset(keys)
        doubtful = [
            at
            for at, each in enumerate(found)
            if there and not each and (strange or _has_text(keys[at]))
        ]
        for chunk in _chunks(doubtful, _EACH):
            answers = connection.execute(self._each([keys[at] for at in chunk])).one()
            for at, answer in zip(chunk, answers, strict=True):
                found[at] = bool(answer)
        return found

    def _read(self, connection: Connection, keys: Sequence[Key]) -> Sequence[Any]:
        if self._in is not None:
            return connection.execute(self._in, {_KEYS: [key[0] for key in keys]}).fetchall()
        size = 1 << (len(keys) - 1).bit_length()
        padded = [*keys, *([keys[-1]] * (size - len(keys)))]
        values = {
            f"{_KEYS}_{at}_{column}": value
            for at, key in enumerate(padded)
            for column, value in enumerate(key)
        }
        return connection.execute(self._several(size), values).fetchall()

    def _several(self, size: int) -> Select[Any]:
        """Return the statement for so many keys of several columns, which SQLAlchemy compiles once for each size.

        Columns are compared one by one: MariaDB and SQLite find no index for a list of row values.
        """
        found = self._spelt_out.get(size)
        if found is None:
            cases = (
                and_(
                    *(
                        each == bindparam(f"{_KEYS}_{at}_{column}", type_=each.type)
                        for column, each in enumerate(self._columns)
                    )
                )
                for at in range(size)
            )
            found = self._spelt_out[size] = self._where(or_(*cases))
        return found

    def _each(self, keys: Sequence[Key]) -> Select[Any]:
        asked: list[Any] = [
            exists(self._where(self._is(key)).correlate(None)).label(f"qik__{at}")
            for at, key in enumerate(keys)
        ]
        return select(*asked)

    def _is(self, key: Key) -> ColumnElement[bool]:
        return and_(
            *(
                column == bindparam(None, value, type_=column.type)
                for column, value in zip(self._columns, key, strict=True)
            )
        )

    def _where(self, condition: ColumnElement[bool]) -> Select[Any]:
        return self._statement.where(condition)


def _is_due(run_at: RunAt, dialect: str) -> ColumnElement[bool]:
    """Return what is true of a row whose job may run now: a row that was moved to later wants its job then."""
    due, now = epoch(run_at.column), clock(dialect)
    soon = due <= now + EARLY
    if run_at.grace is not None:
        soon = and_(soon, due >= now - run_at.grace)
    return or_(run_at.column.is_(None), soon)


def _has_text(key: Key) -> bool:
    """Say whether a database may take a key for another one, as it does where it compares without case."""
    return any(isinstance(each, str) for each in key)


def _chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(values), size):
        yield values[at : at + size]
