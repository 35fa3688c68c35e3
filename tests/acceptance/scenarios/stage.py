"""What the applications of the scenarios stand on: their tables, and what their jobs do.

    item(id, state, version, effects, …)                  a row that may want a job
    effect(item_id, jid, pid, started, ended, version)    one run of a job; `ended` is NULL of a run that was cut off

Moments are monotonic seconds of this machine: they compare across processes, whatever their clocks say.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Engine,
    Integer,
    String,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job

_BIG = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The tables of the scenarios."""


class Item(Base):
    """A row that may want a job."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(20), default="pending", index=True)
    version: Mapped[int] = mapped_column(default=1)
    effects: Mapped[int] = mapped_column(default=0)
    tenant: Mapped[str] = mapped_column(String(20), default="")
    urgency: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[float | None] = mapped_column(Double)


class Effect(Base):
    """One run of a job."""

    __tablename__ = "effect"
    id: Mapped[int] = mapped_column(_BIG, primary_key=True)
    item_id: Mapped[int] = mapped_column(_BIG, index=True)
    jid: Mapped[str] = mapped_column(String(64))
    pid: Mapped[int]
    version: Mapped[int]
    started: Mapped[float] = mapped_column(Double)
    ended: Mapped[float | None] = mapped_column(Double)


def connect(url: str) -> Engine:
    """Return an engine as a careful application makes it: on SQLite each transaction waits for its turn at once."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_size=10, max_overflow=40)
    engine = create_engine(url, connect_args={"timeout": 60}, pool_size=10, max_overflow=40)

    @event.listens_for(engine, "connect")
    def _own_begin(raw: Any, _: object) -> None:
        raw.isolation_level = None
        raw.execute("PRAGMA synchronous=OFF")

    @event.listens_for(engine, "begin")
    def _immediate(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@cache
def engine() -> Engine:
    """Return this process's engine."""
    return connect(os.environ["DATABASE_URL"])


def effect(job: Job, item_id: int, seconds: float = 0.0) -> None:
    """Run as the job of a row: note the run, take so long, and have the row done unless it changed meanwhile.

    A long run notes its beginning in a transaction of its own, so that also a run that is cut off leaves its trace.
    """
    run = {"item_id": item_id, "jid": job.context.jid, "pid": os.getpid(), "started": monotonic()}
    if not seconds:
        _in_one_step(run)
        return
    number, version = _begin(run)
    wait(seconds)
    _end(item_id, number, version)


def tried(job: Job, item_id: int) -> None:
    """Note a run that will not end well, or that leaves its row as it is."""
    with engine().begin() as connection:
        version = _version(connection, item_id)
        run = {"item_id": item_id, "jid": job.context.jid, "pid": os.getpid()}
        connection.execute(insert(Effect).values(**run, version=version, started=monotonic()))


def wait(seconds: float) -> None:
    """Take so long, or until the file `go` is there."""
    go, never = Path("go"), Event()
    until = monotonic() + seconds
    while not go.exists() and (left := until - monotonic()) > 0:
        never.wait(min(left, 0.02))


def _in_one_step(run: dict[str, Any]) -> None:
    with engine().begin() as connection:
        version = _version(connection, run["item_id"])
        connection.execute(insert(Effect).values(**run, version=version, ended=monotonic()))
        connection.execute(_done(run["item_id"], version))


def _begin(run: dict[str, Any]) -> tuple[int, int]:
    with engine().begin() as connection:
        version = _version(connection, run["item_id"])
        begun = connection.execute(insert(Effect).values(**run, version=version))
    assert begun.inserted_primary_key is not None
    return begun.inserted_primary_key[0], version


def _version(connection: Connection, item_id: int) -> int:
    return int(connection.execute(select(Item.version).where(Item.id == item_id)).scalar_one())


def _end(item_id: int, number: int, version: int) -> None:
    with engine().begin() as connection:
        connection.execute(update(Effect).where(Effect.id == number).values(ended=monotonic()))
        connection.execute(_done(item_id, version))


def _done(item_id: int, version: int) -> Any:
    seen = (Item.id == item_id, Item.version == version)
    return update(Item).where(*seen).values(state="done", effects=Item.effects + 1)
