"""Scenarios 18, 19 and 54: one key is one job, however often, from wherever and as whatever it is pushed."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest

from qik_core import Job, registry
from qik_core.errors import ArgumentError
from qik_core.results import Duplicate, Enqueued
from tests.acceptance.scenarios.world import Size, Work, World, idle, locks, sizes
from tests.waiting import eventually

THREADS = 50


@pytest.mark.usefixtures("edges")
@sizes(fast=30, full=1_000, times=20, databases=("sqlite",))
def test_scenario_18_fifty_threads_that_push_the_same_keys_make_one_job_each(
    size: Size, raw: Any
) -> None:
    together = Barrier(THREADS)

    def push(_: int) -> Counter[type]:
        together.wait(30)
        return Counter(type(Work.perform_async(each)) for each in range(size.rows))

    with ThreadPoolExecutor(THREADS) as pool:
        answers = sum(pool.map(push, range(THREADS)), Counter[type]())

    assert answers == {Enqueued: size.rows, Duplicate: (THREADS - 1) * size.rows}
    assert raw.llen("queue:work") == len(locks(raw)) == size.rows


@pytest.mark.usefixtures("edges")
@sizes(fast=None, full=100)
def test_scenario_19_a_key_as_text_is_refused_and_never_a_second_job(
    world: World, size: Size, raw: Any
) -> None:
    world.plain()
    rows = range(1, size.rows + 1)
    world.fill(rows)
    for each in rows:
        with pytest.raises(ArgumentError, match="item_id"):
            Work.perform_async(str(each))  # type: ignore[arg-type]
        Work.perform_async(each)
    world.begin()

    world.await_done(30)
    eventually(lambda: idle(raw))
    world.check_exactly_once(rows)
    assert world.pushed() == 0


KEYED = '''
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from sqlalchemy import DateTime, Numeric, String, TypeDecorator, insert, update
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column
from tests.acceptance.scenarios.stage import Base

class Moment(TypeDecorator):
    """Aware times, kept without a zone, in UTC."""

    impl = DateTime().with_variant(mysql.DATETIME(fsp=6), "mariadb")
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value, dialect):
        return value.replace(tzinfo=UTC)

class Thing(Base):
    __tablename__ = "thing"
    token: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    amount: Mapped[Decimal] = mapped_column(Numeric(20, 6), primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment, primary_key=True)
    name: Mapped[str] = mapped_column(String(40, collation={collation}), primary_key=True)
    state: Mapped[str] = mapped_column(String(20), default="pending")
    effects: Mapped[int] = mapped_column(default=0)

class Touch(Job, queue="work", unique_for=600):
    def perform(self, token: uuid.UUID, amount: Decimal, at: datetime, name: str) -> None:
        mine = (Thing.token == token, Thing.amount == amount, Thing.at == at, Thing.name == name)
        with engine().begin() as connection:
            done = connection.execute(update(Thing).where(*mine).values(state="done", effects=Thing.effects + 1))
        assert done.rowcount == 1

class Things(Reconciler, every={every}):
    pending = derive(Touch, select(Thing.token, Thing.amount, Thing.at, Thing.name).where(Thing.state == "pending"))

LETTERS = ["a", "\\u00c4", "\\u65e5\\u672c", ":/%", "\\U0001f600", "'\\"\\\\\\\\", " x"]

def keys(count):
    for n in range(count):
        yield (uuid.uuid5(uuid.NAMESPACE_DNS, str(n)), Decimal(n * 7 - 30) / 1_000_000,
               datetime(2026, 3, 29, 12, 0, 0, n, UTC), LETTERS[n % 7] + str(n))

def fill(count):
    Base.metadata.create_all(engine())
    names = ("token", "amount", "at", "name")
    with engine().begin() as connection:
        connection.execute(insert(Thing), [dict(zip(names, key)) for key in keys(count)])

def push(count):
    return Touch.perform_bulk(list(keys(count)))

def effects():
    with engine().connect() as connection:
        return sorted(connection.execute(select(Thing.effects)).scalars())
'''


@sizes(fast=21, full=500, databases=("sqlite", "postgres", "mariadb"))
def test_scenario_54_composite_keys_of_any_type_meet_in_one_lock(
    world: World, size: Size, raw: Any
) -> None:
    """Processes with other hashes of strings push the same keys. That the digest itself stays the same from version to
    version of Python is held by its golden values below."""
    collation = '"utf8mb4_bin"' if size.database == "mariadb" else "None"
    world.define(KEYED, every=0.5, collation=collation)
    world.python(f"fill({size.rows})")
    codes = [
        world.python(f"print(sorted(map(str, push({size.rows}).codes)))", PYTHONHASHSEED=seed)
        for seed in ("1", "2")
    ]
    assert codes[0].count("'enqueued'") == size.rows
    assert codes[1].count("'duplicate_queued'") == size.rows

    world.reconcile()
    world.await_passes(2, "Things")

    assert world.codes("Things").keys() == {"told"}
    world.start_work()
    eventually(lambda: idle(raw), 30)
    assert world.python("print(effects())").strip() == str([1] * size.rows)


DIGESTS = [
    b"bsZL3DSZLnb79kRw-Fgqyw",
    b"D7AGTnlCGnBDnXbR2NA0tA",
    b"tFtGnqGGLUiDjjXbhh-o2g",
]


def test_scenario_54_digests_of_keys_stay_the_same_for_ever() -> None:
    """They are in Redis while a deploy moves on to another version of Python, or of this package."""
    with registry.scope():

        class Kept(Job, unique_for=600):
            def perform(self, token: UUID, amount: Decimal, at: datetime, name: str) -> None: ...

    rows = [
        (UUID(int=7), Decimal("1.10"), datetime(2026, 3, 29, 12, tzinfo=UTC), "a"),
        (UUID(int=2**127), Decimal("-0.000001"), datetime(1999, 1, 1, 0, 0, 0, 1, UTC), "\xc4 '\""),
        (UUID(int=0), Decimal("1E+3"), datetime(2026, 3, 29, tzinfo=UTC), "\N{GRINNING FACE}"),
    ]

    assert Kept.definition.digests(rows) == DIGESTS
