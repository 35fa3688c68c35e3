"""What can be known of a select's columns before any row is read. Pure functions of SQLAlchemy's objects."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, Union

from sqlalchemy import (
    JSON,
    REAL,
    Column,
    Double,
    Float,
    Join,
    Select,
    Table,
    UniqueConstraint,
)
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import ColumnElement, Label, UnaryExpression
from sqlalchemy.sql.functions import coalesce
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.types import TypeEngine

_SHORT: Final = 24
"""Bits of the largest FLOAT(p) that takes 4 bytes."""
_NOT_THE_SAME: Final = ((bool, int), (datetime, date))
"""Subclasses that do not stand for their base: a flag is no number, a moment no day."""


def element(given: Any) -> ColumnElement[Any] | None:
    """Return the column expression behind a mapped attribute, a column or an expression; None for anything else."""
    if not isinstance(given, ColumnElement) and hasattr(given, "__clause_element__"):
        given = given.__clause_element__()
    return given if isinstance(given, ColumnElement) else None


def elements(given: Any) -> list[ColumnElement[Any]] | None:
    """Return the column expressions of one or several, None if one of them is none."""
    several = given if isinstance(given, (tuple, list)) else (given,)
    found = [each for each in map(element, several) if each is not None]
    return found if len(found) == len(several) else None


def plain(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the expression without its label."""
    while isinstance(column, Label):
        column = column.element
    return column


def same(one: ColumnElement[Any], other: ColumnElement[Any]) -> bool:
    """Return whether two expressions are the same, labels apart."""
    return plain(one).compare(plain(other))


def position(column: ColumnElement[Any], columns: Sequence[ColumnElement[Any]]) -> int | None:
    """Return where an expression stands among others, None if it does not."""
    return next(
        (at for at, each in enumerate(columns) if each is column or same(each, column)), None
    )


def name(column: ColumnElement[Any]) -> str:
    """Return how an error names a column."""
    return str(getattr(column, "key", None) or getattr(column, "name", None) or column)


def direction(column: ColumnElement[Any]) -> tuple[ColumnElement[Any], bool] | None:
    """Return a column of ORDER BY and whether it descends; None if it says where nulls go."""
    descending = False
    while isinstance(column, UnaryExpression) and column.modifier is not None:
        if column.modifier not in (operators.asc_op, operators.desc_op):
            return None
        descending = column.modifier is operators.desc_op
        column = column.element
    return column, descending


# --- null --------------------------------------------------------------------


def nullable(column: ColumnElement[Any], query: Select[Any]) -> bool:
    """Return whether an expression may be NULL for all that is known: a nullable column, or one of an outer join."""
    bare = plain(column)
    if isinstance(bare, coalesce):
        return False
    outer = list(_outer(query.get_final_froms()))
    return any(
        bool(each.nullable) or any(table.compare(each.table) for table in outer)
        for each in visitors.iterate(bare)
        if isinstance(each, Column)
    )


def _outer(froms: Iterable[FromClause]) -> Iterator[FromClause]:
    """Yield the tables whose columns an outer join may leave empty."""
    for each in froms:
        if not isinstance(each, Join):
            continue
        if each.isouter or each.full:
            yield from joined(each.right)
        if each.full:
            yield from joined(each.left)
        yield from _outer([each.left, each.right])


def joined(clause: FromClause) -> Iterator[FromClause]:
    """Yield the tables, aliases and subqueries that are joined."""
    if isinstance(clause, Join):
        yield from joined(clause.left)
        yield from joined(clause.right)
    else:
        yield clause


# --- keys --------------------------------------------------------------------


def source(column: ColumnElement[Any]) -> FromClause | None:
    """Return what a column is a column of; None for an expression."""
    table = getattr(plain(column), "table", None)
    return table if isinstance(table, FromClause) else None


def behind(found: Any) -> Table | None:
    """Return the table behind an alias of it; None if there is none."""
    while found is not None and not isinstance(found, Table):
        found = getattr(found, "element", None)
    return found


def primary_key(table: FromClause) -> list[ColumnElement[Any]]:
    """Return the primary key of a table or of an alias of one."""
    return list(table.primary_key)


def unique_sets(table: FromClause) -> list[set[str]]:
    """Return the sets of columns that name one row of a table: primary key, unique constraints and indexes.

    Columns that may be NULL name no row. A subquery has none that could be known.
    """
    base = behind(table)
    if base is None:
        return []
    sets = [list(base.primary_key.columns)]
    sets += [list(each.columns) for each in base.constraints if isinstance(each, UniqueConstraint)]
    sets += [list(each.columns) for each in base.indexes if each.unique and not _partial(each)]
    sets += [[each] for each in base.columns if each.unique]
    return [
        {each.name for each in found}
        for found in sets
        if found and not any(c.nullable for c in found)
    ]


def _partial(index: Any) -> bool:
    return any(options.get("where") is not None for options in index.dialect_options.values())


# --- types -------------------------------------------------------------------


def python_type(column: ColumnElement[Any]) -> type | None:
    """Return the type of a column's values, None where SQLAlchemy does not know it, as of an application's own types."""
    try:
        found: type = column.type.python_type
    except NotImplementedError:
        return None
    return None if found is object else found


def fits(column: ColumnElement[Any], annotation: Any) -> bool:
    """Return whether a column's values are what an annotation asks for, as far as both are known."""
    found = python_type(column)
    if found is None or isinstance(column.type, JSON):
        return True
    return any(_is(found, wanted) for wanted in members(annotation))


def _is(found: type, wanted: Any) -> bool:
    if not isinstance(wanted, type) or wanted is object:
        return True
    if wanted is float and found is int:
        return True
    return issubclass(found, wanted) and not any(
        issubclass(found, sub) and wanted is base for sub, base in _NOT_THE_SAME
    )


def members(annotation: Any) -> list[Any]:
    """Return the plain types that an annotation allows; something that is no class stands for anything."""
    if annotation is None or annotation is Any:
        return [type(None) if annotation is None else object]
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return [each for member in inside for each in members(member)]
    if origin is Annotated:
        return members(inside[0])
    if origin is Literal:
        return [type(value) for value in inside]
    if hasattr(annotation, "__supertype__"):
        return members(annotation.__supertype__)
    return [origin or annotation]


def takes_none(annotation: Any) -> bool:
    """Return whether None is allowed."""
    return any(
        each is type(None) or not isinstance(each, type) or each is object
        for each in members(annotation)
    )


def is_short_float(kind: TypeEngine[Any], dialect: str) -> bool:
    """Return whether a column is a float of 4 bytes: its text is not equal to what is kept."""
    if dialect == "sqlite" or not isinstance(kind, Float) or isinstance(kind, Double):
        return False
    if isinstance(kind, REAL) or kind.precision is None:
        return isinstance(kind, REAL) == (dialect == "postgresql")
    return kind.precision <= _SHORT
