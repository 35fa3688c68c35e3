"""Which rows want which job. This module is why Redis may be emptied at any moment."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select

from examples.saas.database import INFRA
from examples.saas.jobs import BuildWorkspace, ChargeInvoice, SendReminder, SendWelcome
from examples.saas.models import (
    Account,
    Invoice,
    InvoiceStatus,
    Reminder,
    Workspace,
    WorkspaceState,
)
from reconciler import Fair, Guard, Reconciler, derive

EVERY = timedelta(seconds=3)
"""So short that one can watch it; a minute is usual."""
JITTER = timedelta(seconds=1)
MIN_AGE = timedelta(seconds=2)
"""The time of an edge to arrive."""


class NewAccounts(Reconciler, every=EVERY, jitter=JITTER, min_age=MIN_AGE, edges=True):
    """The sign-up pushes the job itself, so a pass leaves young rows alone, and each row that it does tell was lost."""

    pending = derive(
        SendWelcome, select(Account.id).where(~Account.welcomed), age=Account.created_at
    )


class DueInvoices(
    Reconciler,
    every=EVERY,
    jitter=JITTER,
    guard=Guard.claim(Invoice.claimed_until, ttl=timedelta(minutes=15)),
):
    """Nobody pushes what becomes due by itself: passes find it, those first that wait longest.

    While a run holds its claim no other run of the row begins, even if the two should ever overlap.
    """

    pending = derive(
        ChargeInvoice,
        select(Invoice.id).where(
            Invoice.status == InvoiceStatus.OPEN, Invoice.due_on <= func.current_date()
        ),
        order_by=Invoice.due_on,
    )


class DueReminders(Reconciler, every=EVERY, jitter=JITTER):
    """A reminder is told ahead of its time and becomes due at its moment; later ones stay in SQL."""

    pending = derive(
        SendReminder,
        select(Reminder.id).where(~Reminder.sent),
        order_by=Reminder.send_at,
        run_at=Reminder.send_at,
    )


class RequestedWorkspaces(
    Reconciler,
    every=EVERY,
    jitter=JITTER,
    database=INFRA,
    min_age=MIN_AGE,
    edges=True,
    fair=Fair(per_tenant=100),
):
    """Rows of another database, with a key of two columns. One tenant with very many does not hold up the others."""

    pending = derive(
        BuildWorkspace,
        select(Workspace.tenant, Workspace.name).where(Workspace.state == WorkspaceState.REQUESTED),
        order_by=Workspace.requested_at,
        age=Workspace.requested_at,
        tenant=Workspace.tenant,
    )
