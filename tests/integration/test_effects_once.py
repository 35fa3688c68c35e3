"""Two real workers on one key, its lock taken away from under the first: what `guard=` makes of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, create_engine, text

from qik_core import Enqueued, Job, client, registry, settings
from qik_core.settings import Settings
from tests.integration.shop import NOTES, Shop, drained
from tests.waiting import eventually

APP = (
    NOTES
    + """
from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from reconciler import Guard, Reconciler, derive

class Base(DeclarativeBase):
    pass

class Bill(Base):
    __tablename__ = "bill"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(10))
    claimed_until: Mapped[float | None]

class Effect(Base):
    __tablename__ = "effect"
    number: Mapped[int] = mapped_column(primary_key=True)
    bill: Mapped[int]

OPEN = select(Bill.id).where(Bill.state == "open")
GUARDS = {
    "none": {},
    "claim": {"guard": Guard.claim(Bill.claimed_until, 60)},
    "row_lock": {"guard": Guard.row_lock()},
    "advisory": {"guard": Guard.advisory()},
}

class Charge(Job, unique_for=600, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        while not (HERE / "go").exists():
            time.sleep(0.01)
        with self.context.session() as session:
            session.add(Effect(bill=n))
            session.get_one(Bill, n).state = "paid"
        note("end", n)

class Bills(Reconciler, every=3600, **GUARDS[os.environ["GUARD"]]):
    pending = derive(Charge, OPEN)
"""
)
USUAL = [("sqlite", "claim"), ("postgres", "row_lock")]
REST = [
    ("postgres", "claim"),
    ("postgres", "advisory"),
    ("mariadb", "claim"),
    ("mariadb", "row_lock"),
    ("mariadb", "advisory"),
]
FORCED = [
    *(pytest.param(*each, id="-".join(each)) for each in USUAL),
    *(pytest.param(*each, id="-".join(each), marks=pytest.mark.slow) for each in REST),
]


@pytest.fixture
def bills(database_url: str, shop: Shop) -> Iterator[Engine]:
    """The shop's database with one open bill, 7."""
    shop.environment |= {"DATABASE_URL": database_url, "GUARD": "none"}
    engine = create_engine(database_url)
    with engine.begin() as connection:
        numbered = {"postgresql": "SERIAL", "sqlite": "INTEGER"}.get(
            engine.dialect.name, "INTEGER AUTO_INCREMENT"
        )
        for statement in (
            "CREATE TABLE bill (id INTEGER PRIMARY KEY, state VARCHAR(10), claimed_until DOUBLE PRECISION)",
            f"CREATE TABLE effect (number {numbered} PRIMARY KEY, bill INTEGER)",
            "INSERT INTO bill VALUES (7, 'open', NULL)",
        ):
            connection.execute(text(statement))
    yield engine
    engine.dispose()


def effects(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM effect")).scalar_one())


def forget_locks(raw: redis.Redis) -> None:
    """Take every lock away, as nothing but a mistake of ours or of an operator would."""
    for key in raw.scan_iter("qik:unique:*"):
        for field in raw.hkeys(key):
            if field != b"#":
                raw.hdel(key, field)


def due_now(raw: redis.Redis) -> None:
    """Let whatever waits for later run now."""
    for member in raw.zrange("schedule", 0, -1):
        assert isinstance(member, bytes)
        raw.zadd("schedule", {member: 0})


@pytest.fixture
def charge(redis_url: str) -> Iterator[Any]:
    """The shop's job, to be pushed from this process: between two beats of a worker."""
    settings.use(Settings(redis=redis_url))
    with registry.scope():

        class Charge(Job, unique_for=600, retry=3):
            def perform(self, n: int) -> None: ...

        yield Charge
    client.current().store.close()
    settings.use(None)


def overlap(shop: Shop, raw: redis.Redis, charge: Any) -> None:
    """Let one worker run bill 7, and give it to another as if nobody did."""
    charge.perform_async(7)
    shop.work()
    eventually(lambda: len(shop.notes("start")) == 1)
    shop.work()

    def is_given() -> bool:
        forget_locks(raw)
        return isinstance(charge.perform_async(7), Enqueued)

    eventually(is_given)  # a beat in between brings the lock back


@pytest.mark.parametrize(("database_url", "guard"), FORCED, indirect=["database_url"])
def test_an_effect_happens_once_though_two_workers_were_given_its_key(
    shop: Shop, raw: redis.Redis, bills: Engine, charge: Any, guard: str
) -> None:
    shop.environment["GUARD"] = guard
    overlap(shop, raw, charge)
    eventually(lambda: raw.zcard("schedule") == 1)  # the second found the row taken
    assert len(shop.notes("start")) == 1

    shop.go()
    eventually(lambda: len(shop.notes("end")) == 1)
    due_now(raw)
    eventually(drained(raw))

    assert effects(bills) == 1
    assert len(shop.notes("start")) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_a_guard_such_a_mistake_runs_it_twice(
    shop: Shop, raw: redis.Redis, bills: Engine, charge: Any
) -> None:
    overlap(shop, raw, charge)
    eventually(lambda: len(shop.notes("start")) == 2)

    shop.go()
    eventually(drained(raw))

    assert effects(bills) == 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_claim_of_a_worker_that_died_lets_its_row_go_when_it_ends(
    shop: Shop, raw: redis.Redis, bills: Engine, charge: Any
) -> None:
    shop.environment["GUARD"] = "claim"
    charge.perform_async(7)
    first = shop.work()
    eventually(lambda: len(shop.notes("start")) == 1)
    for child in shop.children(first):
        os.kill(child, signal.SIGKILL)
    eventually(
        lambda: raw.zcard("schedule") == 1
    )  # run again at once, and told that the row is taken
    with bills.begin() as connection:
        connection.execute(text("UPDATE bill SET claimed_until = 1"))
    shop.go()
    due_now(raw)
    eventually(drained(raw))

    assert effects(bills) == 1
