from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, exists, func, insert, or_, select
from sqlalchemy.orm import aliased

from qik_core import Job
from reconciler import Reconciler, derive
from reconciler.clauses import Unmatched, unmatched
from reconciler.sql import reading
from tests.reconciler.shop import Item, Member, fill, items

TOKEN = "12345678123456781234567812345678"


@pytest.fixture
def shop(home: Engine) -> Engine:
    fill(home, [1], state="done", rank=5)
    fill(home, [2], state="pending", rank=1)
    with home.begin() as connection:
        from uuid import UUID

        connection.execute(
            insert(Member).values(org_id=1, user_id=1, email="a@b", token=UUID(TOKEN), item_id=1)
        )
    return home


def ask(shop: Engine, query: Any, *key: Any, **columns: Any) -> Unmatched:
    definition = items(query, **columns)
    with reading(shop, 5.0) as connection:
        return unmatched(connection, definition.shape, key)


def test_only_the_conditions_that_fail_are_named_with_what_the_row_has(shop: Engine) -> None:
    query = select(Item.id).where(Item.state == "pending", Item.rank > 3, Item.note.is_(None))

    seen = ask(shop, query, 1)

    assert seen.exists
    assert seen.failing == ("item.state = 'pending'",)
    assert seen.values == {"state": "done"}


def test_an_alternative_is_one_condition_and_null_is_no_yes(shop: Engine) -> None:
    query = select(Item.id).where(or_(Item.state == "x", Item.note == "y"), Item.version == 1)

    seen = ask(shop, query, 1)

    assert len(seen.failing) == 1
    assert " OR " in seen.failing[0]
    assert seen.values == {"state": "done", "note": None}


def test_a_row_that_is_not_there_is_told_from_one_that_does_not_match(shop: Engine) -> None:
    assert ask(shop, select(Item.id).where(Item.state == "x"), 9) == Unmatched(exists=False)


def test_a_join_that_leaves_the_row_out_is_named(shop: Engine) -> None:
    query = select(Item.id).join(Member, Member.item_id == Item.id).where(Item.state == "pending")

    seen = ask(shop, query, 2)

    assert seen.exists
    assert seen.failing == ("JOIN ON member.item_id = item.id",)


def test_a_condition_on_a_joined_table_is_asked_there(shop: Engine) -> None:
    query = select(Item.id).join(Member, Member.item_id == Item.id).where(Member.email == "c@d")

    seen = ask(shop, query, 1)

    assert seen.failing == ("member.email = 'c@d'",)
    assert seen.values == {"email": "a@b"}


def test_a_subquery_is_asked_for_the_row_that_is_meant(shop: Engine) -> None:
    there = exists().where(Member.item_id == Item.id)

    assert ask(shop, select(Item.id).where(there, Item.rank > 9), 1).failing == ("item.rank > 9",)
    assert len(ask(shop, select(Item.id).where(there), 2).failing) == 1


def test_an_alias_is_asked_as_itself(shop: Engine) -> None:
    other = aliased(Item)
    query = select(Item.id).where(Item.rank < select(func.max(other.rank)).scalar_subquery())

    seen = ask(shop, query, 1)

    assert len(seen.failing) == 1
    assert seen.values["rank"] == 5


def test_a_condition_on_groups_is_named_where_none_on_rows_fails(shop: Engine) -> None:
    query = (
        select(Item.id)
        .join(Member, Member.item_id == Item.id)
        .where(Item.state == "done")
        .group_by(Item.id)
        .having(func.count() > 1)
    )

    seen = ask(shop, query, 1)

    assert seen.exists
    assert seen.failing == ("HAVING count(*) > 1",)


def test_the_row_is_read_all_the_same_so_that_its_lock_can_be_looked_for(shop: Engine) -> None:
    class Meet(Job, unique_for=60, unique_args=["org_id", "user_id"]):
        def perform(self, org_id: int, user_id: int, email: str) -> None: ...

    class Members(Reconciler, every=60):
        pending = derive(
            Meet, select(Member.org_id, Member.user_id, Member.email).where(Member.email == "x")
        )

    with reading(shop, 5.0) as connection:
        seen = unmatched(connection, Members.definition.shape, (1, 1))

    assert seen.row is not None
    assert tuple(seen.row[:3]) == (1, 1, "a@b")
