from __future__ import annotations

import pytest
from sqlalchemy import select

from qik_core import Job
from qik_core.errors import DefinitionError
from reconciler import Reconciler, Shards, derive, derive_sharded
from tests.reconciler.sharded import PENDING, sharded
from tests.reconciler.shop import Item, Member

SHARDS = Shards(lambda: {"eu1": "sqlite://"})


def test_a_pass_fills_the_shard_in_before_the_columns() -> None:
    part = sharded(dict).in_shard("eu1")

    assert (part.unit, part.arguments([(1,), (2,)])) == ("Items/eu1", [("eu1", 1), ("eu1", 2)])


def test_args_makes_what_comes_behind_the_shard() -> None:
    class Swap(Job, unique_for=60, unique_args=["shard", "user_id", "org_id"]):
        def perform(self, shard: str, user_id: int, org_id: int) -> None: ...

    class Swaps(Reconciler, every=60, shards=SHARDS):
        pending = derive_sharded(
            Swap, select(Member.org_id, Member.user_id), args=lambda row: (row[1], row[0])
        )

    part = Swaps.definition.in_shard("us1")
    assert part.shape.proven
    assert part.arguments([(1, 2)]) == [("us1", 2, 1)]


def test_the_same_id_in_two_shards_has_two_locks() -> None:
    definition = sharded(dict)
    one, two = (
        definition.job.definition.digests(definition.in_shard(shard).arguments([(7,)]))
        for shard in ("eu1", "us1")
    )

    assert one != two


def test_a_job_that_takes_no_shard_first_is_refused() -> None:
    class Plain(Job, unique_for=60):
        def perform(self, item_id: int, shard: str = "") -> None: ...

    with pytest.raises(
        DefinitionError,
        match=r"Plains \[shard-first\]: .*does not begin with the shard\. Write def perform\(self, shard: str",
    ):

        class Plains(Reconciler, every=60, shards=SHARDS):
            pending = derive(Plain, select(Item.id, Item.state))


def test_a_shard_that_is_no_text_is_refused() -> None:
    class Number(Job, unique_for=60):
        def perform(self, shard: int, item_id: int) -> None: ...

    with pytest.raises(DefinitionError, match=r"\[shard-first\]"):

        class Numbers(Reconciler, every=60, shards=SHARDS):
            pending = derive_sharded(Number, PENDING)  # type: ignore[arg-type]


def test_a_lock_that_leaves_the_shard_out_is_refused() -> None:
    class Blind(Job, unique_for=60, unique_args=["item_id"]):
        def perform(self, shard: str, item_id: int) -> None: ...

    with pytest.raises(
        DefinitionError, match=r"one row lost. Write unique_args=\['shard', 'item_id'\] on the job"
    ):

        class Blinds(Reconciler, every=60, shards=SHARDS):
            pending = derive_sharded(Blind, PENDING)


def test_columns_are_checked_against_what_comes_behind_the_shard() -> None:
    class Pair(Job, unique_for=60):
        def perform(self, shard: str, item_id: int, state: int) -> None: ...

    with pytest.raises(DefinitionError, match=r"\[columns-fit\]: column state .* state takes int"):

        class Pairs(Reconciler, every=60, shards=SHARDS):
            pending = derive_sharded(Pair, select(Item.id, Item.state))  # type: ignore[arg-type, var-annotated]


def test_a_database_beside_shards_is_refused() -> None:
    with pytest.raises(DefinitionError, match="both database= and shards= are given"):
        sharded(dict, database="billing")
