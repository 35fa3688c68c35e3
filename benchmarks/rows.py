"""The application of the pass: rows that are pending for ever, and the reconciler that tells them.

    python -m benchmarks.rows fill|read N

The database is that of DATABASE_URL. Prints how many rows there were to read, and the seconds that it took, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from typing import Final

from sqlalchemy import Engine, Index, delete, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.jobs import UniqueNoop
from reconciler import Reconciler, derive
from reconciler.engines import make
from reconciler.source import Source

_PART: Final = 100_000


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


class JitteredRows(Reconciler, every=timedelta(hours=1), jitter=timedelta(minutes=10)):
    """The same rows, told at instants of their own."""

    pending = derive(UniqueNoop, select(Row.id).where(Row.status == "pending"))


def fill(engine: Engine, n: int) -> None:
    """Make the table with n pending rows, unless it is there."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        if connection.scalar(select(func.count()).select_from(Row)) == n:
            return
        connection.execute(delete(Row))
        for start in range(0, n, _PART):
            rows = [{"id": at, "status": "pending"} for at in range(start, min(n, start + _PART))]
            connection.execute(insert(Row), rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE bench_row" if engine.name != "sqlite" else "ANALYZE")


def read(engine: Engine, size: int) -> int:
    """Read all pending rows page by page, by the statements and transactions of a pass; return how many there are."""
    source = Source(PendingRows.definition, engine, time.time())
    after, found = None, 0
    while True:
        rows = source.read(after, size)
        found += len(rows)
        if len(rows) < size:
            return found
        after = source.position(rows[-1])


def main() -> None:
    """Do one of the two."""
    kind, n = sys.argv[1], int(sys.argv[2])
    engine = make(os.environ["DATABASE_URL"])
    began = time.perf_counter()
    if kind == "fill":
        fill(engine, n)
    else:
        n = read(engine, PendingRows.definition.batch_size)
    sys.stdout.write(json.dumps({"n": n, "seconds": time.perf_counter() - began}) + "\n")


if __name__ == "__main__":
    main()
