"""The web service. A request writes rows, and pushes their jobs when its transaction is committed.

Each push is an edge: it makes the common case fast, and may be lost. What is promised hangs on the rows alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy import exc, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.saas import app as application
from examples.saas.database import DEFAULT, INFRA, async_engine
from examples.saas.jobs import BuildWorkspace, ChargeInvoice, SendWelcome
from examples.saas.models import Account, Invoice, Mail, Reminder, Workspace

__all__ = ["app", "application"]  # a commit has to know which of its pushes a pass makes up for

app = FastAPI(title="saas")


async def _default() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(async_engine(DEFAULT), expire_on_commit=False) as session:
        yield session


async def _infra() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(async_engine(INFRA), expire_on_commit=False) as session:
        yield session


Default = Annotated[AsyncSession, Depends(_default)]
Infra = Annotated[AsyncSession, Depends(_infra)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class SignUp(BaseModel):
    """Who signs up."""

    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]


class NewInvoice(BaseModel):
    """What is owed; due at once unless it says when."""

    account: UUID
    amount: Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]
    due_on: date | None = None


class NewReminder(BaseModel):
    """What to remind of, and when."""

    account: UUID
    text: Annotated[str, Field(min_length=1, max_length=200)]
    send_at: AwareDatetime


class NewWorkspace(BaseModel):
    """What a tenant wants built."""

    tenant: Name
    name: Name


@app.post("/accounts", status_code=201)
async def sign_up(asked: SignUp, session: Default) -> dict[str, UUID]:
    """Sign somebody up; 409 if the address has an account."""
    account = Account(email=asked.email)
    session.add(account)
    await _flush(session, f"{asked.email} has an account")
    SendWelcome.after_commit(session).perform_async(account.id)
    await session.commit()
    return {"id": account.id}


@app.post("/invoices", status_code=201)
async def invoice(asked: NewInvoice, session: Default) -> dict[str, int]:
    """Write an invoice. One that is due later has no edge: a pass finds it on its day."""
    await _account(session, asked.account)
    today = datetime.now(UTC).date()
    made = Invoice(account_id=asked.account, amount=asked.amount, due_on=asked.due_on or today)
    session.add(made)
    await session.flush()
    if made.due_on <= today:
        ChargeInvoice.after_commit(session).perform_async(made.id)
    await session.commit()
    return {"id": made.id}


@app.post("/reminders", status_code=201)
async def remind(asked: NewReminder, session: Default) -> dict[str, int]:
    """Keep a reminder. There is nothing to push: its reconciler has it due at its moment."""
    await _account(session, asked.account)
    made = Reminder(
        account_id=asked.account, text=asked.text, send_at=asked.send_at.astimezone(UTC)
    )
    session.add(made)
    await session.commit()
    return {"id": made.id}


@app.post("/workspaces", status_code=201)
async def build(asked: NewWorkspace, session: Infra) -> dict[str, str]:
    """Ask for a workspace; 409 if the tenant has one of this name."""
    session.add(Workspace(tenant=asked.tenant, name=asked.name))
    await _flush(session, f"{asked.tenant} has a workspace {asked.name}")
    BuildWorkspace.after_commit(session).perform_async(asked.tenant, asked.name)
    await session.commit()
    return {"tenant": asked.tenant, "name": asked.name}


@app.get("/workspaces/{tenant}/{name}")
async def workspace(tenant: str, name: str, session: Infra) -> dict[str, str]:
    """Say where a workspace stands."""
    found = await session.get(Workspace, (tenant, name))
    if found is None:
        raise HTTPException(404, f"{tenant} has no workspace {name}")
    return {"tenant": tenant, "name": name, "state": found.state}


@app.get("/mails")
async def mails(session: Default) -> dict[str, int]:
    """Count the mails in the outbox."""
    return {"count": await session.scalar(select(func.count(Mail.id))) or 0}


async def _flush(session: AsyncSession, taken: str) -> None:
    try:
        await session.flush()
    except exc.IntegrityError:
        raise HTTPException(409, taken) from None


async def _account(session: AsyncSession, account: UUID) -> None:
    if await session.get(Account, account) is None:
        raise HTTPException(404, f"there is no account {account}")
