"""Moments as databases have them: as a column of some type, and as epoch seconds, which all of them can say.

A column without a zone is in UTC, a date is its midnight in UTC, a number is epoch seconds. MariaDB's TIMESTAMP is a
moment that it shows in the session's zone, so what it shows is never read as UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, Final

from sqlalchemy import TIMESTAMP, Double, cast, extract, func, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from reconciler.columns import python_type
from reconciler.sql import MYSQL

KINDS: Final = (datetime, date, int, float)
"""The types of columns that can say a moment."""


class Epoch(FunctionElement[float]):
    """A moment of a row as epoch seconds: a float in every database, whatever the type of the column; NULL stays NULL."""

    name = "epoch"
    type = Double()
    inherit_cache = True


def epoch(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column of moments as epoch seconds."""
    return Epoch(column)


def _is_number(column: ColumnElement[Any]) -> bool:
    kind = python_type(column)
    return kind is None or not issubclass(kind, date)


@compiles(Epoch)
def _unknown(element: Epoch, compiler: SQLCompiler, **options: Any) -> str:
    """Write a form to read: databases that this package does not know are refused before they are asked."""
    return compiler.process(func.epoch(*element.clauses), **options)


@compiles(Epoch, "postgresql")
def _postgresql(element: Epoch, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    seconds = column if _is_number(column) else extract("epoch", column)
    return compiler.process(cast(seconds, Double), **options)


@compiles(Epoch, *sorted(MYSQL))
def _mysql(element: Epoch, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    if _is_number(column) or isinstance(column.type, TIMESTAMP):
        seconds = column if _is_number(column) else func.unix_timestamp(column)
        return compiler.process(seconds + literal_column("0e0", Double), **options)
    since = func.timestampdiff(
        literal_column("MICROSECOND"), literal_column("'1970-01-01'"), column
    )
    return compiler.process(since / literal_column("1e6"), **options)


@compiles(Epoch, "sqlite")
def _sqlite(element: Epoch, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    if _is_number(column):
        return compiler.process(cast(column, Double), **options)
    days = func.julianday(column) - literal_column("2440587.5", Double)
    return compiler.process(days * literal_column("86400.0", Double), **options)


def moment(column: ColumnElement[Any], seconds: float, dialect: str) -> Any:
    """Return a moment as a column of its type has it: naive columns are in UTC, numbers are epoch seconds.

    MariaDB's TIMESTAMP is a moment that it shows in the session's zone, whatever that is.
    """
    if dialect in MYSQL and isinstance(column.type, TIMESTAMP):
        return func.from_unixtime(seconds)
    kind = column.type.python_type
    if issubclass(kind, datetime):
        aware = datetime.fromtimestamp(seconds, UTC)
        return aware if getattr(column.type, "timezone", False) else aware.replace(tzinfo=None)
    if issubclass(kind, date):
        return datetime.fromtimestamp(seconds, UTC).date()
    return kind(seconds)
