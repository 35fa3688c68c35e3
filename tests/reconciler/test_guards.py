from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column

from qik_core import Job
from qik_core.errors import DefinitionError
from reconciler import Guard, Reconciler, derive
from reconciler.definition import Definition
from tests.reconciler.shop import named


class Base(DeclarativeBase):
    """Tables whose rows are held."""


class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[datetime | None]
    claimed_until: Mapped[datetime | None]
    claimed_at: Mapped[float | None]
    day: Mapped[date | None]
    name: Mapped[str | None]
    taken: Mapped[bool | None]
    due: Mapped[datetime]


class Other(Base):
    __tablename__ = "other"
    id: Mapped[int] = mapped_column(primary_key=True)
    claimed_until: Mapped[datetime | None]


def charge() -> Any:
    class Charge(Job, unique_for=60, timeout=30):
        def perform(self, invoice_id: int) -> None: ...

    return Charge


def charge_later() -> Any:
    class ChargeLater(Job, unique_for=60):
        async def perform(self, invoice_id: int) -> None: ...

    return ChargeLater


def guarded(guard: Guard, query: Any = None, job: Any = None, **columns: Any) -> Definition:
    class Invoices(Reconciler, every=60, guard=guard):
        pending = derive(job or charge(), select(Invoice.id) if query is None else query, **columns)

    return Invoices.definition


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    "guard",
    [
        Guard.claim(Invoice.claimed_until, MINUTE),
        Guard.claim(Invoice.claimed_at, 30),
        Guard.claim(Invoice.claimed_until),
        Guard.row_lock(),
        Guard.advisory(),
    ],
    ids=named,
)
def test_each_guard_fits_a_row_of_a_table(guard: Guard) -> None:
    assert guarded(guard).guard == guard


def test_an_alias_of_a_table_has_its_rows() -> None:
    alias = aliased(Invoice)

    assert guarded(Guard.claim(Invoice.claimed_until), select(alias.id)).guard


@pytest.mark.parametrize(
    ("guard", "problem"),
    [
        (Guard.claim(Other.claimed_until), "is a column of|the claim column is Other"),
        (Guard.claim("claimed_until"), "the claim column is claimed_until"),
        (Guard.claim(Invoice.day), "claim column day is Date"),
        (Guard.claim(Invoice.name), "claim column name is String"),
        (Guard.claim(Invoice.taken), "claim column taken is Boolean"),
        (Guard.claim(Invoice.due), "claim column due may not be NULL"),
        (Guard.claim(Invoice.version), "is the row's version too"),
        (Guard.claim(Invoice.claimed_until, 0.5), "ttl is 0.5 s"),
        (Guard.claim(Invoice.claimed_until, 29), "ends after 29 s and Charge may run for 30 s"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_claim_that_could_not_be_written_is_refused(guard: Guard, problem: str) -> None:
    with pytest.raises(DefinitionError, match=rf"Invoices \[guard\]: .*({problem})"):
        guarded(guard, version=Invoice.version)


def test_a_row_lock_is_refused_for_a_job_that_would_wait_for_itself() -> None:
    with pytest.raises(DefinitionError, match="ChargeLater is async, and a row lock"):
        guarded(Guard.row_lock(), job=charge_later())

    assert guarded(Guard.advisory(), job=charge_later()).guard
    assert guarded(Guard.claim(Invoice.claimed_until), job=charge_later()).guard


@pytest.mark.parametrize("guard", [Guard.row_lock(), Guard.claim(Invoice.claimed_until)], ids=named)
def test_a_key_that_is_no_row_of_a_table_cannot_be_held_as_one(guard: Guard) -> None:
    counted = select(func.abs(Invoice.id).label("id"))

    with pytest.raises(
        DefinitionError, match=r"\[guard\]: the key .* is not of columns of one table"
    ):
        guarded(guard, counted, key=counted.selected_columns.id)

    assert guarded(Guard.advisory(), counted, key=counted.selected_columns.id).guard


@pytest.mark.parametrize("guard", [Guard.row_lock(), Guard.advisory()], ids=named)
def test_a_key_that_args_changes_cannot_be_held(guard: Guard) -> None:
    with pytest.raises(DefinitionError, match=r"args= changes the key on its way to Charge"):
        guarded(guard, args=lambda row: (int(row.id),))
