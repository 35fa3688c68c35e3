"""Keys that are hard to carry: a pass and an application's own push of one row must meet in one lock whatever its key is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    MetaData,
    Numeric,
    String,
    Table,
    Uuid,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DataError

from qik_core import Job
from qik_core.strict import decode
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from reconciler.source import Source
from tests.reconciler.shop import Item, fill, items

NAME = String(60).with_variant(
    mysql.VARCHAR(60, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mysql", "mariadb"
)
TEXTS = [
    *("", " ", "a", "A", "a ", " a", "ä", "a\u0308"),
    *("1:2", "1/2", "a|b", '"', "'", "\\", "\\u0000", "%s", "{}", "null", "1", "01", "-1"),
    *("line\nbreak", "tab\t", "\u2028", "\u202eabc", "\N{GRINNING FACE}", "\ufeff", "x" * 60),
]
WHOLE = [-(2**63), -(2**31) - 1, -1, 0, 1, 2**53 + 1, 2**63 - 1]


def run(definition: Definition, tools: Tools) -> Report:
    return Pass(definition, tools, 1, lambda: None).run()


def define(kinds: Sequence[Any], annotations: Sequence[type]) -> tuple[Table, Any, Definition]:
    """Define a table with a key of these types, a job that takes them, and a reconciler of its rows."""
    names = ["one", "two"][: len(kinds)]
    keys = [
        Column(name, kind, primary_key=True, autoincrement=False)
        for name, kind in zip(names, kinds, strict=True)
    ]
    table = Table("hard", MetaData(), *keys)
    performs: dict[int, Callable[..., None]] = {
        1: lambda self, one: None,
        2: lambda self, one, two: None,
    }
    perform = performs[len(names)]
    perform.__annotations__.update(zip(names, annotations, strict=True))
    work: Any = type("Touch", (Job,), {"perform": perform}, queue="work", unique_for=600)

    class Hard(Reconciler, every=60, batch_size=3):
        pending: Any = derive(work, select(*table.c))

    return table, work, Hard.definition


KINDS: dict[str, tuple[list[Any], list[type], list[tuple[Any, ...]]]] = {
    "text": ([NAME], [str], [(each,) for each in TEXTS]),
    "whole": ([BigInteger()], [int], [(each,) for each in WHOLE]),
    "uuid": ([Uuid()], [uuid.UUID], [(uuid.UUID(int=each),) for each in (0, 1, 2**128 - 1)]),
    "decimal": (
        [Numeric(30, 6)],
        [Decimal],
        [(Decimal(each),) for each in ("-0.000001", "0", "1", "1.5", "123456789012345678.25")],
    ),
    "text-and-whole": (
        [NAME, BigInteger()],
        [str, int],
        [(a, b) for a in ("1:2", "1", "") for b in (2, -12)],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("default_client")
def test_a_pass_and_an_applications_push_of_a_row_meet_in_one_lock(
    home: Engine, tools: Tools, raw: Any, kind: str
) -> None:
    types, annotations, keys = KINDS[kind]
    if home.dialect.name == "sqlite" and kind == "decimal":
        keys = keys[:-1]  # its numbers are floats
    table, work, definition = define(types, annotations)
    table.create(home)
    with home.begin() as connection:
        connection.execute(
            insert(table), [dict(zip(table.c.keys(), each, strict=True)) for each in keys]
        )
    for each in keys[::2]:
        work.perform_async(*each)

    first, second = run(definition, tools), run(definition, tools)

    pushed = len(keys[::2])
    assert first.outcome is Outcome.COMPLETED, first.reason
    assert first.codes == {"told": pushed, "enqueued": len(keys) - pushed}
    assert second.codes == {"told": len(keys)}
    jobs = [decode(each)["args"] for each in raw.lrange("queue:work", 0, -1)]
    assert len(jobs) == len({tuple(each) for each in jobs}) == len(keys)


def test_a_text_with_a_nul_is_a_key_like_any_other_where_the_database_takes_it(
    home: Engine, tools: Tools, raw: Any
) -> None:
    table, _, definition = define([NAME], [str])
    table.create(home)
    rows = [{"one": each} for each in ("a", "a\0", "a\0b", "\0")]
    if home.dialect.name == "postgresql":
        with pytest.raises(DataError, match="NUL"), home.begin() as connection:
            connection.execute(insert(table), rows)
        return
    with home.begin() as connection:
        connection.execute(insert(table), rows)

    assert run(definition, tools).codes == {"enqueued": 4}
    found = {decode(each)["args"][0] for each in raw.lrange("queue:work", 0, -1)}
    assert found == {"a", "a\0", "a\0b", "\0"}


def test_a_whole_number_beyond_63_bits_is_a_key_where_the_database_has_it(
    mariadb_engine: Engine,
) -> None:
    table, work, definition = define([mysql.BIGINT(unsigned=True)], [int])
    table.create(mariadb_engine)
    with mariadb_engine.begin() as connection:
        connection.execute(insert(table), [{"one": each} for each in (2**63 - 1, 2**63, 2**64 - 1)])

    rows = Source(definition, mariadb_engine, 0.0).read(None, 10)

    assert [tuple(each) for each in rows] == [(2**63 - 1,), (2**63,), (2**64 - 1,)]
    assert len(set(work.definition.digests(definition.arguments(rows)))) == 3


def test_keys_that_the_database_takes_for_one_are_one_row_and_one_lock(
    mariadb_engine: Engine,
) -> None:
    """`A` and `a` cannot both be in such a column, so what is there is the key; a push of the other is another lock."""
    table, work, _ = define([mysql.VARCHAR(20, collation="utf8mb4_general_ci")], [str])
    table.create(mariadb_engine)
    with mariadb_engine.begin() as connection:
        connection.execute(insert(table), [{"one": "A"}])
        found = connection.execute(select(table.c.one).where(table.c.one == "a ")).scalar_one()

    assert found == "A"
    one, other = work.definition.digests([("A",), ("a",)])
    assert one != other


# --- predicates that are hard to page ------------------------------------------------------------


def test_rows_that_a_join_repeats_are_told_once(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 8), rank=1)
    other = Item.__table__.alias()
    repeated = select(Item.id).join(other, other.c.rank == Item.rank)

    report = run(items(repeated, batch_size=5), tools)

    assert report.outcome is Outcome.COMPLETED
    jobs = [decode(each)["args"] for each in raw.lrange("queue:work", 0, -1)]
    assert sorted(jobs) == [[each] for each in range(1, 8)]


def test_a_predicate_that_answers_by_chance_ends_and_tells_every_row_in_time(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 30))
    dice = {"sqlite": "abs(random()) % 2", "postgresql": "floor(random() * 2)"}
    chance = text(f"{dice.get(home.dialect.name, 'floor(rand() * 2)')} = 1")
    definition = items(select(Item.id).where(chance), batch_size=7)

    for _ in range(100):  # a row is told where it is read and looked at again: one chance in four
        assert run(definition, tools).outcome is Outcome.COMPLETED
        if raw.llen("queue:work") == 29:
            break

    jobs = [decode(each)["args"] for each in raw.lrange("queue:work", 0, -1)]
    assert sorted(jobs) == [[each] for each in range(1, 30)]


def test_a_view_can_be_reconciled(home: Engine, tools: Tools) -> None:
    fill(home, [1, 2, 3])
    with home.begin() as connection:
        connection.execute(text("CREATE VIEW open_item AS SELECT id FROM item WHERE id > 1"))
    view = Table("open_item", MetaData(), Column("id", BigInteger, primary_key=True))

    try:
        assert run(items(select(view.c.id)), tools).codes == {"enqueued": 2}
    finally:
        with home.begin() as connection:
            connection.execute(text("DROP VIEW open_item"))


ARGS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda row: (row[0] + 0, {1}), "1 rows have arguments that cannot travel"),
    (lambda row: [row[0] + 0], ""),
    (lambda row: (row[0] + 0, 1, 2, 3), "1 rows have arguments that cannot travel"),
    (lambda row: None if row[0] + 0 else (), "a NoneType is not the arguments of a job"),
]


def test_what_args_makes_of_a_row_is_looked_at_on_each_page(home: Engine, tools: Tools) -> None:
    fill(home, [1])

    class Two(Job, queue="work", unique_for=60, unique_args=["item_id"]):
        def perform(self, item_id: int, more: Any = None) -> None: ...

    made: Any = derive

    for args, reason in ARGS:

        class Items(Reconciler, every=60):
            pending = made(Two, select(Item.id), args=args)

        report = run(Items.definition, tools)

        assert report.outcome is (Outcome.FAILED if reason else Outcome.COMPLETED), report.reason
        assert reason in report.reason


def test_a_moment_with_a_zone_is_one_key_whatever_zone_it_is_written_in(
    postgres_engine: Engine,
) -> None:
    class Touch(Job, unique_for=60):
        def perform(self, at: datetime) -> None: ...

    moments = [
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime.fromisoformat("2026-03-29T03:00:00+02:00"),
    ]
    with postgres_engine.connect() as connection:
        connection.exec_driver_sql("SET TIME ZONE 'Asia/Tokyo'")
        moments.append(
            connection.execute(
                select(func.timezone("UTC", text("timestamp '2026-03-29 01:00'")))
            ).scalar_one()
        )

    assert len(set(Touch.definition.digests([(each,) for each in moments]))) == 1
