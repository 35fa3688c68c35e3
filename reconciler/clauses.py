"""Why a select does not find a certain row: which of its conditions do not hold, and which join leaves the row out.

The row is looked for by its key alone, then each condition of WHERE is asked for by itself, in one statement. A condition
that looks at several tables may hold for one pair of rows and not for another: then none is blamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column, Connection, Dialect, Select, case, exc, func, select
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BooleanClauseList, ColumnElement
from sqlalchemy.sql.selectable import FromClause, Join

from reconciler.columns import joined, name, plain
from reconciler.explain import readable
from reconciler.shape import Shape

Key = tuple[Any, ...]
_SHOWN: Final = 12
_STATEMENT: Final = (exc.ProgrammingError, exc.NotSupportedError, exc.DataError)
"""What a database says of a statement that cannot be taken apart like this."""


@dataclass(frozen=True, slots=True)
class Unmatched:
    """What became of a row that a select does not find."""

    exists: bool | None
    """A row of this key is there; None where the select cannot be asked in parts."""
    failing: tuple[str, ...] = ()
    """The conditions that do not hold, as SQL."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What the columns have at which they look."""
    row: Sequence[Any] | None = None
    """The row as the select would read it, if it found it."""
    note: str = ""
    """What there is to say where no condition is at fault."""


def unmatched(connection: Connection, shape: Shape, key: Key) -> Unmatched:
    """Say why the select does not find the row of a key that it does not find."""
    try:
        return _Parts(connection, shape, key).look()
    except exc.CompileError:
        return Unmatched(exists=None)
    except exc.DBAPIError as error:
        if not isinstance(error, _STATEMENT):
            raise
        return Unmatched(exists=None)


def conjuncts(clause: ColumnElement[Any]) -> Iterator[ColumnElement[Any]]:
    """Yield what must all hold for a condition to hold."""
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        for each in clause.clauses:
            yield from conjuncts(each)
    else:
        yield clause


class _Parts:
    """One select, taken apart for one key."""

    def __init__(self, connection: Connection, shape: Shape, key: Key) -> None:
        self.connection = connection
        self.statement = shape.statement
        self.dialect: Dialect = connection.dialect
        self.froms: Sequence[FromClause] = shape.statement.get_final_froms()
        self.selected: list[ColumnElement[Any]] = list(shape.statement.selected_columns)
        self.columns = [plain(self.selected[at]) for at in shape.key]
        self.key = key

    def look(self) -> Unmatched:
        where = self.statement.whereclause
        conditions = [] if where is None else list(conjuncts(where))
        flags = [func.max(case((each, 1), else_=0)) for each in conditions]
        asked: Select[*tuple[Any, ...]] = select(func.count(), *flags)
        count, *held = self._one(asked, self.froms)
        if not count:
            return self._left_out()
        failing = [each for each, holds in zip(conditions, held, strict=True) if not holds]
        texts = tuple(self._text(each) for each in failing)
        if not failing and _grouped(self.statement):
            texts = tuple(f"HAVING {self._text(each)}" for each in _having(self.statement))
        return Unmatched(
            exists=True, failing=texts, values=self._values(failing), row=self._row(self.froms)
        )

    def _left_out(self) -> Unmatched:
        """Look for the row without its joins; a join that it does not come through is what leaves it out."""
        for each in self.froms:
            owners = [table for table in joined(each) if self._owns(table)]
            if owners and self._one(select(func.count()), owners)[0]:
                culprit = self._culprit(each)
                text = f"JOIN ON {culprit}" if culprit else "a join with the other tables"
                return Unmatched(exists=True, failing=(text,))
        return Unmatched(exists=False)

    def _culprit(self, clause: FromClause) -> str:
        """Return the condition of the innermost join that loses the row; empty where none is seen to."""
        if not isinstance(clause, Join):
            return ""
        for side in (clause.left, clause.right):
            if (
                any(map(self._owns, joined(side)))
                and not self._one(select(func.count()), [side])[0]
            ):
                return self._culprit(side)
        return "" if clause.onclause is None else self._text(clause.onclause)

    def _one(self, query: Select[*tuple[Any, ...]], froms: Sequence[FromClause]) -> Sequence[Any]:
        asked = query.select_from(*froms).where(*self._is_it())
        return self.connection.execute(asked).one()

    def _is_it(self) -> list[ColumnElement[bool]]:
        return [each == value for each, value in zip(self.columns, self.key, strict=True)]

    def _owns(self, table: FromClause) -> bool:
        """Return whether the key is of this table."""
        own = [each for each in self.columns if isinstance(each, Column)]
        return len(own) == len(self.columns) and all(_same(each.table, table) for each in own)

    def _row(self, froms: Sequence[FromClause]) -> Sequence[Any] | None:
        if _grouped(self.statement):
            return None
        asked = select(*self.selected).select_from(*froms).where(*self._is_it()).limit(1)
        return self.connection.execute(asked).first()

    def _values(self, failing: Sequence[ColumnElement[Any]]) -> dict[str, Any]:
        """Return what the row has in the columns at which conditions look."""
        tables = [table for each in self.froms for table in joined(each)]
        found: dict[str, Column[Any]] = {}
        for condition in failing:
            for each in visitors.iterate(condition):
                if isinstance(each, Column) and any(_same(each.table, table) for table in tables):
                    found.setdefault(name(each), each)
        if not found:
            return {}
        columns = list(found.values())[:_SHOWN]
        asked = select(*columns).select_from(*self.froms).where(*self._is_it()).limit(1)
        row = self.connection.execute(asked).first()
        return {} if row is None else dict(zip(found, row, strict=False))

    def _text(self, clause: ColumnElement[Any]) -> str:
        return " ".join(readable(clause, self.dialect, {}).split())


def _same(one: FromClause, other: FromClause) -> bool:
    return one is other or one.compare(other)  # the ORM gives each use of a table its own notes


def _grouped(statement: Select[Any]) -> bool:
    return bool(statement._group_by_clauses)  # noqa: SLF001 - SQLAlchemy offers no public way to ask


def _having(statement: Select[Any]) -> Iterator[ColumnElement[Any]]:
    for each in statement._having_criteria:  # noqa: SLF001 - nor for these
        yield from conjuncts(each)
