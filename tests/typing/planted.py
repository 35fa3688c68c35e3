"""Planted errors, E1 to E26: mypy strict and pyright must report these lines and no others. Never imported."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job, job
from reconciler import derive


class Base(DeclarativeBase): ...


class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    org: Mapped[str]
    uid: Mapped[UUID]
    note: Mapped[str | None]


class Charge(Job, queue="billing"):
    def perform(self, invoice_id: int, force: bool = False) -> None: ...


class Sync(Job):
    async def perform(self, org: str, uid: UUID) -> None: ...


@job
def mail(address: str) -> None: ...


class Sum(Job):
    def perform(self, a: int) -> int:
        return a


derive(Charge, select(Invoice.org))  # E1 a str for an int
derive(Sync, select(Invoice.uid, Invoice.org))  # E2 swapped
derive(Sync, select(Invoice.note, Invoice.uid))  # E3 a nullable column
derive(Sync, select(Invoice.org))  # E4 too few columns
derive(Sync, select(Invoice.id, Invoice.uid), args=lambda row: (row[0], row[1]))  # E5
Charge.perform_async("x")  # E6
Charge.perform_in(timedelta(minutes=1), "x")  # E7
Charge.set(queu="x")  # E8 no such option
Charge.set(queue="x").perform_async("x")  # E9
Sync.perform_bulk([("a", "b")])  # E10


class Bad(Job, queu="x"):  # E11 no such option
    def perform(self) -> None: ...


async def web() -> None:
    await Sync.aio.perform_async(1, uuid4())  # E12


def inline() -> None:
    Sum.perform_inline("x")  # E13
    text: str = Sum.perform_inline(7)  # E14 an int
    Sum.set(queue="x").perform_inline("x")  # E15
    mail.perform_inline(7)  # E16
    print(text)


def bulks() -> None:
    Sync.set(queue="x").perform_bulk([("a", "b")])  # E17
    mail.perform_bulk([(7,)])  # E18
    Charge.perform_bulk([(1, True)], at="today")  # E19
    Charge.perform_bulk([(1, True)], spread=5)  # E20 it is jitter


def commits(session: object) -> None:
    Charge.after_commit(session).perform_async("x")  # E21
    Charge.after_commit(session).perform_in(timedelta(minutes=1), "x")  # E22
    Charge.set(queue="x").after_commit(session).perform_async("x")  # E23
    Charge.after_commit(session).perform_bulk([("x", True)])  # E24


async def awaited() -> None:
    await Sum.aio.perform_inline("x")  # E25
    await Sum.aio.perform_bulk([("x",)])  # E26
