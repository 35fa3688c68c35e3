from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    REAL,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Engine,
    Enum,
    Float,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Uuid,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import SQLAlchemyError

from qik_core import Job
from reconciler import Reconciler, derive, sql
from reconciler.definition import Definition
from reconciler.errors import ReconcilerError
from reconciler.question import Question
from tests.reconciler.shop import Item, Member, change, fill, items

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


MICROSECONDS = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
TEXT = String(40).with_variant(mysql.VARCHAR(40, charset="utf8mb4"), "mysql", "mariadb")
AWARE = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
KEYS: dict[str, tuple[Any, Callable[[int], Any]]] = {
    "int": (Integer(), lambda n: n + 1),
    "bigint": (BigInteger(), lambda n: 2**62 + n),
    "text": (TEXT, lambda n: f"{'a Ä/%:😀'[n % 7]}{n:02d} '\""),
    "char": (CHAR(20), lambda n: f"name {n}"),
    "uuid": (Uuid(), lambda n: uuid.uuid5(uuid.NAMESPACE_DNS, str(n))),
    "decimal": (Numeric(20, 6), lambda n: Decimal(n - 30) / 1_000),
    "double": (Double(), lambda n: n / 7),
    "datetime": (MICROSECONDS, lambda n: NOON.replace(tzinfo=None) + timedelta(microseconds=n)),
    "aware": (AWARE, lambda n: NOON + timedelta(microseconds=n)),
    "date": (Date(), lambda n: date(2026, 1, 1) + timedelta(days=n)),
    "enum": (Enum(Colour), lambda n: list(Colour)[n % 3]),
    "bool": (Boolean(), lambda n: n % 2 == 1),
}


def keyed(kind: Any) -> tuple[Table, Definition]:
    """Define a table with a key of this type, and a reconciler of its open rows."""
    table = Table(
        "thing",
        MetaData(),
        Column("id", kind, primary_key=True, autoincrement=False),
        Column("open", Boolean, nullable=False),
    )

    class Touch(Job, unique_for=60):
        def perform(self, id: Any) -> None: ...  # noqa: A002 - the column's name

    class Things(Reconciler, every=60):
        pending = derive(Touch, select(table.c.id).where(table.c.open))

    return table, Things.definition


def ask(definition: Definition, engine: Engine, *keys: tuple[Any, ...]) -> list[bool | None]:
    reading = partial(sql.reading, engine, 5.0)
    return Question(definition.shape, engine.dialect.name).pending(reading, keys)


@pytest.mark.parametrize("kind", KEYS)
def test_the_row_of_a_key_of_any_type_is_found_as_it_is_written_and_as_it_is_read(
    home: Engine, kind: str
) -> None:
    type_, value = KEYS[kind]
    table, definition = keyed(type_)
    table.metadata.create_all(home)
    written = list(dict.fromkeys(value(number) for number in range(12)))
    with home.begin() as connection:
        rows = [{"id": each, "open": at % 3 > 0} for at, each in enumerate(written)]
        connection.execute(insert(table), rows)
        read = {row.id: row.open for row in connection.execute(select(table.c.id, table.c.open))}

    assert ask(definition, home, *((each["id"],) for each in rows)) == [r["open"] for r in rows]
    assert ask(definition, home, *((each,) for each in read)) == list(read.values())


def test_a_chunk_is_one_statement_and_many_chunks_are_many(home: Engine) -> None:
    fill(home, range(1, 1102))
    change(home, *range(1, 1102, 3), state="done")
    definition = items(select(Item.id).where(Item.state == "pending"))
    wanted = list(range(1200, 0, -1))

    found = ask(definition, home, *((each,) for each in wanted))

    assert found == [each <= 1101 and each % 3 != 1 for each in wanted]


def test_keys_of_two_columns_are_found_whatever_their_order(home: Engine) -> None:
    with home.begin() as connection:
        rows = [
            {"org_id": org, "user_id": user, "email": f"{org}-{user}", "token": uuid.uuid4()}
            for org in range(1, 6)
            for user in range(1, 6)
        ]
        connection.execute(insert(Member), rows)

    class Greet(Job, unique_for=60):
        def perform(self, user: int, org: int) -> None: ...

    class Members(Reconciler, every=60):
        pending = derive(
            Greet,
            select(Member.org_id, Member.user_id).where(Member.user_id != 3),
            args=lambda row: (row.user_id, row.org_id),
        )

    keys = [(org, user) for org in range(7) for user in range(7)]

    found = ask(Members.definition, home, *keys)

    assert found == [1 <= org <= 5 and 1 <= user <= 5 and user != 3 for org, user in keys]


FOLDED = String(20).with_variant(
    String(20, collation="NOCASE"), "sqlite"
)  # the MariaDB of the tests compares without case by itself


@pytest.mark.parametrize("database_url", ["sqlite", "mariadb"], indirect=True)
def test_where_the_database_takes_a_for_capital_a_the_row_of_either_is_found(home: Engine) -> None:
    table, definition = keyed(FOLDED)
    table.metadata.create_all(home)
    with home.begin() as connection:
        rows = [{"id": "Ann", "open": True}, {"id": "bob", "open": False}]
        connection.execute(insert(table), rows)

    assert ask(definition, home, ("ANN",), ("Ann",), ("Bob",), ("eve",)) == [
        True,
        True,
        False,
        False,
    ]


UNSENT: dict[str, list[Any]] = {
    "sqlite": [2**70],
    "postgresql": ["\0"],
    "mariadb": ["\N{GRINNING FACE}"],
}


def test_a_value_that_the_database_cannot_take_leaves_the_other_keys_their_answers(
    home: Engine,
) -> None:
    kind: Any = Integer() if home.dialect.name == "sqlite" else String(20)
    table, definition = keyed(kind)
    table.metadata.create_all(home)
    value = (lambda n: n) if home.dialect.name == "sqlite" else (lambda n: f"n{n}")
    with home.begin() as connection:
        rows = [{"id": value(n), "open": n % 2 == 1} for n in range(9)]
        connection.execute(insert(table), rows)
    keys = [(row["id"],) for row in rows]
    for bad in UNSENT[home.dialect.name]:
        keys.insert(4, (bad,))

    found = ask(definition, home, *keys)

    assert found[4] is None
    assert found[:4] + found[5:] == [row["open"] for row in rows]


def test_a_statement_that_cannot_work_is_an_error(home: Engine) -> None:
    _, definition = keyed(Integer())

    with pytest.raises(SQLAlchemyError):
        ask(definition, home, (1,), (2,))


def test_grouped_rows_are_found_by_their_key(home: Engine) -> None:
    for rank in (1, 2, 3):
        fill(home, range(rank * 10, rank * 10 + rank), rank=rank)

    class Rank(Job, unique_for=60):
        def perform(self, rank: int) -> None: ...

    class Ranks(Reconciler, every=60):
        pending = derive(
            Rank, select(Item.rank).group_by(Item.rank).having(func.count() > 1), key=Item.rank
        )

    assert ask(Ranks.definition, home, (1,), (2,), (3,), (4,)) == [False, True, True, False]


@pytest.mark.parametrize("late", ["run", "skip"])
def test_a_row_that_was_moved_to_later_wants_its_job_then(home: Engine, late: str) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    for key, seconds in {1: -3600, 2: -60, 3: 2, 4: 3600}.items():
        fill(home, [key], since=now + timedelta(seconds=seconds))
    fill(home, [5], since=None)
    options: dict[str, Any] = {"late": "skip", "grace": timedelta(minutes=10)}

    class Remind(Job, unique_for=60):
        def perform(self, item: int) -> None: ...

    class Reminders(Reconciler, every=60):
        pending = derive(
            Remind, select(Item.id), run_at=Item.since, **(options if late == "skip" else {})
        )

    found = ask(Reminders.definition, home, *((each,) for each in range(1, 6)))

    assert found == [late == "run", True, True, False, True]


@pytest.mark.parametrize("database_url", ["postgres", "mariadb"], indirect=True)
def test_a_key_that_is_not_equal_to_itself_is_refused(home: Engine) -> None:
    short = REAL() if home.dialect.name == "postgresql" else Float()
    table, definition = keyed(short)
    table.metadata.create_all(home)

    with pytest.raises(ReconcilerError, match="id is a FLOAT of 4 bytes"):
        ask(definition, home, (0.1,))
