"""The pending rows of one reconciler, page by page along its order (keyset), each page a short read-only transaction.

No cursor stays open between pages: it would hold back vacuum and need one connection for the whole pass. A page is read
whole before anything of it is pushed. With `fair=` pages run along the rank of a row within its tenant. Where all
columns of the order run the same way and the database can use an index for it, the position is compared as one row
value, `(a, b) > (:a, :b)`; else column by column.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import (
    Engine,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    or_,
    tuple_,
)
from sqlalchemy.sql.elements import ColumnElement

from reconciler.columns import is_short_float, name, nullable, plain
from reconciler.definition import Definition
from reconciler.errors import Rule, broken
from reconciler.fair import Ahead, directed, ranked
from reconciler.moments import moment
from reconciler.shape import Order, RunAt, Shape
from reconciler.sql import again, reading

Position: TypeAlias = tuple[Any, ...]
"""Where a page ended: the values of its last row's order columns."""

_ROW_VALUES: Final = frozenset({"postgresql", "sqlite"})
_LIMIT: Final = "qik__limit"
_AFTER: Final = "qik__after_"


class Source:
    """Reads the pages of one pass. `now` is the database's time when the pass began, in epoch seconds.

    `held` is how many rows are held back at most: with `fair=` they take nobody's share, so as many more are read.

    Raises:
        DefinitionError: this database cannot go on from a page in this order.
    """

    def __init__(self, definition: Definition, engine: Engine, now: float, held: int = 0) -> None:
        shape, dialect = definition.shape, engine.dialect.name
        self._engine = engine
        self._timeout = definition.statement_timeout
        for each in shape.order:
            _check_exact(definition.name, each.column, dialect)
        rows, self._order = eligible(definition, now, dialect), shape.order
        if definition.fair is not None:
            most = definition.fair.per_tenant + held
            rows, self._order = ranked(shape, rows, most, _late_before(shape, now))
        self._first = rows.order_by(*(directed(each.column, each) for each in self._order)).limit(
            bindparam(_LIMIT, type_=Integer)
        )
        self._next = self._first.where(behind(self._order, dialect))
        self._ahead = None if definition.fair is None else Ahead(self._rows)

    def read(self, after: Position | None, limit: int) -> Sequence[Row[Any]]:
        """Return up to `limit` rows behind a position; fewer mean that there are no more.

        Raises:
            StatementTimeout: the page took too long; a smaller one may not.
            SqlUnavailable: the database cannot be reached.
            SQLAlchemyError: the statement itself cannot work.
        """
        if self._ahead is not None:
            return self._ahead.page(after, limit, self.position)
        return self._rows(after, limit)

    def _rows(self, after: Position | None, limit: int) -> Sequence[Row[Any]]:
        values: dict[str, Any] = {_LIMIT: limit}
        if after is not None:
            values.update((f"{_AFTER}{at}", value) for at, value in enumerate(after))
        return again(lambda: self._read(self._first if after is None else self._next, values))

    def _read(self, page: Select[Any], values: Mapping[str, Any]) -> Sequence[Row[Any]]:
        with reading(self._engine, self._timeout) as connection:
            return connection.execute(page, values).fetchall()

    @property
    def first(self) -> Select[Any]:
        """The statement of the first page, for those who explain it; its limit is a parameter."""
        return self._first

    def position(self, row: Sequence[Any]) -> Position:
        """Return the position of a row."""
        return tuple(row[each.at] for each in self._order)


def behind(order: Sequence[Order], dialect: str) -> ColumnElement[bool]:
    """Return the condition that a row comes behind a position, given as parameters."""
    columns = [each.column for each in order]
    values = [bindparam(f"{_AFTER}{at}", type_=each.type) for at, each in enumerate(columns)]
    directions = {each.descending for each in order}
    if len(columns) == 1:
        return columns[0] < values[0] if order[0].descending else columns[0] > values[0]
    if len(directions) == 1 and dialect in _ROW_VALUES:
        left, right = tuple_(*columns), tuple_(*values)
        return left < right if order[0].descending else left > right
    cases = []
    for at, each in enumerate(order):
        equal = [columns[before] == values[before] for before in range(at)]
        cases.append(
            and_(*equal, columns[at] < values[at] if each.descending else columns[at] > values[at])
        )
    return or_(*cases)


def _check_exact(owner: str, column: ColumnElement[Any], dialect: str) -> None:
    """Refuse an order that a page cannot go on from: what is shown of a float of 4 bytes is not what is kept."""
    if is_short_float(column.type, dialect):
        raise broken(
            owner,
            Rule.ORDER,
            f"{name(column)} is a FLOAT of 4 bytes, and its text is not equal to it: rows would be left out between pages",
            f"Order by a column of type Double, or by cast({name(column)}, Double)",
        )


# --- which rows, and when -----------------------------------------------------------------------


def eligible(definition: Definition, now: float, dialect: str) -> Select[Any]:
    """Return the rows that a pass at this moment looks at: neither those whose own push is on its way, nor those due later."""
    shape, young = definition.shape, _is_young(definition, now, dialect)
    rows = shape.statement
    if shape.age is not None and young is not None:
        rows = rows.where(or_(shape.age.is_(None), ~young))
    if shape.run_at is not None:
        rows = rows.where(_due_soon(shape, shape.run_at, now, dialect))
    return rows


def _due_soon(shape: Shape, run_at: RunAt, now: float, dialect: str) -> ColumnElement[bool]:
    """Return what is true of a row that is due within the horizon: no moment at all is at once."""
    soon = run_at.column <= moment(run_at.column, now + run_at.horizon, dialect)
    return or_(run_at.column.is_(None), soon) if nullable(run_at.column, shape.statement) else soon


def due_in(shape: Shape, row: Any, now: float) -> float | None:
    """Return the seconds until the job of a row is due, 0 at the least; None for a row that is late and not to be told.

    `now` is the database's time in epoch seconds.
    """
    if shape.run_at is None or (due := row[shape.run_at.at]) is None:
        return 0.0
    late = now - float(due)
    if shape.run_at.grace is not None and late > shape.run_at.grace:
        return None
    return max(0.0, -late)


def _late_before(shape: Shape, now: float) -> float | None:
    if shape.run_at is None or shape.run_at.grace is None:
        return None
    return now - shape.run_at.grace


def too_young(definition: Definition, now: float, dialect: str) -> Select[Any] | None:
    """Return the rows that a pass at this moment leaves out; None when it leaves none out."""
    young = _is_young(definition, now, dialect)
    return None if young is None else definition.shape.statement.where(young)


def _is_young(definition: Definition, now: float, dialect: str) -> ColumnElement[bool] | None:
    """Return what is true of a row whose own push may still be on its way: no age and one in the future count as old."""
    age = definition.shape.age
    if age is None or not definition.min_age:
        return None
    return and_(
        age > moment(age, now - definition.min_age, dialect), age <= moment(age, now, dialect)
    )


def by_key(shape: Shape) -> Select[Any]:
    """Return the statement that looks whether one row is pending: the same predicate, and the key as `key_0` and on."""
    selected = list(shape.statement.selected_columns)
    keys = [plain(selected[at]) for at in shape.key]
    return shape.statement.where(
        *(each == bindparam(f"key_{at}", type_=each.type) for at, each in enumerate(keys))
    )


# --- positions as text --------------------------------------------------------------------------

_WRITE: Final[dict[type, Any]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    UUID: str,
    Decimal: str,
    bytes: bytes.hex,
}
_READ: Final[dict[str, Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "UUID": UUID,
    "Decimal": Decimal,
    "bytes": bytes.fromhex,
}
_PLAIN: Final = (int, str, float, bool)


def write_position(position: Position) -> str | None:
    """Return a position as JSON for the ledger; None when a value is of a type that it has no form for."""
    written: list[Any] = []
    for value in position:
        if type(value) in _PLAIN:
            written.append(value)
        elif type(value) in _WRITE:
            written.append({type(value).__name__: _WRITE[type(value)](value)})
        else:
            return None
    return json.dumps(written)


def read_position(text: str) -> Position | None:
    """Return what `write_position` wrote; None for anything else."""
    try:
        return tuple(_value(each) for each in json.loads(text))
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return None


def _value(written: Any) -> Any:
    if isinstance(written, dict):
        ((name, text),) = written.items()
        return _READ[name](text)
    return written
