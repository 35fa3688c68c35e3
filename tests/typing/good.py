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
    Chain,
    ClientMiddleware,
    ClientResult,
    Deferred,
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


@job
async def typed_fetch(url: str) -> bytes:
    return url.encode()


class TypedSum(Job):
    def perform(self, a: int, b: int = 0) -> int:
        return a + b


class TypedLookup(Job):
    async def perform(self, key: str) -> Decimal:
        return Decimal(len(key))


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
    chain: Chain[ClientMiddleware] = Chain([tenant])
    configure(client_middleware=chain.prepend(tenant).insert_after(tenant, tenant))
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


def bulks() -> None:
    minute, now = timedelta(minutes=1), datetime.now(UTC)
    TypedCharge.perform_bulk([(1, True), (2, False)], at=[now, now + minute])
    TypedCharge.perform_bulk([(1, True)], at=1_800_000_000.0)
    assert_type(TypedCharge.set(queue="high").perform_bulk([(1, True)]), BulkResult)
    TypedCharge.set(queue="high").set(jitter=5).perform_bulk((n, True) for n in range(3))
    TypedSync.set(queue="high").perform_bulk([("a", uuid4())], jitter=minute)
    TypedRefund.set(tags=["x"]).perform_bulk([(7, Decimal(1), now)], at=now)
    typed_mail.perform_bulk([("a@b", "x")])
    TypedNothing.set(queue="high").perform_bulk([(), ()])


def inline() -> None:
    assert_type(TypedSum.perform_inline(7), int)
    assert_type(TypedSum.perform_inline(7, b=2), int)
    assert_type(TypedLookup.perform_inline("x"), Decimal)
    assert_type(TypedSum.set(queue="high").perform_inline(7), int)
    assert_type(TypedLookup.set(queue="high").perform_inline("x"), Decimal)
    assert_type(typed_mail.perform_inline("a@b"), int)
    assert_type(typed_fetch.perform_inline("x"), bytes)
    TypedCharge.perform_inline(7)


def commits(session: object) -> None:
    minute = timedelta(minutes=1)
    assert_type(TypedCharge.after_commit(session).perform_async(7), Deferred[Push])
    assert_type(TypedCharge.after_commit(session).perform_async(7, force=True).result(), Push)
    TypedCharge.after_commit(session).perform_in(minute, 7)
    TypedCharge.after_commit(session).perform_at(datetime.now(UTC), 7, True)
    TypedCharge.set(queue="high").after_commit(session).set(retry=3).perform_async(7)
    many = TypedCharge.after_commit(session).perform_bulk([(1, True)], jitter=minute)
    assert_type(many, Deferred[BulkResult])
    assert_type(many.result().counts[many.result()[0]], int)
    typed_mail.after_commit(session).perform_async("a@b")


async def awaited() -> None:
    assert_type(await TypedSync.aio.perform_async("a", uuid4()), Push)
    await TypedCharge.aio.perform_in(timedelta(minutes=1), 7)
    await TypedCharge.set(queue="high").aio.perform_async(7, force=True)
    await TypedCharge.aio.perform_bulk([(1, True)])
    await typed_mail.aio.perform_async("a@b")
    assert_type(await TypedSum.aio.perform_inline(7), int)
    assert_type(await TypedLookup.aio.perform_inline("x"), Decimal)
    assert_type(await typed_fetch.aio.perform_inline("x"), bytes)
    assert_type(await TypedCharge.set(queue="x").aio.perform_bulk([(1, True)]), BulkResult)
    await TypedSync.aio.perform_bulk([("a", uuid4())], jitter=5)
