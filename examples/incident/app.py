"""The application of this incident: invoices that are to be charged once, and a newsletter that nothing tells again.

A file called `bank-is-down` in the current folder makes every charge fail, as the other side of an API would.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job
from reconciler import Reconciler, derive

BROKEN = Path("bank-is-down")
url = os.environ.get("DATABASE_URL", "sqlite:///incident.db")
engine = create_engine(url, connect_args={"timeout": 30} if url.startswith("sqlite") else {})


class Base(DeclarativeBase):
    """The tables of this application."""


class Invoice(Base):
    """An invoice that is to be charged, once."""

    __tablename__ = "invoice"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="open")
    charges: Mapped[int] = mapped_column(default=0)


class ChargeInvoice(Job, queue="billing", retry=8, unique_for=timedelta(hours=1)):
    """Charges one invoice."""

    def perform(self, invoice_id: int) -> None:
        """Ask the bank, then write it down: a run that comes second changes no row."""
        time.sleep(0.05)
        if BROKEN.exists():
            raise TimeoutError("the bank does not answer")
        mine = update(Invoice).where(Invoice.id == invoice_id, Invoice.status == "open")
        with engine.begin() as connection:
            connection.execute(mine.values(status="paid", charges=Invoice.charges + 1))


class SendNewsletter(Job, queue="mail"):
    """Sends a newsletter. No row says who is to get one: nothing would tell it again."""

    def perform(self, recipient: str) -> None:
        """Pretend to."""


class OpenInvoices(Reconciler, every=timedelta(seconds=2)):
    """Every open invoice wants to be charged."""

    pending = derive(ChargeInvoice, select(Invoice.id).where(Invoice.status == "open"))
