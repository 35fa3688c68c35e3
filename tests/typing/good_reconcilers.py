"""What users write of reconcilers, with every keyword: clean in mypy strict and pyright strict. See test_typing.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import assert_type
from uuid import UUID

from sqlalchemy import DateTime, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job, job
from reconciler import (
    Backpressure,
    Fair,
    Freshness,
    Guard,
    Occurrences,
    Pending,
    Quarantine,
    Reconciler,
    derive,
)


class Base(DeclarativeBase): ...


class Reminder(Base):
    __tablename__ = "typed_reminder"
    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[UUID]
    price: Mapped[Decimal]
    rank: Mapped[int]
    version: Mapped[int]
    made_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    send_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    taken_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Report(Base):
    __tablename__ = "typed_report"
    kind: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    day: Mapped[int]


class TypedRemind(Job, unique_for=timedelta(hours=1)):
    def perform(self, reminder_id: int) -> None: ...


class TypedPrice(Job, unique_for=3600, unique_args=["reminder_id"]):
    async def perform(self, reminder_id: int, account: UUID, price: Decimal) -> None: ...


class TypedReport(Job, unique_for=timedelta(hours=1)):
    def perform(self, slot: datetime) -> None: ...


@job(unique_for=timedelta(hours=1))
def typed_total(day: int) -> None: ...


def busy() -> str | None:
    return None


class TypedReminders(
    Reconciler,
    every=timedelta(minutes=1),
    jitter=30,
    min_age=timedelta(seconds=30),
    batch_size=500,
    database="billing",
    queue="reminders",
    name="typed.reminders",
    budget=timedelta(minutes=5),
    statement_timeout=5.0,
    backpressure=Backpressure(high=5_000, low=1_000, memory=0.7, health=[busy]),
    quarantine=Quarantine(after=3, backoff=(timedelta(minutes=1), 3600), reset_on=("version",)),
    fair=Fair(per_tenant=50),
    freshness=Freshness(replica="reporting", max_lag=timedelta(seconds=2), fallback="skip"),
    recheck=True,
    expect_progress=False,
    edges=True,
    guard=Guard.claim(Reminder.taken_until, ttl=timedelta(minutes=15)),
    shadow=True,
    on_unknown="stop",
):
    pending = derive(
        TypedRemind,
        select(Reminder.id).where(Reminder.send_at.is_not(None)),
        key=Reminder.id,
        order_by=(Reminder.rank.desc(), Reminder.made_at),
        version=Reminder.version,
        age=Reminder.made_at,
        run_at=Reminder.send_at,
        horizon=timedelta(minutes=10),
        late="skip",
        grace=3600,
        tenant=Reminder.account,
    )


class TypedPrices(Reconciler, cron="*/10 * * * *"):
    pending = derive(
        TypedPrice,
        select(Reminder.id, Reminder.account, Reminder.price),
        run_at=func.coalesce(Reminder.send_at, Reminder.made_at),
        late="run",
    )


class TypedDaily(
    Occurrences,
    schedule="0 6 * * *",
    tz="Europe/Berlin",
    catchup=timedelta(days=7),
    overlap="skip",
    since=datetime(2026, 1, 1, tzinfo=UTC),
    every=timedelta(minutes=5),
    queue="reports",
):
    done = derive(TypedReport, select(Report.slot).where(Report.kind == "daily"))


class TypedSums(Occurrences, schedule="0 * * * *"):
    done = derive(typed_total, select(Report.day))


assert_type(TypedReminders.pending, Pending[int])
assert_type(TypedDaily.done, Pending[datetime])
