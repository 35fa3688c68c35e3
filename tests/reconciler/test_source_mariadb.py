"""What is particular to MariaDB about keys and pages. Its test server compares names without case and is no friend of UTC."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    DECIMAL,
    REAL,
    TIMESTAMP,
    Column,
    Connection,
    Double,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    cast,
    create_engine,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import mysql

from qik_core import Job
from qik_core.errors import DefinitionError
from qik_core.passes import Passes
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.source import Source
from reconciler.sql import read_clock, reading
from tests.reconciler.shop import Member, items
from tests.reconciler.test_source import read_all


@pytest.fixture
def database_url(mariadb_url: str) -> str:
    return mariadb_url


@pytest.fixture(params=["mariadb", "mysql"])
def either(request: pytest.FixtureRequest, mariadb_url: str) -> Iterator[Engine]:
    """The same server by both of the names that a URL may have for it."""
    engine = create_engine(mariadb_url.replace("mariadb", request.param, 1))
    assert engine.dialect.name == request.param
    yield engine
    engine.dispose()


def keyed(kind: Any, annotation: type) -> tuple[Table, Definition]:
    """Define a table with a key of this type, and a reconciler of its rows."""
    table = Table("thing", MetaData(), Column("id", kind, primary_key=True, autoincrement=False))

    class Touch(Job, unique_for=60):
        def perform(self, id: Any) -> None: ...  # noqa: A002 - the column's name

    Touch.perform.__annotations__["id"] = annotation

    class Things(Reconciler, every=60):
        pending = derive(Touch, select(table.c.id))

    return table, Things.definition


NOON = datetime.fromisoformat("2026-03-29T12:00:00")
LETTERS = "a\xc4:/%\N{GRINNING FACE}\\"
KEYS: dict[str, tuple[Any, type, Callable[[int], Any]]] = {
    "uuid": (Uuid(), uuid.UUID, lambda n: uuid.uuid5(uuid.NAMESPACE_DNS, str(n))),
    "uuid1": (Uuid(), uuid.UUID, lambda n: uuid.UUID(int=n << 96 | (n * 7919) << 40 | n)),
    "decimal": (DECIMAL(20, 6), Decimal, lambda n: Decimal(n - 30) / 1_000_000),
    "datetime": (mysql.DATETIME(fsp=6), datetime, lambda n: NOON + timedelta(microseconds=n)),
    "seconds": (mysql.DATETIME(), datetime, lambda n: NOON + timedelta(seconds=n)),
    "unsigned": (mysql.BIGINT(unsigned=True), int, lambda n: 2**64 - 1 - n),
    "double": (Double(), float, lambda n: n / 7),
    "text": (mysql.VARCHAR(40, charset="utf8mb4"), str, lambda n: LETTERS[n % 7] + f"{n:02d} '\""),
    "bytes": (mysql.VARBINARY(8), bytes, lambda n: bytes([n, 0, 255 - n, 92])),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_any_type_are_paged_through_once(either: Engine, kind: str) -> None:
    type_, annotation, value = KEYS[kind]
    table, definition = keyed(type_, annotation)
    table.metadata.create_all(either)
    values = [value(number) for number in range(60)]
    with either.begin() as connection:
        connection.execute(insert(table), [{"id": each} for each in values])

    found = [row[0] for row in read_all(definition, either, 7)]

    assert sorted(found) == sorted(values)
    assert {type(each) for each in found} == {annotation}


def test_rows_whose_keys_differ_in_case_or_trailing_spaces_are_told_apart_where_the_database_does(
    home: Engine, seam: Passes
) -> None:
    exact, definition = keyed(String(40, collation="utf8mb4_nopad_bin"), str)
    exact.metadata.create_all(home)
    names = ["A", "A ", "a", "a ", "B", "b"]
    with home.begin() as connection:
        connection.execute(insert(exact), [{"id": each} for each in names])

    rows = read_all(definition, home, 1)

    assert [row[0] for row in rows] == sorted(names)
    assert len(set(seam.digests(definition.job, rows))) == len(names)


def test_where_the_database_takes_a_for_capital_a_pages_still_hold_every_row_once(
    home: Engine,
) -> None:
    folded = Table(
        "folded",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String(10), nullable=False),
    )
    folded.metadata.create_all(home)
    names = ["b", "A", "a ", "B", "a", "A "]
    with home.begin() as connection:
        connection.execute(insert(folded), [{"name": each} for each in names])

    class Touch(Job, unique_for=60):
        def perform(self, id: int) -> None: ...  # noqa: A002 - the column's name

    class Folded(Reconciler, every=60):
        pending = derive(Touch, select(folded.c.id), order_by=folded.c.name)

    assert [row[0] for row in read_all(Folded.definition, home, 1)] == [2, 3, 5, 6, 1, 4]


def test_a_next_page_of_a_key_of_two_columns_reads_no_more_rows_than_it_holds(
    home: Engine,
) -> None:
    rows = [
        {"org_id": org, "user_id": user, "email": f"{org}.{user}", "token": uuid.uuid4()}
        for org in range(20)
        for user in range(100)
    ]
    with home.begin() as connection:
        connection.execute(insert(Member), rows)
        connection.execute(text("ANALYZE TABLE member"))

    class Greet(Job, unique_for=60):
        def perform(self, org_id: int, user_id: int) -> None: ...

    class Members(Reconciler, every=60):
        pending = derive(Greet, select(Member.org_id, Member.user_id))

    source = Source(Members.definition, home, 0.0)
    values = {"qik__after_0": 10, "qik__after_1": 50, "qik__limit": 20}
    with reading(home, 5.0) as connection:
        looks = [rows_read(connection), rows_read(connection)]
        assert len(connection.execute(source._next, values).all()) == 20
        looks.append(rows_read(connection))

    first, second, third = looks
    assert third - second - (second - first) < 40


def rows_read(connection: Connection) -> int:
    """Return how many rows this session has read; looking reads some as well."""
    found = connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")).all()
    return sum(int(count) for _, count in found)


SHORT = [Float(), Float(24), mysql.FLOAT(10, 2)]


@pytest.mark.parametrize("kind", SHORT, ids=["FLOAT", "FLOAT(24)", "FLOAT(10,2)"])
def test_an_order_by_a_float_of_four_bytes_is_refused_with_the_remedy(
    home: Engine, kind: Any
) -> None:
    table = Table("scored", MetaData(), Column("id", Integer, primary_key=True))
    table.append_column(Column("score", kind, nullable=False))
    table.metadata.create_all(home)
    with home.begin() as connection:
        connection.execute(insert(table), [{"score": n / 10} for n in range(1, 9) for _ in "ab"])

    class Touch(Job, unique_for=60):
        def perform(self, id: int) -> None: ...  # noqa: A002 - the column's name

    class Refused(Reconciler, every=60):
        pending = derive(Touch, select(table.c.id), order_by=table.c.score)

    class Taken(Reconciler, every=60):
        pending = derive(Touch, select(table.c.id), order_by=func.abs(cast(table.c.score, Double)))

    with pytest.raises(
        DefinitionError, match=r"score.*rows would be left out.*cast\(score, Double"
    ):
        Source(Refused.definition, home, 0.0)
    assert sorted(row[0] for row in read_all(Taken.definition, home, 3)) == list(range(1, 17))


@pytest.mark.parametrize(
    "kind", [Float(53), REAL(), Double(), mysql.DOUBLE(asdecimal=False)], ids=repr
)
def test_an_order_by_a_float_of_eight_bytes_is_taken(home: Engine, kind: Any) -> None:
    table, definition = keyed(kind, float)
    table.metadata.create_all(home)
    with home.begin() as connection:
        connection.execute(insert(table), [{"id": number / 10} for number in range(30)])

    assert len(read_all(definition, home, 4)) == 30


def test_an_age_in_a_timestamp_is_a_moment_whatever_zone_the_session_has(either: Engine) -> None:
    table = Table("seen", MetaData(), Column("id", Integer, primary_key=True))
    table.append_column(Column("at", TIMESTAMP(), nullable=False))
    table.metadata.create_all(either)
    ages = {1: 5, 2: 60, 3: 18_000, 4: -3_600}
    with either.begin() as connection:
        for number, age in ages.items():
            then = func.from_unixtime(read_clock(either) - age)
            connection.execute(insert(table).values(id=number, at=then))

    definition = items(select(table.c.id), age=table.c.at, min_age=30)

    assert read_all(definition, either) == [(2,), (3,), (4,)]
