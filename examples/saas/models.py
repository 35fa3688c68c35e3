"""What the service knows. A row says by itself whether anything is left to do for it: no second place remembers that."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import DateTime, ForeignKey, Index, Numeric, String, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MOMENT = DateTime(timezone=True)


class Base(DeclarativeBase):
    """The tables of the database `default`."""


class Account(Base):
    """A customer. One who was not welcomed wants a mail."""

    __tablename__ = "account"
    __table_args__ = (Index("account_welcomed", "welcomed", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    welcomed: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class InvoiceStatus(StrEnum):
    """Where an invoice stands."""

    OPEN = "open"
    PAID = "paid"


class Invoice(Base):
    """Money that is owed. An open one wants to be charged once it is due."""

    __tablename__ = "invoice"
    __table_args__ = (Index("invoice_status", "status", "due_on", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    amount: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    status: Mapped[str] = mapped_column(String(8), default=InvoiceStatus.OPEN)
    due_on: Mapped[date]
    claimed_until: Mapped[datetime | None] = mapped_column(MOMENT)
    """Until when a run of its job has it, so that no customer is charged by two at once."""


class Reminder(Base):
    """A mail that a customer wants at a moment of their choice."""

    __tablename__ = "reminder"
    __table_args__ = (Index("reminder_sent", "sent", "send_at", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    text: Mapped[str] = mapped_column(String(200))
    send_at: Mapped[datetime] = mapped_column(MOMENT)
    sent: Mapped[bool] = mapped_column(default=False)


class Mail(Base):
    """The outbox. A mail is written in the transaction that says why, so there is one for each reason, or none."""

    __tablename__ = "mail"

    id: Mapped[int] = mapped_column(primary_key=True)
    recipient: Mapped[str] = mapped_column(String(254))
    subject: Mapped[str] = mapped_column(String(250))
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class InfraBase(DeclarativeBase):
    """The tables of the database `infra`."""


class WorkspaceState(StrEnum):
    """Where a workspace stands."""

    REQUESTED = "requested"
    READY = "ready"


class Workspace(InfraBase):
    """What is built for a tenant, who names it: the key is both. A requested one wants to be built."""

    __tablename__ = "workspace"
    __table_args__ = (Index("workspace_state", "state", "requested_at", "tenant", "name"),)

    tenant: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    state: Mapped[str] = mapped_column(String(12), default=WorkspaceState.REQUESTED)
    requested_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    built: Mapped[int] = mapped_column(default=0)
    """How often it was built: once."""
