"""A table whose rows are held by guards, one open bill in it, and a job that is told of open bills."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import DateTime

from qik_core import Job
from reconciler import Guard, Reconciler, derive
from reconciler.engines import Engines
from reconciler.recheck import Recheck


class Base(DeclarativeBase):
    """A table whose rows are held."""


STAMP = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


class Bill(Base):
    __tablename__ = "bill"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(mysql.VARCHAR(10))
    claimed_until: Mapped[datetime | None]
    claimed_to: Mapped[float | None]
    changed: Mapped[datetime] = mapped_column(STAMP, onupdate=lambda: datetime.now(UTC))
    other: Mapped[int] = mapped_column(default=0)


CLAIM = Guard.claim(Bill.claimed_until, timedelta(minutes=1))
GUARDS = {
    "claim": CLAIM,
    "claim-seconds": Guard.claim(Bill.claimed_to, 60),
    "row_lock": Guard.row_lock(),
    "advisory": Guard.advisory(),
}
LONG_AGO = datetime.fromisoformat("2026-01-01")


SERVERS = pytest.mark.parametrize("database_url", ["postgres", "mariadb"], indirect=True)
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def fill(engine: Engine) -> None:
    """Make one open bill, 7, and one that is paid, 8."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Bill(id=7, state="open", changed=LONG_AGO))
        session.add(Bill(id=8, state="paid", changed=LONG_AGO))
        session.commit()


def bills(guard: Guard, **options: Any) -> None:
    """Define the job of bills and its reconciler."""

    class Charge(Job, unique_for=60):
        def perform(self, bill: int) -> None: ...

    class Bills(Reconciler, every=60, guard=guard, **options):
        pending = derive(Charge, select(Bill.id).where(Bill.state == "open"))


def is_free(recheck: Recheck, bill: int) -> bool:
    """Try to hold a bill on another thread, as another worker would."""
    found: list[bool] = []

    def attempt() -> None:
        with recheck.guarded("Charge", (bill,)) as free:
            found.append(free)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join(20)
    assert found
    return found[0]


@pytest.fixture
def home(engines: Engines) -> Engine:
    """A database with an open bill, 7, and one that is paid, 8."""
    engine = engines.home()
    fill(engine)
    return engine


@pytest.fixture
def recheck(engines: Engines) -> Recheck:
    return Recheck(lambda: engines)
