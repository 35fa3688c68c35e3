"""A small application for the tests of reconcilers: its tables, and short ways to fill them and to define things."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, ForeignKey, String, UniqueConstraint, insert, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.pending import Columns

COLUMNS = [*Columns.__annotations__, "args"]
"""What `derive()` takes by keyword."""


class Base(DeclarativeBase):
    """The shop's tables."""


class Item(Base):
    """A row that may want a job."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(20), default="pending")
    rank: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=1)
    note: Mapped[str | None] = mapped_column(String(50))
    since: Mapped[datetime | None]


class Member(Base):
    """A row with a key of two columns."""

    __tablename__ = "member"
    __table_args__ = (UniqueConstraint("org_id", "email"),)
    org_id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(50))
    token: Mapped[UUID]
    item_id: Mapped[int | None] = mapped_column(ForeignKey("item.id"))


def fill(engine: Engine, ids: Iterable[int], **values: Any) -> None:
    """Insert items with these ids."""
    rows = [{"id": each, "state": "pending", "rank": 0, "version": 1, **values} for each in ids]
    with engine.begin() as connection:
        connection.execute(insert(Item), rows)


def change(engine: Engine, *ids: int, **values: Any) -> None:
    """Update items."""
    with engine.begin() as connection:
        connection.execute(update(Item).where(Item.id.in_(ids)).values(**values))


def items(query: Any, **options: Any) -> Definition:
    """Define a job on items and a reconciler of it; `query` is a select of the key, or a `derive()` keyword apart."""
    columns = {name: options.pop(name) for name in COLUMNS if name in options}

    class Work(Job, queue="work", unique_for=3600):
        def perform(self, item_id: int) -> None: ...

    if "cron" not in options:
        options.setdefault("every", 60)

    class Items(Reconciler, **options):
        pending = derive(Work, query, **columns)

    return Items.definition


def named(value: object) -> str:
    """Return the name of a parameter, the same in each process: without the places of objects in memory."""
    return re.sub(r" object at 0x[0-9a-f]+", "", str(value))
