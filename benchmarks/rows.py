"""The application of the pass: rows that are pending for ever, and the reconciler that tells them."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, Index, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.jobs import UniqueNoop
from reconciler import Reconciler, derive


class Base(DeclarativeBase):
    """The table of the benchmark."""


class Row(Base):
    """One pending row."""

    __tablename__ = "bench_row"
    __table_args__ = (Index("bench_row_status", "status", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    status: Mapped[str]


class PendingRows(Reconciler, every=timedelta(hours=1)):
    """Every row wants a job."""

    pending = derive(UniqueNoop, select(Row.id).where(Row.status == "pending"))


def fill(engine: Engine, n: int) -> None:
    """Make the table with n pending rows, unless it is there."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        if connection.scalar(select(func.count()).select_from(Row)) != n:
            rows = [{"id": number, "status": "pending"} for number in range(n)]
            connection.execute(insert(Row), rows)


def read(engine: Engine, size: int) -> int:
    """Read all pending rows page by page, as a pass does; return how many there are."""
    last, found = -1, 0
    page = select(Row.id).where(Row.status == "pending").order_by(Row.id).limit(size)
    while True:
        with engine.connect() as connection:
            rows = connection.execute(page.where(Row.id > last)).all()
        found += len(rows)
        if len(rows) < size:
            return found
        last = rows[-1].id
