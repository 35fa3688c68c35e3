"""Which index would let a database find pending rows in their order, as DDL for that database.

Columns that are compared for equality come first, then the order: so the rows that match stand together, sorted.
Where nothing is compared for equality, PostgreSQL gets a partial index; others the first column that bounds a range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Column, Dialect, Index, MetaData, Select, Table, Text, and_
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    BinaryExpression,
    ColumnElement,
    Null,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause, Join, Subquery

from reconciler.clauses import conjuncts
from reconciler.columns import plain
from reconciler.explain import base
from reconciler.shape import Order, Shape
from reconciler.sql import MYSQL

_EQUAL: Final = (operators.eq, operators.is_)
_RANGE: Final = (operators.lt, operators.le, operators.gt, operators.ge, operators.in_op)
_NAME: Final = 60
_PREFIX: Final = 64


def index_for(shape: Shape, source: FromClause, dialect: Dialect) -> str | None:
    """Return the CREATE INDEX that would help to read a table of the query; None when none can be told.

    `source` is the table, or the alias of it, as the query has it.
    """
    clauses = list(_conjuncts(shape.statement))
    partial = dialect.name == "postgresql"
    empty = [each for each in clauses if partial and _is_empty(each, source)]
    equal = _unique(
        _compared(clause, source, _EQUAL)
        for clause in clauses
        if not any(clause is each for each in empty)
    )
    order = list(_order(shape.order, source))
    if equal:
        return _ddl(source, equal, order, dialect, and_(*empty) if empty else None)
    constant = [each for each in clauses if _constant(each, source)]
    if partial and constant and order:
        return _ddl(source, [], order, dialect, and_(*constant))
    bounded = _unique(_compared(clause, source, _RANGE) for clause in clauses)
    return _ddl(source, bounded[:1], order, dialect) if bounded else None


def _conjuncts(statement: Select[Any]) -> Iterator[ColumnElement[Any]]:
    """Yield what must hold of every row: the parts of WHERE, and of the joins that leave no side empty."""
    if statement.whereclause is not None:
        yield from conjuncts(statement.whereclause)
    for each in statement.get_final_froms():
        yield from _joined(each)


def _joined(clause: FromClause) -> Iterator[ColumnElement[Any]]:
    if isinstance(clause, Join):
        if clause.onclause is not None:
            yield from conjuncts(clause.onclause)
        yield from _joined(clause.left)
        yield from _joined(clause.right)


def _compared(clause: Any, source: FromClause, wanted: Sequence[Any]) -> Column[Any] | None:
    """Return the column of this table that a part compares in one of these ways with something that is not of it."""
    if isinstance(clause, UnaryExpression) and wanted is _EQUAL:
        clause = clause.element  # a flag, or NOT a flag
    if isinstance(clause, Column):
        return clause if clause.table is source and wanted is _EQUAL else None
    if not isinstance(clause, BinaryExpression) or clause.operator not in wanted:
        return None
    for one, other in ((clause.left, clause.right), (clause.right, clause.left)):
        column = plain(one)
        if isinstance(column, Column) and column.table is source and not _of(other, source):
            return column
    return None


def _is_empty(clause: Any, source: FromClause) -> bool:
    """Return whether a part says that a column is NULL: PostgreSQL reads no order behind such a column of an index."""
    null = isinstance(clause, BinaryExpression) and isinstance(clause.right, Null)
    return null and clause.operator is operators.is_ and _of(clause, source)


def _of(clause: Any, source: FromClause) -> bool:
    return any(
        isinstance(each, Column) and each.table is source for each in visitors.iterate(clause)
    )


def _constant(clause: Any, source: FromClause) -> bool:
    """Return whether a part says of a row of this table alone what is true of it at any time."""
    parts = list(visitors.iterate(clause))
    own = all(each.table is source for each in parts if isinstance(each, Column))
    moving = any(isinstance(each, (FunctionElement, Select, Subquery)) for each in parts)
    return own and not moving and _of(clause, source)


def _order(order: Sequence[Order], source: FromClause) -> Iterator[tuple[Column[Any], bool]]:
    for each in order:
        column = plain(each.column)
        if not isinstance(column, Column) or column.table is not source:
            return  # what comes behind it cannot be read in order either
        yield column, each.descending


def _unique(columns: Iterable[Column[Any] | None]) -> list[Column[Any]]:
    return list({each.name: each for each in columns if each is not None}.values())


def _ddl(
    source: FromClause,
    first: Sequence[Column[Any]],
    order: Sequence[tuple[Column[Any], bool]],
    dialect: Dialect,
    where: ColumnElement[Any] | None = None,
) -> str | None:
    names = {each.name for each in first}
    directed = [(each, False) for each in first]
    directed += [(each, down) for each, down in order if each.name not in names]
    columns = {column.name: Column(column.name, column.type) for column, _ in directed}
    table = base(source)
    # A table of its own: an index that is built on the application's table would become part of its metadata.
    copy = Table(table.name, MetaData(), *columns.values(), schema=table.schema)
    long = {name: _PREFIX for name, each in columns.items() if isinstance(each.type, Text)}
    lengths: dict[str, Any] = {f"{kind}_length": long for kind in MYSQL if long}
    index = Index(
        f"ix_{table.name}_{'_'.join(columns)}"[:_NAME],
        *(copy.c[column.name].desc() if down else copy.c[column.name] for column, down in directed),
        postgresql_concurrently=True,
        postgresql_where=where,
        **lengths,
    )
    return str(CreateIndex(index).compile(dialect=dialect)).strip()
