"""A declaration made by `derive()`, checked and ready to be read: which columns are arguments, key, order, version, age.

Columns that only the pass needs (order, version, a key that is no argument) are added behind the application's own. When
a row is due is added as epoch seconds in any case: then one row says it in the same way whatever the type of its column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.engine import result_tuple
from sqlalchemy.sql.elements import ColumnElement

from reconciler import columns
from reconciler.cron import Slots
from reconciler.errors import Rule, broken
from reconciler.jobs import JobFacts
from reconciler.mapping import arguments_of
from reconciler.moments import KINDS, epoch
from reconciler.options import seconds
from reconciler.pending import Pending

Element = ColumnElement[Any]

SHORTEST: Final = 60.0
"""Seconds before it is due that a row is told at least, unless `horizon=` says less."""
LONGEST: Final = 366 * 86_400.0
"""Seconds before it is due that a row may be told at most."""
LABEL: Final = "qik__"
"""Begins the names of columns that a pass adds."""


@dataclass(frozen=True, slots=True)
class Order:
    """One column of the order in which rows are told, and where a row has its value."""

    column: Element
    descending: bool
    at: int


@dataclass(frozen=True, slots=True)
class RunAt:
    """When the job of a row is due, and what follows from it. Times in seconds."""

    column: Element
    """A moment; NULL is at once."""
    at: int
    """Where a row has it, in epoch seconds."""
    horizon: float
    """Rows due later than within so long stay in SQL."""
    grace: float | None
    """Rows that were due longer ago are late, and not told; None: rows are told however late."""


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
    age_at: int | None
    """Where a row has the moment since which it is pending; None where it has none that could be read along."""
    args: Callable[[Any], tuple[Any, ...]] | None
    """Makes the arguments of a row; None when the columns are the arguments."""
    labels: tuple[str, ...]
    proven: bool
    """The key maps one to one onto the unique arguments for all that can be seen; else each page is looked at."""
    run_at: RunAt | None = None
    tenant_at: int | None = None
    """Where a row has its tenant."""
    slots: Slots | None = None
    """The rows of the statement are what is done, and a slot without a row is what is pending."""

    @property
    def run_at_at(self) -> int | None:
        """Where a row has the moment its job is due, in epoch seconds."""
        return None if self.run_at is None else self.run_at.at

    def arguments(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the arguments of each row."""
        bare = len(self.labels) == self.width and self.tenant_at is None
        if self.args is None:
            return list(map(tuple, rows)) if bare else [row[: self.width] for row in rows]
        if bare:
            return [self.args(row) for row in rows]
        own = result_tuple(self.labels[: self.width])
        return [self.args(own(row[: self.width])) for row in rows]

    def own(self, row: Any) -> Any:
        """Return a row as the application's query has it, without what was added."""
        return result_tuple(self.labels[: self.width])(row[: self.width])


def shape(owner: str, pending: Pending[Any], job: JobFacts, every: float) -> Shape:
    """Return the shape of a declaration. `every` is how many seconds lie between two passes.

    Raises:
        DefinitionError: names the class, the rule and the remedy.
    """
    return _Resolution(owner, pending, job, every).shape()


def checked(owner: str, query: object) -> Select[Any]:
    """Return the query of a declaration if pages can be cut of it.

    Raises:
        DefinitionError: it is no select, or says itself which of its rows are read.
    """
    if not isinstance(query, Select):
        raise broken(
            owner,
            Rule.QUERY,
            f"the query is a {type(query).__name__}",
            "Give derive() a select(); wrap a union as select(u.c.id).select_from(u), u = union(...).subquery()",
        )
    for clause, remedy in _CLAUSES.items():
        if _has(query, clause):
            raise broken(owner, Rule.QUERY, f"the query has {clause}", remedy)
    return query


class _Resolution:
    """The steps from a declaration to its shape; each looks at one rule."""

    def __init__(self, owner: str, pending: Pending[Any], job: JobFacts, every: float) -> None:
        self.owner = owner
        self.pending = pending
        self.job = job
        self.every = every
        self.query = checked(owner, pending.query)
        self.selected: list[Element] = list(self.query.selected_columns)
        self.added: list[Element] = []

    def shape(self) -> Shape:
        key = self._key()
        order = self._order(key)
        version = self._one("version")
        age = self._moment("age", Rule.AGE)
        proven = arguments_of(self.owner, self.pending, self.job, self.query, key)
        placed = tuple(Order(each, down, self._place(each)) for each, down in order)
        at_key = tuple(self._place(each) for each in key)
        at_version = None if version is None else self._place(version)
        at_age = self._beside(age)
        tenant = self._one("tenant", Rule.TENANT)
        at_tenant = None if tenant is None else self._place(tenant)
        run_at = self._run_at()
        return Shape(
            statement=self.query.add_columns(*self._labelled()) if self.added else self.query,
            width=len(self.selected),
            order=placed,
            key=at_key,
            version=at_version,
            age=age,
            age_at=at_age,
            args=self.pending.args,
            labels=(*map(columns.name, self.selected), *(each.key for each in self._labelled())),
            proven=proven,
            run_at=run_at,
            tenant_at=at_tenant,
        )

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

    def _one(self, name: str, rule: Rule = Rule.OPTION) -> Element | None:
        given: Any = self.pending.columns.get(name)
        if given is None:
            return None
        found = columns.element(given)
        if found is None:
            raise self._broken(
                rule, f"{name} is {given!r:.80}", f"Use one column: {name}=Invoice.{name}"
            )
        return found

    def _moment(self, name: str, rule: Rule) -> Element | None:
        found = self._one(name, rule)
        kind = None if found is None else columns.python_type(found)
        if found is not None and (kind is None or not issubclass(kind, KINDS) or kind is bool):
            raise self._broken(
                rule,
                f"{name} column {columns.name(found)} is {found.type!r}",
                "Use a datetime (naive ones are in UTC), a date, or a number of epoch seconds",
            )
        return found

    def _run_at(self) -> RunAt | None:
        column, given = self._moment("run_at", Rule.RUN_AT), self.pending.columns
        if column is None:
            stray = next((each for each in ("horizon", "late", "grace") if each in given), None)
            if stray is None:
                return None
            raise self._broken(
                Rule.RUN_AT,
                f"{stray} is given, and nothing says when a row is due",
                "Say when: derive(..., run_at=Reminder.send_at)",
            )
        usual = min(max(2 * self.every, SHORTEST), LONGEST)
        horizon = self._seconds("horizon", usual)
        if horizon > LONGEST:
            raise self._broken(
                Rule.RUN_AT,
                f"horizon is {horizon:g} s: jobs would wait in Redis for longer than a year",
                "Use a short one, and leave rows in SQL, where they cost nothing: horizon=timedelta(minutes=10)",
            )
        if 0 < horizon < min(self.every, LONGEST):
            raise self._broken(
                Rule.RUN_AT,
                f"horizon is {horizon:g} s and every {self.every:g} s: rows that fall due between two passes would be late",
                f"Use at least {self.every:g} s; or 0, and rows are told by the first pass after they are due",
            )
        grace = self._seconds("grace", usual)
        return RunAt(
            column, self._place_epoch(column), horizon, grace if self._is_skipped() else None
        )

    def _is_skipped(self) -> bool:
        """Return whether late rows are left out."""
        late = self.pending.columns.get("late", "run")
        if late not in ("run", "skip"):
            raise self._broken(Rule.RUN_AT, f"late is {late!r:.80}", "There are: 'run', 'skip'")
        if late == "run" and "grace" in self.pending.columns:
            raise self._broken(
                Rule.RUN_AT,
                "grace is given, and late rows are told all the same",
                "Add late='skip', or leave grace= out",
            )
        return late == "skip"

    def _seconds(self, name: str, usual: float) -> float:
        given: Any = self.pending.columns
        return seconds(self.owner, name, given[name], Rule.RUN_AT) if name in given else usual

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
        return self._add(column)

    def _place_epoch(self, column: Element) -> int:
        """Return where a row has a moment in epoch seconds: what is made of a selected column can always be added."""
        if self._grouped():
            self._place(column)
        return self._add(epoch(columns.plain(column)))

    def _add(self, column: Element) -> int:
        self.added.append(columns.plain(column))
        return len(self.selected) + len(self.added) - 1

    def _beside(self, column: Element | None) -> int | None:
        """Return where a row has a column that is read only to be counted: not where the query cannot be given it."""
        if column is None:
            return None
        at = columns.position(column, [*self.selected, *self.added])
        return at if at is not None or self._grouped() else self._place(column)

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
