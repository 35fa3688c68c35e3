"""EXPLAIN on real databases: what is read whole, whether the advised index ends that, and that nothing is run."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, Numeric, bindparam, cast, func, or_, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import aliased

from reconciler.advice import index_for
from reconciler.definition import Definition
from reconciler.explain import Explained, explain, readable
from reconciler.moments import epoch
from reconciler.source import Source
from tests.reconciler.shop import Item, Member, fill, items

BIG = 2_000
MANY = 3_000
PENDING = select(Item.id).where(Item.state == "pending")


@pytest.fixture
def full(home: Engine) -> Engine:
    """A database whose table of items is long, with few of them pending."""
    fill(home, range(1, MANY), state="done")
    fill(home, range(MANY, MANY + 5))
    analyze(home)
    return home


def analyze(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        word = "ANALYZE TABLE item" if engine.dialect.name in ("mysql", "mariadb") else "ANALYZE"
        connection.exec_driver_sql(word)


def first_page(engine: Engine, definition: Definition) -> Explained:
    statement = Source(definition, engine, 0.0).first
    return explain(engine, statement, {"qik__limit": 1000}, 10.0, big=BIG)


def advised(engine: Engine, definition: Definition) -> str | None:
    (scan,) = first_page(engine, definition).scans
    return index_for(definition.shape, scan.source, engine.dialect)


def create(engine: Engine, ddl: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(ddl)


QUERIES: list[tuple[str, Any, dict[str, Any]]] = [
    ("equality", PENDING, {}),
    ("equality and an order", PENDING, {"order_by": Item.rank}),
    ("equality and a falling order", PENDING, {"order_by": Item.rank.desc()}),
    ("two equalities", PENDING.where(Item.version == 1), {}),
    ("null", select(Item.id).where(Item.state == "pending", Item.note.is_(None)), {}),
]


@pytest.mark.parametrize(
    ("query", "options"), [each[1:] for each in QUERIES], ids=[q[0] for q in QUERIES]
)
def test_a_big_table_read_whole_is_found_and_the_advised_index_ends_it(
    full: Engine, query: Any, options: dict[str, Any]
) -> None:
    definition = items(query, **options)
    before = first_page(full, definition)
    ddl = advised(full, definition)
    assert ddl is not None

    create(full, ddl)
    analyze(full)
    after = first_page(full, definition)

    assert [each.table for each in before.scans] == ["item"]
    assert (after.scans, after.sorts) == ((), False), (ddl, after.plan)


def test_a_small_table_may_be_read_whole(home: Engine) -> None:
    fill(home, range(1, 20))

    assert first_page(home, items(PENDING)).scans == ()


def test_a_table_of_which_all_rows_are_pending_is_walked_in_order(home: Engine) -> None:
    fill(home, range(1, MANY))
    analyze(home)

    assert first_page(home, items(select(Item.id))).scans == ()


def test_postgresql_may_walk_in_order_where_nearly_all_rows_are_pending(full: Engine) -> None:
    if full.dialect.name != "postgresql":
        return  # no other says how many rows it expects
    seen = first_page(full, items(select(Item.id).where(Item.state == "done")))

    assert "Index" in seen.plan[1]
    assert seen.scans == ()


def test_a_partial_index_is_no_scan(full: Engine) -> None:
    if full.dialect.name != "postgresql":
        return  # no other plans one for a value that comes as a parameter
    create(full, "CREATE INDEX ix ON item (id) WHERE state = 'pending'")
    analyze(full)

    assert first_page(full, items(PENDING)).scans == ()


def test_without_an_equality_postgresql_is_advised_a_partial_index(full: Engine) -> None:
    definition = items(select(Item.id).where(or_(Item.state == "pending", Item.rank > 5)))
    (scan,) = first_page(full, definition).scans

    ddl = index_for(definition.shape, scan.source, full.dialect)

    if full.dialect.name != "postgresql":
        assert ddl is None
        return
    assert ddl is not None
    assert "WHERE state = 'pending' OR rank > 5" in ddl
    create(full, ddl)
    assert first_page(full, definition).scans == ()


def test_a_range_that_moves_is_advised_an_index_on_its_column(full: Engine) -> None:
    definition = items(select(Item.id).where(Item.since <= func.current_timestamp()))

    ddl = advised(full, definition)

    assert ddl is not None
    assert "(since, id)" in ddl


def test_an_alias_and_a_join_are_advised_on_their_own_tables(full: Engine) -> None:
    other = aliased(Item)
    query = (
        select(Item.id)
        .join(other, other.version == Item.rank)
        .where(Item.state == "pending", other.state == "pending")
    )
    definition = items(query)

    scans = first_page(full, definition).scans
    ddls = {index_for(definition.shape, each.source, full.dialect) for each in scans}

    assert scans
    assert all(ddl is not None and "item" in ddl and "state" in ddl for ddl in ddls)


def test_a_key_of_several_types_is_compared_as_it_would_really_be_sent(home: Engine) -> None:
    token = UUID(int=7)
    statement = select(Member.user_id).where(Member.token == token, Member.email == "50 %s")

    seen = explain(home, statement, {}, 5.0)

    assert seen.plan
    assert "50 %s" in seen.sql
    assert token.hex in seen.sql.replace("-", "")


def test_a_first_column_of_any_type_is_no_hindrance(home: Engine) -> None:
    for first in (
        cast(Item.rank, Numeric(10, 2)),
        epoch(Item.__table__.c.rank),
        Member.token,
        Item.since,
    ):
        seen = explain(home, select(first), {}, 5.0)

        assert seen.plan


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_explaining_runs_nothing(full: Engine) -> None:
    """A statement that would take for ever is planned all the same."""
    slow = select(Item.id).where(func.pg_sleep(Item.id).is_not(None))

    assert explain(full, slow, {}, 2.0).plan


@pytest.mark.parametrize("kind", [postgresql, sqlite, mysql])
def test_sql_to_read_never_fails(kind: Any) -> None:
    dialect = kind.dialect()
    item = Item.__table__
    statement = select(item.c.id).where(
        item.c.state == "50 %", item.c.rank == Decimal(1), item.c.id == bindparam("wanted")
    )
    odd = select(item.c.id).where(item.c.note == bindparam("x", object()))

    assert "'50 %'" in readable(statement, dialect, {})
    assert ":wanted" in readable(statement, dialect, {})
    assert "= 5" in readable(statement, dialect, {"wanted": 5})
    assert "item" in readable(odd, dialect, {})
