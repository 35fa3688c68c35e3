"""Jobs of a real worker with sessions on their row's database: on threads, on the event loop, in shards."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import redis

from tests.integration.shop import NOTES, Shop, drained
from tests.waiting import eventually

APP = (
    NOTES
    + """
import asyncio, sqlite3
from sqlalchemy import String, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from qik_core.settings import configure
from reconciler import Guard, Reconciler, Shards, derive

class Base(DeclarativeBase):
    pass

class Bill(Base):
    __tablename__ = "bill"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(10))
    claimed_until: Mapped[float | None]

for name in ("default", "north", "south"):
    connection = sqlite3.connect(HERE / f"{name}.db", timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS bill (id INTEGER PRIMARY KEY, state TEXT, claimed_until REAL)")
    connection.executemany("INSERT OR IGNORE INTO bill VALUES (?, 'open', NULL)", [(n,) for n in range(1, 11)])
    connection.commit()
    connection.close()

def url(name):
    return f"sqlite+aiosqlite:///{HERE}/{name}.db"

configure(databases={"default": create_async_engine(url("default"), connect_args={"timeout": 30})})
OPEN = select(Bill.id).where(Bill.state == "open")

class PayLater(Job, unique_for=600, retry=3):
    async def perform(self, n: int) -> None:
        row = await asyncio.to_thread(lambda: self.context.row)
        async with self.context.session() as session:
            (await session.get_one(Bill, row.id)).state = "paid"
        note("later", n)

class Later(Reconciler, every=3600, guard=Guard.claim(Bill.claimed_until, 60)):
    pending = derive(PayLater, OPEN)

class Pay(Job, unique_for=600, retry=3):
    def perform(self, shard: str, n: int) -> None:
        with self.context.session() as session:
            session.get_one(Bill, n).state = f"{shard}"
        note(f"in-{self.context.shard}", n)

class Sharded(Reconciler, every=3600, shards=Shards(lambda: {"north": url("north"), "south": url("south")})):
    pending = derive(Pay, OPEN)
"""
)


def states(shop: Shop, name: str) -> set[tuple[str, float | None]]:
    with closing(sqlite3.connect(shop.folder / f"{name}.db")) as connection:
        return set(connection.execute("SELECT state, claimed_until FROM bill"))


def test_async_jobs_have_a_session_a_row_and_a_guard(shop: Shop, raw: redis.Redis) -> None:
    shop.push("PayLater", *range(1, 13))
    shop.work()

    eventually(drained(raw), 20)

    assert states(shop, "default") == {("paid", None)}
    assert sorted(n for n, _, _ in shop.notes("later")) == list(range(1, 11))
    assert raw.get("stat:failed") in (None, b"0")


def test_jobs_of_shards_have_sessions_on_their_shard(shop: Shop, raw: redis.Redis) -> None:
    rows = [(shard, n) for shard in ("north", "south") for n in range(1, 12)]
    shop.run(f"import shop; shop.Pay.perform_bulk({rows!r})")
    shop.work()

    eventually(drained(raw), 20)

    assert states(shop, "north") == {("north", None)}
    assert states(shop, "south") == {("south", None)}
    assert len(shop.notes("in-north")) == len(shop.notes("in-south")) == 10
