from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from qik_core import Job, registry
from reconciler import Reconciler, Shards, derive
from reconciler.inverse import Inverse, inverse
from tests.reconciler.shop import Item, Member


class Kind(enum.Enum):
    DAILY = "daily"
    WEEKLY = "weekly"


def inverse_of(
    job: Any, query: Any, args: Callable[[Any], Any] | None = None, **options: Any
) -> Inverse | None:
    class Made(Reconciler, every=60, **options):
        pending = derive(job, query, args=args)

    made = Made.definition
    return inverse(made.shape, made.facts, sharded=made.shards is not None)


def known(found: Inverse | None) -> Inverse:
    assert found is not None
    return found


with registry.scope():

    class Report(Job, unique_for=60):
        def perform(self, kind: Kind, item_id: int, note: str = "") -> None: ...

    class Greet(Job, unique_for=60):
        def perform(self, user: int, org: int) -> None: ...


def test_columns_that_are_the_arguments_are_found_in_their_order() -> None:
    found = known(inverse_of(Greet, select(Member.org_id, Member.user_id)))

    assert found.key_of((7, 8)) == (7, 8)


def test_a_key_is_found_wherever_args_puts_its_columns() -> None:
    query = select(Member.org_id, Member.email, Member.user_id)

    found = known(inverse_of(Greet, query, lambda row: (row.user_id, row.org_id)))

    assert found.key_of((7, 8)) == (8, 7)


def test_arguments_that_do_not_make_a_job_unique_say_nothing() -> None:
    class Charge(Job, unique_for=60, unique_args=["item_id"]):
        def perform(self, amount: int, item_id: int) -> None: ...

    query = select(Item.id, Item.rank)

    found = known(inverse_of(Charge, query, lambda row: (row.rank, row.id)))

    assert found.key_of((500, 3)) == found.key_of((600, 3)) == (3,)


def test_a_job_with_another_constant_is_none_of_this_reconciler() -> None:
    found = known(inverse_of(Report, select(Item.id), lambda row: (Kind.DAILY, row.id)))

    assert found.key_of((Kind.DAILY, 3, "")) == (3,)
    assert found.key_of((Kind.WEEKLY, 3, "")) is None


def test_a_flag_is_no_number() -> None:
    class Touch(Job, unique_for=60):
        def perform(self, item_id: int, full: Any) -> None: ...

    found = known(inverse_of(Touch, select(Item.id), lambda row: (row.id, True)))

    assert found.key_of((3, True)) == (3,)
    assert found.key_of((3, 1)) is None


def test_a_key_that_stands_in_two_arguments_must_be_the_same_in_both() -> None:
    found = known(inverse_of(Greet, select(Item.id), lambda row: (row.id, row.id)))

    assert found.key_of((7, 7)) == (7,)
    assert found.key_of((7, 8)) is None


def test_the_shard_is_no_part_of_the_key() -> None:
    class Sync(Job, unique_for=60):
        def perform(self, shard: str, item_id: int) -> None: ...

    shards = Shards(lambda: {"eu": "sqlite://"})

    plain = known(inverse_of(Sync, select(Item.id), shards=shards))
    made = known(inverse_of(Sync, select(Item.id), lambda row: (row.id,), shards=shards))

    assert plain.key_of(("eu", 7)) == made.key_of(("eu", 7)) == (7,)


@pytest.mark.parametrize(
    "args",
    [
        lambda row: (Kind.DAILY, int(row.id), ""),
        lambda row: (Kind.DAILY, row.id + 1, ""),
        lambda row: (Kind.DAILY, row.id, [row.rank]),
        lambda row: [Kind.DAILY, row.id, ""],
    ],
    ids=["converted", "computed", "hidden", "no-tuple"],
)
def test_nothing_is_known_of_a_key_that_args_looks_into(args: Callable[[Any], Any]) -> None:
    assert inverse_of(Report, select(Item.id, Item.rank), args) is None


@pytest.mark.parametrize(
    "note",
    [
        lambda row: row.note or "",
        lambda row: f"{row.rank:>5}",
        lambda row: "hot" if row.rank > 3 and row.note != "cold" else "cold",
        lambda row: ", ".join(str(each) for each in row.note),
        lambda row: str(row.rank * 2 + len(row.note) - int(row.rank) // 3),
        lambda row: {"a": 1, "b": 2}.get(row.note, row.note.strip().lower()[:3]),
    ],
    ids=["or", "format", "if", "iter", "computed", "looked-up"],
)
def test_what_args_does_with_columns_that_are_no_key_does_not_matter(
    note: Callable[[Any], Any],
) -> None:
    class Work(Job, unique_for=60, unique_args=["item_id"]):
        def perform(self, item_id: int, note: str) -> None: ...

    query = select(Item.id, Item.note, Item.rank)

    found = known(inverse_of(Work, query, lambda row: (row.id, note(row))))

    assert found == Inverse(key=(0,), fixed=(), twins=())


@pytest.mark.parametrize(
    "args",
    [
        lambda row: (row.user_id, row.org_id) if row.email else (row.org_id, row.user_id),
        lambda row: (row.user_id, row.org_id if row.email.endswith("x") else 0),
        lambda row: (row.user_id, int(row.email)),
    ],
    ids=["either", "sometimes", "number"],
)
def test_a_key_that_is_not_always_there_is_not_found(args: Callable[[Any], Any]) -> None:
    assert inverse_of(Greet, select(Member.org_id, Member.user_id, Member.email), args) is None
