"""A declaration made by `derive()`, checked and ready to be read: which columns are arguments, key, order, version, age.

Columns that only the pass needs (order, version, a key that is no argument) are added behind the application's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.engine import result_tuple
from sqlalchemy.sql.elements import ColumnElement

from reconciler import columns
from reconciler.errors import Rule, broken
from reconciler.jobs import JobFacts
from reconciler.mapping import arguments_of
from reconciler.pending import Pending

Element = ColumnElement[Any]

_AGES: Final = (datetime, date, int, float)
LABEL: Final = "qik__"
"""Begins the names of columns that a pass adds."""


@dataclass(frozen=True, slots=True)
class Order:
    """One column of the order in which rows are told, and where a row has its value."""

    column: Element
    descending: bool
    at: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pass reads."""

    statement: Select[Any]
    """The application's query with the added columns; no order, no limit."""
    width: int
    """How many columns are the application's own: the first ones."""
    order: tuple[Order, ...]
    """Ends with the key, so that no two rows are equal in it."""
    key: tuple[int, ...]
    """Where a row has its key."""
    version: int | None
    """Where a row has its version."""
    age: Element | None
    args: Callable[[Any], tuple[Any, ...]] | None
    """Makes the arguments of a row; None when the columns are the arguments."""
    labels: tuple[str, ...]
    proven: bool
    """The key maps one to one onto the unique arguments for all that can be seen; else each page is looked at."""

    def arguments(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the arguments of each row."""
        bare = len(self.labels) == self.width
        if self.args is None:
            return list(map(tuple, rows)) if bare else [row[: self.width] for row in rows]
        if bare:
            return [self.args(row) for row in rows]
        own = result_tuple(self.labels[: self.width])
        return [self.args(own(row[: self.width])) for row in rows]


def shape(owner: str, pending: Pending[Any], job: JobFacts) -> Shape:
    """Return the shape of a declaration.

    Raises:
        DefinitionError: names the class, the rule and the remedy.
    """
    return _Resolution(owner, pending, job).shape()


class _Resolution:
    """The steps from a declaration to its shape; each looks at one rule."""

    def __init__(self, owner: str, pending: Pending[Any], job: JobFacts) -> None:
        self.owner = owner
        self.pending = pending
        self.job = job
        self.query: Select[Any] = self._query()
        self.selected: list[Element] = list(self.query.selected_columns)
        self.added: list[Element] = []

    def shape(self) -> Shape:
        key = self._key()
        order = self._order(key)
        version = self._one("version")
        age = self._age()
        proven = arguments_of(self.owner, self.pending, self.job, self.query, key)
        placed = tuple(Order(each, down, self._place(each)) for each, down in order)
        at_key = tuple(self._place(each) for each in key)
        at_version = None if version is None else self._place(version)
        return Shape(
            statement=self.query.add_columns(*self._labelled()) if self.added else self.query,
            width=len(self.selected),
            order=placed,
            key=at_key,
            version=at_version,
            age=age,
            args=self.pending.args,
            labels=(*map(columns.name, self.selected), *(each.key for each in self._labelled())),
            proven=proven,
        )

    # --- the query -----------------------------------------------------------

    def _query(self) -> Select[Any]:
        query = self.pending.query
        if not isinstance(query, Select):
            raise self._broken(
                Rule.QUERY,
                f"the query is a {type(query).__name__}",
                "Give derive() a select(); wrap a union as select(u.c.id).select_from(u), u = union(...).subquery()",
            )
        for clause, remedy in _CLAUSES.items():
            if _has(query, clause):
                raise self._broken(Rule.QUERY, f"the query has {clause}", remedy)
        return query

    # --- key -----------------------------------------------------------------

    def _key(self) -> list[Element]:
        given = self.pending.columns.get("key")
        if given is None:
            return self._inferred_key()
        key = columns.elements(given)
        if not key:
            raise self._broken(
                Rule.KEY,
                f"key is {given!r:.80}",
                "Use a column or a tuple of columns: key=Invoice.id",
            )
        self._check_key(key)
        return key

    def _inferred_key(self) -> list[Element]:
        sources = [columns.source(each) for each in self.selected]
        for table in (each for each in sources if each is not None):
            key = columns.primary_key(table)
            if key and all(columns.position(each, self.selected) is not None for each in key):
                return key
        wanted = next((columns.primary_key(each) for each in sources if each is not None), [])
        raise self._broken(
            Rule.KEY,
            f"the key cannot be inferred: selected {_names(self.selected)}, primary key {_names(wanted)}",
            "Select the primary key, or pass key=(...)",
        )

    def _check_key(self, key: list[Element]) -> None:
        for each in key:
            if columns.nullable(each, self.query):
                raise self._broken(
                    Rule.KEY_UNIQUE,
                    f"key column {columns.name(each)} may be NULL, which names no row",
                    "Use columns that are not null",
                )
        tables = [columns.source(each) for each in key]
        first = tables[0]
        if first is None or any(each is None or not first.compare(each) for each in tables):
            return  # columns of several tables, or expressions: nothing here can say that they repeat
        sets = columns.unique_sets(first)
        names = {columns.name(columns.plain(each)) for each in key}
        if sets and not any(each <= names for each in sets) and not self._grouped():
            raise self._broken(
                Rule.KEY_UNIQUE,
                f"key {_names(key)} does not name one row; these do: {_sets(sets)}",
                "Add the missing columns to key=, or a unique constraint to the table",
            )

    def _grouped(self) -> bool:
        return _has(self.query, "GROUP BY") or _has(self.query, "DISTINCT")

    # --- order, version, age -------------------------------------------------

    def _order(self, key: list[Element]) -> list[tuple[Element, bool]]:
        given = self.pending.columns.get("order_by")
        found = [] if given is None else columns.elements(given)
        if found is None:
            raise self._broken(
                Rule.ORDER, f"order_by is {given!r:.80}", "Use a column or a tuple of columns"
            )
        order = []
        for each in found:
            directed = columns.direction(each)
            if directed is None:
                raise self._broken(
                    Rule.ORDER,
                    "order_by says where nulls go, and order columns are never null",
                    "Use func.coalesce(column, value), without nulls_first() and nulls_last()",
                )
            order.append(directed)
        for column, _ in order:
            if columns.nullable(column, self.query):
                raise self._broken(
                    Rule.ORDER,
                    f"order column {columns.name(column)} may be NULL, and paging would miss such rows",
                    f"Use func.coalesce({columns.name(column)}, value)",
                )
        rest = [each for each in key if columns.position(each, [one for one, _ in order]) is None]
        return [*order, *((each, False) for each in rest)]

    def _one(self, name: str) -> Element | None:
        given: Any = self.pending.columns.get(name)
        if given is None:
            return None
        found = columns.element(given)
        if found is None:
            raise self._broken(
                Rule.OPTION, f"{name} is {given!r:.80}", f"Use one column: {name}=Invoice.{name}"
            )
        return found

    def _age(self) -> Element | None:
        age = self._one("age")
        kind = None if age is None else columns.python_type(age)
        if age is not None and (kind is None or not issubclass(kind, _AGES)):
            raise self._broken(
                Rule.AGE,
                f"age column {columns.name(age)} is {age.type!r}",
                "Use a datetime (naive ones are in UTC), a date, or a number of epoch seconds",
            )
        return age

    # --- places --------------------------------------------------------------

    def _place(self, column: Element) -> int:
        at = columns.position(column, [*self.selected, *self.added])
        if at is not None:
            return at
        if self._grouped():
            raise self._broken(
                Rule.QUERY,
                f"{columns.name(column)} is not selected, and a query with DISTINCT or GROUP BY cannot be given more columns",
                "Select it, and use args= to leave it out of the job's arguments",
            )
        self.added.append(columns.plain(column))
        return len(self.selected) + len(self.added) - 1

    def _labelled(self) -> list[Any]:
        return [each.label(f"{LABEL}{at}") for at, each in enumerate(self.added)]

    def _broken(self, rule: Rule, what: str, remedy: str) -> Exception:
        return broken(self.owner, rule, what, remedy)


_CLAUSES: Final = {
    "LIMIT": "Remove it: a pass reads all pending rows in pages; batch_size= is the page",
    "OFFSET": "Remove it: a pass reads all pending rows in pages",
    "ORDER BY": "Say order_by= in derive() instead: pages are cut along it",
    "FOR UPDATE": "Remove it: pages are read-only; let the job lock its row",
}


def _has(query: Select[Any], clause: str) -> bool:
    """Return whether a query has a clause; SQLAlchemy offers no public way to ask."""
    found = {
        "LIMIT": query._limit_clause is not None or query._fetch_clause is not None,  # noqa: SLF001
        "OFFSET": query._offset_clause is not None,  # noqa: SLF001
        "ORDER BY": bool(query._order_by_clauses),  # noqa: SLF001
        "FOR UPDATE": query._for_update_arg is not None,  # noqa: SLF001
        "GROUP BY": bool(query._group_by_clauses),  # noqa: SLF001
        "DISTINCT": bool(query._distinct),  # noqa: SLF001
    }
    return found[clause]


def _names(found: Sequence[Element]) -> str:
    return f"({', '.join(map(columns.name, found))})"


def _sets(sets: Sequence[set[str]]) -> str:
    return ", ".join(sorted({f"({', '.join(sorted(each))})" for each in sets}))
