from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    Date,
    DateTime,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    insert,
    select,
)
from sqlalchemy.dialects.mysql import DATETIME

from reconciler.moments import epoch, moment

WHEN = datetime(2026, 7, 1, 12, 30, 15, 250_000, tzinfo=UTC)
MICROS = DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")


def filled(engine: Engine, kind: Any, value: Any) -> Column[Any]:
    table = Table(
        "moments", MetaData(), Column("id", Integer, primary_key=True), Column("at", kind)
    )
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": 1, "at": value}, {"id": 2, "at": None}])
    return table.c.at


@pytest.mark.parametrize(
    ("kind", "value", "seconds"),
    [
        (MICROS, WHEN.replace(tzinfo=None), WHEN.timestamp()),
        (Date(), date(2026, 7, 1), datetime(2026, 7, 1, tzinfo=UTC).timestamp()),
        (BigInteger(), int(WHEN.timestamp()), int(WHEN.timestamp())),
        (Double(), WHEN.timestamp(), WHEN.timestamp()),
    ],
    ids=["naive", "date", "whole", "double"],
)
def test_a_moment_of_any_type_is_read_as_epoch_seconds_and_null_stays_null(
    engine: Engine, kind: Any, value: Any, seconds: float
) -> None:
    column = filled(engine, kind, value)

    with engine.connect() as connection:
        found = (
            connection.execute(select(epoch(column)).order_by(column.table.c.id)).scalars().all()
        )

    assert type(found[0]) is float
    assert found[0] == pytest.approx(seconds, abs=0.001)
    assert found[1] is None


def test_a_moment_with_a_zone_is_the_same_moment_in_postgresql(postgres_engine: Engine) -> None:
    column = filled(postgres_engine, DateTime(timezone=True), WHEN)

    with postgres_engine.connect() as connection:
        connection.exec_driver_sql("SET TIME ZONE 'Asia/Tokyo'")
        found = connection.execute(select(epoch(column)).where(column.is_not(None))).scalar_one()

    assert found == WHEN.timestamp()


def test_a_timestamp_of_mariadb_is_the_same_moment_in_a_session_of_any_zone(
    mariadb_engine: Engine,
) -> None:
    column = filled(mariadb_engine, TIMESTAMP(), None)
    at = WHEN.replace(microsecond=0)

    with mariadb_engine.begin() as connection:
        connection.execute(
            column.table.update().values(at=moment(column, at.timestamp(), "mariadb"))
        )
        for zone in ("+00:00", "-08:30", "+05:00"):
            connection.exec_driver_sql(f"SET time_zone = '{zone}'")
            shown = connection.execute(select(column)).scalars().first()
            found = connection.execute(select(epoch(column))).scalars().first()
            assert found == at.timestamp()
            assert (shown == at.replace(tzinfo=None)) is (zone == "+00:00")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (DateTime(), WHEN.replace(tzinfo=None)),
        (DateTime(timezone=True), WHEN),
        (Date(), date(2026, 7, 1)),
        (Integer(), int(WHEN.timestamp())),
        (Double(), WHEN.timestamp()),
    ],
    ids=["naive", "aware", "date", "whole", "double"],
)
def test_a_moment_is_compared_as_its_column_has_it(kind: Any, expected: object) -> None:
    assert moment(Column("at", kind), WHEN.timestamp(), "sqlite") == expected


def test_a_statement_can_be_shown_for_a_database_that_is_not_supported() -> None:
    assert "epoch(at)" in str(select(epoch(Column("at", DateTime()))))
