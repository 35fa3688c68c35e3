from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, TypeDecorator, select

from qik_core import Job
from reconciler import Reconciler, columns, derive


class Moment(TypeDecorator[datetime]):
    """Aware times, as applications keep them where the database knows no zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)


def test_a_type_of_the_applications_own_is_not_known_and_so_fits_every_annotation() -> None:
    table = Table("visit", MetaData(), Column("at", Moment, primary_key=True))

    class Visit(Job, unique_for=60):
        def perform(self, at: datetime) -> None: ...

    class Visits(Reconciler, every=60):
        pending = derive(Visit, select(table.c.at))

    assert columns.python_type(table.c.at) is None
    assert Visits.definition.shape.proven


def test_a_type_of_sqlalchemys_is_known() -> None:
    assert columns.python_type(Column("n", Integer)) is int
