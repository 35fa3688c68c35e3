"""The jobs. Each begins with an update that asks for the row as it must be: a run that comes second changes no row.

What a row means and the mail that comes of it are written in one transaction, so each effect happens once, however often
a job runs: `context.session()` is on the database of the job's row, and commits at the end of its block. Where an effect
is somewhere else (a payment provider, an API), pass on what names it: `invoice-7`, and never the jid, is the key.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from examples.saas.models import (
    Account,
    Invoice,
    InvoiceStatus,
    Mail,
    Reminder,
    Workspace,
    WorkspaceState,
)
from qik_core import Job

UNIQUE = timedelta(hours=2)
"""Longer than the retries of a job take."""


class SendWelcome(Job, queue="mail", retry=8, unique_for=UNIQUE):
    """Welcomes a customer."""

    def perform(self, account_id: UUID) -> None:
        """Write one mail."""
        mine = update(Account).where(Account.id == account_id, ~Account.welcomed)
        with self.context.session() as session:
            email = session.scalar(mine.values(welcomed=True).returning(Account.email))
            if email is not None:
                session.add(Mail(recipient=email, subject="Welcome"))


class ChargeInvoice(Job, queue="billing", retry=8, unique_for=UNIQUE):
    """Charges an invoice that is due."""

    def perform(self, invoice_id: int) -> None:
        """Charge it, and write one receipt."""
        mine = update(Invoice).where(Invoice.id == invoice_id, Invoice.status == InvoiceStatus.OPEN)
        with self.context.session() as session:
            paid = session.execute(
                mine.values(status=InvoiceStatus.PAID).returning(Invoice.account_id, Invoice.amount)
            ).one_or_none()
            if paid is not None:
                _mail(session, paid.account_id, f"Receipt {invoice_id}: {paid.amount}")


class SendReminder(Job, queue="mail", retry=8, unique_for=UNIQUE):
    """Sends a reminder."""

    def perform(self, reminder_id: int) -> None:
        """Write one mail."""
        mine = update(Reminder).where(Reminder.id == reminder_id, ~Reminder.sent)
        with self.context.session() as session:
            due = session.execute(
                mine.values(sent=True).returning(Reminder.account_id, Reminder.text)
            ).one_or_none()
            if due is not None:
                _mail(session, due.account_id, f"Reminder: {due.text}")


class BuildWorkspace(Job, queue="infra", retry=8, unique_for=UNIQUE):
    """Builds what a tenant has asked for, on the event loop: it waits for others most of the time."""

    async def perform(self, tenant: str, name: str) -> None:
        """Build one workspace."""
        mine = update(Workspace).where(
            Workspace.tenant == tenant,
            Workspace.name == name,
            Workspace.state == WorkspaceState.REQUESTED,
        )
        async with self.context.session() as session:
            await session.execute(
                mine.values(state=WorkspaceState.READY, built=Workspace.built + 1)
            )


def _mail(session: Session, account_id: UUID, subject: str) -> None:
    email = session.scalars(select(Account.email).where(Account.id == account_id)).one()
    session.add(Mail(recipient=email, subject=subject))
