"""What a database would do with a statement: its SQL to read, its plan, the big tables it reads whole, and the index to add.

EXPLAIN alone runs nothing. A table that is read whole matters when it is big: then every page of every pass costs as
much as the table is long, however few rows are pending.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    Select,
    Table,
    event,
    exc,
    func,
    literal_column,
    select,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BindParameter, ColumnElement
from sqlalchemy.sql.selectable import Alias, FromClause

from reconciler.sql import reading

BIG: Final = 10_000
"""Rows from which on a table that is read whole is a finding."""
_SELECTIVE: Final = 0.5
"""Who finds more than this share of a table loses nothing by walking it in order."""
_SCANNED: Final = re.compile(r"SCAN (\S+)(?: AS \S+)?(?: USING (?:COVERING )?INDEX (\S+))?$")
_BUILT: Final = re.compile(r"SEARCH (\S+)(?: AS \S+)? USING AUTOMATIC")


@dataclass(frozen=True, slots=True)
class Scan:
    """A big table that a statement reads whole."""

    table: str
    how: str
    rows: int
    """How many rows it has; no more than `BIG` + 1 are counted."""
    source: FromClause
    """The table or alias of the statement."""

    def __str__(self) -> str:
        return f"{self.how} of {self.table}, which has more than {self.rows - 1:,} rows"


@dataclass(frozen=True, slots=True)
class Explained:
    """One statement and what its database would do with it."""

    sql: str
    plan: tuple[str, ...]
    scans: tuple[Scan, ...]
    sorts: bool
    """Rows are sorted before the first one comes out: no index has the order."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "sql": self.sql,
            "plan": list(self.plan),
            "scans": [str(each) for each in self.scans],
            "sorts": self.sorts,
        }


@dataclass(frozen=True, slots=True)
class _Access:
    """One table of a plan that is read whole."""

    name: str
    how: str
    found: float | None = None
    """How many rows the planner expects to find, where it says so."""


@dataclass(frozen=True, slots=True)
class _Plan:
    lines: list[str]
    whole: list[_Access]
    sorts: bool


def explain(
    engine: Engine,
    statement: Select[Any],
    values: Mapping[str, Any],
    timeout: float,
    *,
    big: int = BIG,
) -> Explained:
    """Return a statement as SQL and as its database plans it; nothing of it is run, and nothing is written.

    Raises:
        SqlUnavailable: the database cannot be reached.
        SQLAlchemyError: the statement cannot work.
    """
    look = {"postgresql": _postgresql, "sqlite": _sqlite}.get(engine.dialect.name, _mysql)
    with reading(engine, timeout) as connection:
        plan = look(connection, statement, values)
        scans = tuple(_big(connection, statement, plan.whole, big))
    sql = readable(statement, engine.dialect, values)
    return Explained(sql, tuple(plan.lines), scans, plan.sorts)


# --- SQL to read --------------------------------------------------------------------------------


def readable(
    statement: Select[Any] | ColumnElement[Any], dialect: Dialect, values: Mapping[str, Any]
) -> str:
    """Return a statement, or a part of one, as text with its values in place; `:name` where one has no literal form.

    It is for people. Nothing ever executes it.
    """
    kind: Any = type(dialect)
    named = kind(paramstyle="named")  # %s-style drivers double each % in a text

    def unknown(element: Any, **_: Any) -> Any:
        if isinstance(element, BindParameter) and element.required and element.key not in values:
            return literal_column(f":{element.key}")
        return None

    shown: Any = visitors.replacement_traverse(statement, {}, unknown)
    try:
        shown = shown.params(dict(values)) if values else shown
        text = str(shown.compile(dialect=named, compile_kwargs={"literal_binds": True}))
    except (exc.CompileError, NotImplementedError, TypeError, ValueError):
        text = str(statement.compile(dialect=named))
    return "\n".join(line.rstrip() for line in text.splitlines())


# --- three kinds of plan ------------------------------------------------------------------------


@contextmanager
def _prefixed(connection: Connection, prefix: str) -> Iterator[list[dict[str, Any]]]:
    """Put EXPLAIN before a statement where the driver gets it, with its parameters as they would really be sent.

    Yields what it answers, by column.
    """
    rows: list[dict[str, Any]] = []

    def put(_c: Any, _cursor: Any, text: str, parameters: Any, _x: Any, _many: Any) -> Any:
        return prefix + text, parameters

    def take(_c: Any, cursor: Any, *_: Any) -> None:
        names = [each[0] for each in cursor.description]
        rows.extend(dict(zip(names, row, strict=True)) for row in cursor.fetchall())

    event.listen(connection, "before_cursor_execute", put, retval=True)
    event.listen(connection, "after_cursor_execute", take)
    try:
        yield rows
    finally:
        event.remove(connection, "before_cursor_execute", put)
        event.remove(connection, "after_cursor_execute", take)


def _rows(
    connection: Connection, prefix: str, statement: Select[Any], values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what EXPLAIN answers by column, past the result that the statement itself would have had."""
    with _prefixed(connection, prefix) as rows:
        try:
            at_once = statement.execution_options(stream_results=False)
            connection.execute(at_once, dict(values)).close()
        except exc.InvalidRequestError:  # a text where the statement's first column is a number
            if not rows:
                raise
    return rows


def _postgresql(connection: Connection, statement: Select[Any], values: Mapping[str, Any]) -> _Plan:
    lines = [str(row["QUERY PLAN"]) for row in _rows(connection, "EXPLAIN ", statement, values)]
    tree = _rows(connection, "EXPLAIN (FORMAT JSON) ", statement, values)[0]["QUERY PLAN"]
    nodes = list(_nodes((json.loads(tree) if isinstance(tree, str) else tree)[0]["Plan"]))
    whole = [each for each in map(_postgresql_access, nodes) if each is not None]
    return _Plan(lines, whole, any("Sort" in str(node["Node Type"]) for node in nodes))


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for each in node.get("Plans", ()):
        yield from _nodes(each)


def _postgresql_access(node: Mapping[str, Any]) -> _Access | None:
    kind, found = node["Node Type"], float(node.get("Plan Rows", 0))
    if kind == "Seq Scan":
        return _Access(node["Alias"], "sequential scan", None)
    walks = kind in ("Index Scan", "Index Only Scan") and "Index Cond" not in node
    if walks and "Filter" in node:
        return _Access(node["Alias"], f"walk along the whole index {node['Index Name']}", found)
    return None


def _sqlite(connection: Connection, statement: Select[Any], values: Mapping[str, Any]) -> _Plan:
    rows = _rows(connection, "EXPLAIN QUERY PLAN ", statement, values)
    lines = [str(row["detail"]) for row in rows]
    partial = {
        row[0]
        for row in connection.exec_driver_sql(
            "SELECT i.name FROM sqlite_master t, pragma_index_list(t.name) i WHERE t.type = 'table' AND i.partial"
        )
    }
    whole = [each for line in lines if (each := _sqlite_access(line, partial)) is not None]
    if statement.whereclause is None:  # every row is wanted: to walk in order wastes nothing
        whole = []
    return _Plan(lines, whole, any("TEMP B-TREE FOR ORDER BY" in line for line in lines))


def _sqlite_access(line: str, partial: set[str]) -> _Access | None:
    built = _BUILT.match(line)
    if built is not None:
        return _Access(built[1], "sequential scan, for an index that lasts for one statement,")
    found = _SCANNED.match(line)
    if found is None or found[2] in partial:
        return None
    how = "sequential scan" if found[2] is None else f"walk along the whole index {found[2]}"
    return _Access(found[1], how)


def _mysql(connection: Connection, statement: Select[Any], values: Mapping[str, Any]) -> _Plan:
    lines: list[str] = []
    whole: list[_Access] = []
    for row in _rows(connection, "EXPLAIN ", statement, values):
        text = row["Extra"] or ""
        line = (
            f"{row['table']}: {row['type']}, key {row['key'] or 'none'}, {row['rows']} rows. {text}"
        )
        lines.append(line.rstrip())
        if row["type"] in ("ALL", "index") and "Using where" in text:
            full = row["type"] == "ALL"
            how = "sequential scan" if full else f"walk along the whole index {row['key']}"
            whole.append(_Access(str(row["table"]), how))
    return _Plan(lines, whole, any("Using filesort" in line for line in lines))


# --- how big ------------------------------------------------------------------------------------


def _big(
    connection: Connection, statement: Select[Any], whole: Sequence[_Access], big: int
) -> Iterator[Scan]:
    tables = sources(statement)
    for access in whole:
        source = tables.get(access.name.strip('`"'))
        if source is None:
            continue  # a subquery, a function: what it reads has a line of its own
        table = base(source)
        counted = select(literal_column("1")).select_from(table).limit(big + 1).subquery()
        rows = int(connection.execute(select(func.count()).select_from(counted)).scalar_one())
        wasteful = access.found is None or access.found < _SELECTIVE * rows
        if rows > big and wasteful:
            yield Scan(table.fullname, access.how, rows, source)


def sources(statement: Select[Any]) -> dict[str, FromClause]:
    """Return the tables and aliases that a statement reads, by the names that a plan has for them."""
    found: dict[str, FromClause] = {}
    for each in visitors.iterate(statement):
        if isinstance(each, Table) or (isinstance(each, Alias) and isinstance(each.element, Table)):
            found.setdefault(str(each.name), each)
    return found


def base(source: FromClause) -> Table:
    """Return the table behind an alias."""
    found: Any = source.element if isinstance(source, Alias) else source
    table: Table = found
    return table
