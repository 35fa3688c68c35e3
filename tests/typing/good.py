"""What users write: clean in mypy strict and pyright strict. Checked by test_typing.py; importing it defines real jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import assert_type
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import (
    BulkResult,
    ClientResult,
    Job,
    Next,
    Payload,
    Push,
    Refused,
    configure,
    job,
    push,
)
from reconciler import Reconciler, derive


class Base(DeclarativeBase): ...


class Invoice(Base):
    __tablename__ = "typed_invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    org: Mapped[str]
    uid: Mapped[UUID]


class Account(Base):
    __tablename__ = "typed_account"
    org: Mapped[str] = mapped_column(primary_key=True)
    uid: Mapped[UUID] = mapped_column(primary_key=True)


class TypedCharge(
    Job, queue="billing", retry=8, unique_for=timedelta(hours=1), unique_until="success"
):
    def perform(self, invoice_id: int, force: bool = False) -> None:
        print(self.context.jid, self.context.attempt, invoice_id, force)


class TypedSync(Job, tags=["sync"], unique_for=60, unique_args=["org", "uid"], expires_in=3600):
    async def perform(self, org: str, uid: UUID) -> None:
        self.context.checkpoint()


class TypedRefund(Job):
    def perform(self, invoice_id: int, amount: Decimal, at: datetime) -> None: ...


class TypedNothing(Job):
    def perform(self) -> None: ...


@job(queue="mail")
def typed_mail(address: str, subject: str = "") -> int:
    return len(address) + len(subject)


@job
def typed_plain(number: int) -> None: ...


def tenant(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
    return call_next(job.replace(tenant="acme")) if job.args else Refused("tenant", "no arguments")


class TypedOpen(Reconciler, every=timedelta(minutes=1), jitter=timedelta(seconds=30)):
    pending = derive(
        TypedCharge, select(Invoice.id).where(Invoice.org == "x"), args=lambda row: (row[0], False)
    )


class TypedSyncs(Reconciler, every=timedelta(minutes=1)):
    pending = derive(TypedSync, select(Account.org, Account.uid))


def edges() -> None:
    configure(redis="redis://localhost:6379/0", client_middleware=[tenant])
    minute = timedelta(minutes=1)
    assert_type(TypedCharge.perform_async(7), Push)
    TypedCharge.perform_async(7, force=True)
    TypedCharge.perform_in(minute, 7)
    TypedCharge.perform_in(90, 7, force=True)
    TypedCharge.perform_at(datetime.now(UTC), 7)
    TypedCharge.set(queue="high", retry=False, jid="a-1").perform_async(7)
    TypedCharge.set(wait=minute).set(jitter=5).perform_async(7, True)
    TypedNothing.perform_async()
    TypedRefund.perform_async(7, Decimal("1.5"), datetime.now(UTC))
    assert_type(TypedCharge.perform_bulk([(1, True)], jitter=minute), BulkResult)
    TypedSync.perform_bulk(((str(n), uuid4()) for n in range(3)), batch_size=10)
    TypedNothing.perform_bulk([()])
    assert_type(typed_mail("a@b"), int)
    typed_mail.perform_async("a@b", subject="x")
    typed_mail.set(wait=5).perform_async("a@b")
    typed_plain.perform_in(minute, 7)
    assert_type(push("Billing::Charge", [7], queue="ruby"), Push)
    push(TypedCharge, [7])


async def awaited() -> None:
    assert_type(await TypedSync.aio.perform_async("a", uuid4()), Push)
    await TypedCharge.aio.perform_in(timedelta(minutes=1), 7)
    await TypedCharge.set(queue="high").aio.perform_async(7, force=True)
    await TypedCharge.aio.perform_bulk([(1, True)])
    await typed_mail.aio.perform_async("a@b")
