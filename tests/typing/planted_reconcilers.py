"""Planted errors, R1 to R22: mypy strict and pyright must report these lines and no others. Never imported."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job, job
from reconciler import Backpressure, Fair, Freshness, Occurrences, Reconciler, derive


class Base(DeclarativeBase): ...


class Reminder(Base):
    __tablename__ = "reminder"
    id: Mapped[int] = mapped_column(primary_key=True)
    send_at: Mapped[datetime]
    note: Mapped[str]


class Remind(Job):
    def perform(self, reminder_id: int) -> None: ...


class BuildReport(Job):
    def perform(self, slot: datetime) -> None: ...


@job
def remind(reminder_id: int) -> None: ...


PENDING = select(Reminder.id)

derive(Remind, PENDING, run_at="send_at")  # R1 a name for a column
derive(Remind, PENDING, run_at=Reminder.send_at, horizon="10m")  # R2
derive(Remind, PENDING, run_at=Reminder.send_at, late="drop")  # R3
derive(Remind, PENDING, run_at=Reminder.send_at, grace="1h")  # R4
derive(Remind, PENDING, tenant="account")  # R5
derive(Remind, PENDING, runat=Reminder.send_at)  # R6 no such keyword
derive(Remind, PENDING, order_by="id")  # R7
derive(remind, select(Reminder.note))  # R22 a str for an int, of a function
Fair(per_tenant="50")  # R8
Fair(50)  # R9 by keyword
Freshness(replica="r", fallback="wait")  # R10
Backpressure(high="5000")  # R11


class Often(Reconciler, every="1m"):  # R12
    pending = derive(Remind, PENDING)


class Daily(Reconciler, cron=6):  # R13
    pending = derive(Remind, PENDING)


class Shared(Reconciler, every=60, fair=50):  # R14
    pending = derive(Remind, PENDING)


class Replicated(Reconciler, every=60, freshness="reporting"):  # R15
    pending = derive(Remind, PENDING)


class Mistyped(Reconciler, every=60, jiter=5):  # R16 no such option
    pending = derive(Remind, PENDING)


class Unscheduled(Occurrences, every=timedelta(minutes=1)):  # R17 no schedule
    done = derive(BuildReport, select(Reminder.send_at))


class Overlapping(Occurrences, schedule="0 6 * * *", overlap="buffer"):  # R18
    done = derive(BuildReport, select(Reminder.send_at))


class Since(Occurrences, schedule="0 6 * * *", since="2026-01-01"):  # R19
    done = derive(BuildReport, select(Reminder.send_at))


class Young(Occurrences, schedule="0 6 * * *", min_age=5):  # R20 slots have no age
    done = derive(BuildReport, select(Reminder.send_at))


class NoSlot(Occurrences, schedule="0 6 * * *"):
    done = derive(BuildReport, select(Reminder.note))  # R21 a str for a datetime
