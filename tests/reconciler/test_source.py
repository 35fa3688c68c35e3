from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import REAL, Column, Engine, Float, Integer, MetaData, Table, func, insert, select

from qik_core import Job, registry
from qik_core.errors import DefinitionError
from reconciler import Reconciler, derive
from reconciler import registry as reconcilers
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.source import Source, behind, read_position, write_position
from reconciler.sql import read_clock
from tests.reconciler.shop import Item, Member, change, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


def read_all(definition: Definition, engine: Engine, size: int = 7) -> list[Any]:
    source = Source(definition, engine, read_clock(engine))
    rows: list[Any] = []
    page: Sequence[Any] = source.read(None, size)
    while True:
        rows += page
        if len(page) < size:
            return [tuple(row[: definition.shape.width]) for row in rows]
        page = source.read(source.position(page[-1]), size)


def test_pages_hold_every_pending_row_once_in_the_order_of_the_key(home: Engine) -> None:
    fill(home, range(1, 51))
    change(home, 10, 20, state="done")

    rows = read_all(items(PENDING), home)

    assert rows == [(each,) for each in range(1, 51) if each not in (10, 20)]


@pytest.mark.parametrize(
    "order_by",
    [
        (Item.rank,),
        (Item.rank.desc(),),
        (Item.rank.desc(), Item.id.desc()),
        (Item.rank, Item.version.desc()),
        (func.coalesce(Item.note, "z"), Item.rank.desc()),
    ],
    ids=["ascending", "descending", "all-descending", "mixed", "coalesced"],
)
def test_any_order_loses_and_repeats_nothing(home: Engine, order_by: Any) -> None:
    for rank in range(4):
        fill(home, range(rank * 20 + 1, rank * 20 + 21), rank=rank % 3, version=rank % 2)
    change(home, *range(1, 60, 7), note="a")
    definition = items(PENDING, order_by=order_by)

    rows = read_all(definition, home)

    with home.connect() as connection:
        columns = [
            each.column.desc() if each.descending else each.column
            for each in definition.shape.order
        ]
        expected = [row[0] for row in connection.execute(PENDING.order_by(*columns))]
    assert [row[0] for row in rows] == expected
    assert len(set(expected)) == 80


def test_keys_of_two_columns_are_paged_through(home: Engine) -> None:
    members = [(org, user) for org in range(5) for user in range(5)]
    with home.begin() as connection:
        connection.execute(
            insert(Member),
            [
                {"org_id": org, "user_id": user, "email": f"{org}.{user}", "token": uuid.uuid4()}
                for org, user in members
            ],
        )

    class Greet(Job, unique_for=60):
        def perform(self, org_id: int, user_id: int) -> None: ...

    class Members(Reconciler, every=60):
        pending = derive(Greet, select(Member.org_id, Member.user_id))

    assert read_all(Members.definition, home, 4) == members


def test_rows_that_are_added_behind_the_position_are_met_in_the_same_pass(home: Engine) -> None:
    fill(home, range(1, 6))
    source = Source(items(PENDING), home, 0.0)
    first = source.read(None, 3)

    fill(home, [100])

    assert [row[0] for row in source.read(source.position(first[-1]), 10)] == [4, 5, 100]


def test_one_direction_is_compared_as_a_row_value_where_that_uses_an_index() -> None:
    same = items(PENDING, order_by=Item.rank).shape.order
    mixed = items(PENDING, order_by=Item.rank.desc()).shape.order

    assert ") > (" in str(behind(same, "postgresql"))
    assert ") > (" in str(behind(same, "sqlite"))
    assert " OR " in str(behind(same, "mysql"))
    assert " OR " in str(behind(mixed, "postgresql"))


def test_rows_younger_than_min_age_are_left_to_their_own_push(home: Engine) -> None:
    now = datetime.fromtimestamp(read_clock(home), UTC).replace(tzinfo=None)
    fill(home, [1], since=now - timedelta(seconds=5))
    fill(home, [2], since=now - timedelta(seconds=60))
    fill(home, [3], since=None)
    fill(home, [4], since=now + timedelta(hours=1))

    rows = read_all(items(PENDING, age=Item.since, min_age=30), home)

    assert rows == [(2,), (3,), (4,)]


def test_without_min_age_every_row_is_old_enough(home: Engine) -> None:
    fill(home, [1], since=datetime.fromtimestamp(read_clock(home), UTC).replace(tzinfo=None))

    assert read_all(items(PENDING, age=Item.since, min_age=0), home) == [(1,)]


VALUES = st.one_of(
    st.integers(),
    st.text(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.dates(),
    st.binary(),
)


@given(st.lists(VALUES, min_size=1).map(tuple))
def test_a_position_survives_the_ledger(position: tuple[Any, ...]) -> None:
    text = write_position(position)

    assert text is not None
    found = read_position(text)
    assert found == position
    assert [type(each) for each in found or ()] == [type(each) for each in position]


def test_a_position_of_another_type_is_not_kept() -> None:
    assert write_position((object(),)) is None
    assert write_position((None,)) is None


@pytest.mark.parametrize("text", ["", "5", "{", '[{"eval": "1"}]', '[{"UUID": "x"}]', "[{}]"])
def test_a_damaged_position_is_no_position(text: str) -> None:
    assert read_position(text) is None


def test_types_with_a_written_form_come_back_as_themselves() -> None:
    position = (uuid.UUID(int=7), Decimal("1.10"), date(2026, 1, 2), b"\x00\xff")

    assert read_position(write_position(position) or "") == position


def test_an_order_by_a_float_of_four_bytes_is_refused_by_postgresql_too(postgres_url: str) -> None:
    engine = Engines({"default": postgres_url}).home()
    table = Table("scored", MetaData(), Column("id", Integer, primary_key=True))
    table.append_column(Column("score", REAL, nullable=False))
    table.append_column(Column("weight", Float, nullable=False))

    with pytest.raises(DefinitionError, match=r"score is a FLOAT of 4 bytes"):
        Source(items(select(table.c.id), order_by=table.c.score), engine, 0.0)
    with registry.scope(), reconcilers.scope():
        Source(items(select(table.c.id), order_by=table.c.weight), engine, 0.0)
    engine.dispose()
