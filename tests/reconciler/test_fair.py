from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, select

from qik_core import Job
from qik_core.errors import DefinitionError
from reconciler import Fair, Reconciler, derive
from reconciler.definition import Definition
from reconciler.fair import PAGES, Ahead, Shares
from reconciler.source import Source, read_position, write_position
from reconciler.sql import read_clock
from tests.reconciler.shop import Item, fill, items

PENDING = select(Item.id).where(Item.state == "pending")
Row = tuple[int, ...]


@pytest.fixture
def home(engine: Engine) -> Engine:
    """A database with the shop's tables; no pass runs here, so it needs none of ours."""
    return engine


def of_tenants(engine: Engine, **counts: int) -> dict[int, str]:
    """Insert so many items for each tenant, tenant after tenant; returns whose each is."""
    owners: dict[int, str] = {}
    for tenant, count in counts.items():
        first = len(owners) + 1
        fill(engine, range(first, first + count), note=tenant)
        owners.update(dict.fromkeys(range(first, first + count), tenant))
    return owners


def fair(per_tenant: int, query: Any = PENDING, **columns: Any) -> Definition:
    return items(query, tenant=Item.note, fair=Fair(per_tenant=per_tenant), **columns)


def read_all(definition: Definition, engine: Engine, size: int = 7, held: int = 0) -> list[int]:
    """Return the keys of all rows that a pass reads, page by page."""
    source = Source(definition, engine, read_clock(engine), held)
    keys: list[int] = []
    after = None
    while True:
        page = source.read(after, size)
        keys += [args[0] for args in definition.shape.arguments(page)]
        if len(page) < size:
            return keys
        after = source.position(page[-1])


def test_every_tenant_has_its_first_row_told_before_anybody_its_second(home: Engine) -> None:
    owners = of_tenants(home, flood=100, b=3, c=1)

    keys = read_all(fair(4), home)

    assert [owners[each] for each in keys] == [
        *("flood", "b", "c"),
        *("flood", "b"),
        *("flood", "b"),
        "flood",
    ]
    assert keys == [1, 101, 104, 2, 102, 3, 103, 4]


@pytest.mark.parametrize("size", [1, 3, 10, 50])
def test_pages_of_any_size_hold_the_same_rows_once(home: Engine, size: int) -> None:
    of_tenants(home, **{f"t{each}": each for each in range(1, 9)})

    keys = read_all(fair(5), home, size)

    assert len(keys) == len(set(keys)) == sum(min(each, 5) for each in range(1, 9))


def test_within_a_tenant_the_declared_order_holds(home: Engine) -> None:
    fill(home, [1, 2], note="a", rank=1)
    fill(home, [3], note="a", rank=9)
    fill(home, [4, 5], note="b", rank=5)

    assert read_all(fair(2, order_by=Item.rank.desc()), home, 2) == [3, 4, 5, 1]


def test_rows_without_a_tenant_share_as_one_tenant(home: Engine) -> None:
    fill(home, [1, 2, 3], note=None)
    fill(home, [4, 5, 6], note="a")

    assert sorted(read_all(fair(2), home)) == [1, 2, 4, 5]


def test_rows_that_are_held_back_take_nobodys_share(home: Engine) -> None:
    of_tenants(home, a=6, b=2)
    definition = fair(2)
    source = Source(definition, home, read_clock(home), held=3)
    held = {1, 2, 3}

    rows = [row for row in source.read(None, 100) if row[0] not in held]
    shares = Shares(definition.shape, Fair(per_tenant=2))
    told = [rows[at][0] for at in shares.admit(rows)]

    assert sorted(told) == [4, 5, 7, 8]
    assert shares.admit(rows) == []


def test_late_rows_that_are_not_told_come_last_within_their_tenant(home: Engine) -> None:
    now = read_clock(home)
    fill(
        home,
        [1, 2, 3],
        note="a",
        since=datetime.fromtimestamp(now - 9_000, UTC).replace(tzinfo=None),
    )
    fill(home, [4, 5], note="a", since=datetime.fromtimestamp(now - 9, UTC).replace(tzinfo=None))

    assert read_all(fair(2, run_at=Item.since, late="skip"), home) == [4, 5]
    assert read_all(fair(2, run_at=Item.since), home) == [1, 2]


def test_a_query_with_distinct_is_ranked_by_its_own_rows(home: Engine) -> None:
    of_tenants(home, a=5, b=5)
    distinct = select(Item.id, Item.note).distinct()

    assert read_all(fair(2, distinct, args=lambda row: (row.id,)), home) == [1, 6, 2, 7]


def test_arguments_are_those_of_the_application_whatever_is_added(home: Engine) -> None:
    of_tenants(home, a=2)
    seen: list[Any] = []

    def args(row: Any) -> tuple[int]:
        seen.append(row)
        return (row.id,)

    assert read_all(fair(2, select(Item.id, Item.note), args=args), home) == [1, 2]
    assert [tuple(each) for each in seen if isinstance(each[0], int)] == [(1, "a"), (2, "a")]


def test_a_position_among_tenants_survives_the_ledger(home: Engine) -> None:
    of_tenants(home, a=9, b=9)
    definition = fair(9)
    source = Source(definition, home, read_clock(home))
    last = source.position(source.read(None, 7)[-1])

    again = Source(definition, home, read_clock(home))
    rest = again.read(read_position(write_position(last) or ""), 100)

    assert len(rest) == 11


def test_one_statement_reads_several_pages(home: Engine) -> None:
    of_tenants(home, a=60, b=60)
    definition = fair(60)
    source = Source(definition, home, read_clock(home))
    first = source.read(None, 10)
    with home.begin() as connection:
        connection.execute(delete(Item))

    assert len(source.read(source.position(first[-1]), 10)) == 10  # it was read with the first page


class Numbers:
    """A source of the numbers below a limit, which counts its statements."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.asked: Counter[int | None] = Counter()

    def __call__(self, after: tuple[Any, ...] | None, size: int) -> Sequence[Row]:
        first = 0 if after is None else after[0] + 1
        self.asked[None if after is None else after[0]] += 1
        return [(each,) for each in range(first, min(self.limit, first + size))]


@pytest.mark.parametrize("limit", [0, 1, 5, 49, 50, 51, 120])
@pytest.mark.parametrize("size", [1, 5])
def test_pages_read_ahead_are_those_that_would_be_read_one_by_one(limit: int, size: int) -> None:
    ahead, found = Ahead(Numbers(limit)), list[int]()
    after = None
    while page := ahead.page(after, size, lambda row: row):
        found += [row[0] for row in page]
        after = page[-1]

    assert found == list(range(limit))


def test_a_page_that_does_not_follow_the_last_one_is_read_anew() -> None:
    numbers = Numbers(1_000)
    ahead = Ahead(numbers)
    ahead.page(None, 5, lambda row: row)

    assert ahead.page((2,), 3, lambda row: row) == [(3,), (4,), (5,)]
    assert ahead.page(None, 2, lambda row: row) == [(0,), (1,)]
    assert sum(numbers.asked.values()) == 3


def test_a_page_that_grows_is_never_short_while_there_are_more() -> None:
    ahead = Ahead(Numbers(1_000))
    ahead.page(None, 1, lambda row: row)

    assert len(ahead.page((0,), PAGES + 5, lambda row: row)) == PAGES + 5


def test_fair_shares_need_to_know_whose_a_row_is() -> None:
    with pytest.raises(DefinitionError, match=r"\[fair-needs-tenant\].*tenant="):
        items(PENDING, fair=Fair(per_tenant=5))


@pytest.mark.parametrize("tenant", ["note", 5])
def test_a_tenant_is_a_column(tenant: Any) -> None:
    with pytest.raises(DefinitionError, match=r"\[tenant\]: tenant is .*Use one column"):
        items(PENDING, tenant=tenant)


def test_a_share_is_a_whole_number_above_zero() -> None:
    with pytest.raises(DefinitionError, match=r"per_tenant is 0"):
        Fair(per_tenant=0)


def test_a_tenant_alone_changes_nothing_of_what_is_read(home: Engine) -> None:
    of_tenants(home, a=3, b=1)

    class Work(Job, unique_for=60):
        def perform(self, item_id: int) -> None: ...

    class Items(Reconciler, every=60):
        pending = derive(Work, PENDING, tenant=Item.note)

    rows = Source(Items.definition, home, 0.0).read(None, 10)

    assert Items.definition.shape.arguments(rows) == [(1,), (2,), (3,), (4,)]
    at = Items.definition.shape.tenant_at
    assert at is not None
    assert [row[at] for row in rows] == ["a", "a", "a", "b"]


def test_a_flooding_tenant_delays_nobody(home: Engine) -> None:
    with home.begin() as connection:
        rows = [
            {"id": each, "state": "pending", "rank": 0, "version": 1, "note": "flood"}
            for each in range(1, 5_001)
        ]
        connection.execute(insert(Item), rows)
    small = {f"t{each}": 10 for each in range(10)}
    first = 5_001
    for tenant, count in small.items():
        fill(home, range(first, first + count), note=tenant)
        first += count

    keys = read_all(fair(50), home, 100)

    assert len(keys) == 150
    assert sum(1 for each in keys[:110] if each > 5_000) == 100
