"""Can this guard hold the rows of this reconciler? Looked at when the reconciler is defined.

A guard holds one row of one table, found by its key. What the database can do is known only when it is first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.sql.elements import ColumnElement

from reconciler import columns
from reconciler.errors import Rule, broken
from reconciler.inverse import inverse
from reconciler.jobs import JobFacts
from reconciler.options import Guard, GuardKind
from reconciler.shape import Shape

Element = ColumnElement[Any]
_MOMENTS: Final = (datetime, int, float)
_SHORTEST: Final = 1.0


def check_guard(
    owner: str, guard: Guard, shape: Shape, job: JobFacts, *, work: Any, sharded: bool
) -> None:
    """Check that a guard fits the rows and the job, `work`, of a reconciler.

    Raises:
        DefinitionError: it cannot hold them; names the class, the rule and the remedy.
    """
    if inverse(shape, job, sharded=sharded) is None:
        raise broken(
            owner,
            Rule.GUARD,
            f"args= changes the key on its way to {job.name}, so the row of a job cannot be found to hold it",
            "Return the key columns from args= unchanged, or leave out guard=",
        )
    if guard.kind is GuardKind.ADVISORY:
        return
    table = table_of(shape)
    if table is None:
        raise broken(
            owner,
            Rule.GUARD,
            f"the key ({', '.join(map(columns.name, key_of(shape)))}) is not of columns of one table, so there is no row to hold",
            "Say key= with columns of one table, or use guard=Guard.advisory()",
        )
    if guard.kind is GuardKind.CLAIM:
        _check_claim(owner, guard, shape, table, work)
    elif getattr(work.definition, "is_async", False):
        raise broken(
            owner,
            Rule.GUARD,
            f"{job.name} is async, and a row lock is held by a session for threads: its own statements would wait for it",
            "Use guard=Guard.claim(column, ttl) or guard=Guard.advisory()",
        )


def _check_claim(owner: str, guard: Guard, shape: Shape, table: Table, work: Any) -> None:
    column = columns.element(guard.column)
    if column is None or columns.behind(columns.source(column)) is not table:
        raise broken(
            owner,
            Rule.GUARD,
            f"the claim column is {guard.column!s:.80}",
            f"Use a column of {table.name}, which has the key: Guard.claim(Invoice.claimed_until, ttl)",
        )
    name, kind = columns.name(column), columns.python_type(column)
    if kind is None or not issubclass(kind, _MOMENTS) or issubclass(kind, bool):
        raise broken(
            owner,
            Rule.GUARD,
            f"claim column {name} is {column.type!r}",
            "Use a datetime (naive ones are in UTC), or a number of epoch seconds",
        )
    if not getattr(column, "nullable", True):
        raise broken(
            owner,
            Rule.GUARD,
            f"claim column {name} may not be NULL, which says that nobody has the row",
            "Make it nullable: mapped_column(nullable=True)",
        )
    if shape.version is not None and columns.same(column, _selected(shape)[shape.version]):
        raise broken(
            owner,
            Rule.GUARD,
            f"claim column {name} is the row's version too: each claim would make the row a newer one",
            "Use a column of its own",
        )
    _check_ttl(owner, guard, work)


def _check_ttl(owner: str, guard: Guard, work: Any) -> None:
    if guard.ttl < _SHORTEST:
        raise broken(owner, Rule.GUARD, f"ttl is {guard.ttl:g} s", f"Use {_SHORTEST:g} s or more")
    limit = getattr(work.definition, "timeout", None)
    if limit is not None and limit > guard.ttl:
        raise broken(
            owner,
            Rule.GUARD,
            f"the claim ends after {guard.ttl:g} s and {work.definition.name} may run for {limit:g} s",
            "Use a ttl that is longer than the job's timeout",
        )


# --- the table behind a key ---------------------------------------------------------------------


def key_of(shape: Shape) -> list[Element]:
    """Return the columns of the key, without labels."""
    selected = _selected(shape)
    return [columns.plain(selected[at]) for at in shape.key]


def table_of(shape: Shape) -> Table | None:
    """Return the table that has all columns of the key; None if they are of several, or expressions."""
    tables = {columns.behind(columns.source(each)) for each in key_of(shape)}
    table = tables.pop()
    return None if tables or table is None else table


def _selected(shape: Shape) -> Sequence[Element]:
    return list(shape.statement.selected_columns)
