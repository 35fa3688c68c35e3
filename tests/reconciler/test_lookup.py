from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import DateTime, Engine, select
from sqlalchemy import Enum as SqlEnum
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job
from qik_core.passes import Passes
from qik_core.store.exchange import Kind
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.lookup import KeyNotUnderstood, NoSuchJob, key_of, row_of_jid
from reconciler.quarantine import RowStates
from tests.qik_core.store.rig import Rig, other
from tests.reconciler.ends import end
from tests.reconciler.sharded import shard, sharded
from tests.reconciler.shop import Item, Member, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


class Base(DeclarativeBase):
    """A table with keys of many types."""


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Thing(Base):
    __tablename__ = "thing"
    number: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[UUID] = mapped_column(primary_key=True)
    price: Mapped[Decimal] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    colour: Mapped[Colour] = mapped_column(SqlEnum(Colour), primary_key=True)


class Word(Base):
    __tablename__ = "word"
    text: Mapped[str] = mapped_column(primary_key=True)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Nothing here depends on the kind of database."""
    return sqlite_url


def members() -> Definition:
    class Meet(Job, unique_for=60):
        def perform(self, org_id: int, user_id: int) -> None: ...

    class Members(Reconciler, every=60):
        pending = derive(Meet, select(Member.org_id, Member.user_id))

    return Members.definition


def things() -> Definition:
    class Make(Job, unique_for=60):
        def perform(
            self, number: int, token: UUID, price: Decimal, day: date, at: datetime, colour: Colour
        ) -> None: ...

    class Things(Reconciler, every=60):
        pending = derive(
            Make,
            select(Thing.number, Thing.token, Thing.price, Thing.day, Thing.at, Thing.colour),
        )

    return Things.definition


def test_one_column_takes_a_plain_value_or_its_name() -> None:
    definition = items(PENDING)

    assert key_of(definition, ["7"]) == key_of(definition, ["id=7"]) == (7,)


def test_several_columns_are_named_in_any_order() -> None:
    assert key_of(members(), ["user_id=2", "org_id=1"]) == (1, 2)


def test_values_are_read_as_their_columns_have_them() -> None:
    token = UUID(int=5)

    key = key_of(
        things(),
        [
            "number=1",
            f"token={token}",
            "price=9.50",
            "day=2026-11-22",
            "at=2026-11-22T07:00:00",
            "colour=b",
        ],
    )

    assert key == (
        1,
        token,
        Decimal("9.50"),
        date(2026, 11, 22),
        datetime(2026, 11, 22, 7, tzinfo=UTC),
        Colour.BLUE,
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["org_id=1"], "user_id is missing"),
        (["1", "2"], "the key of Members is org_id=… user_id=…"),
        (["org_id=1", "usr_id=2"], "did you mean 'user_id'"),
        (["org_id=one", "user_id=2"], "org_id is a int, and 'one' is none"),
        (["org_id=1", "user_id=2", "email=x"], "'email' is not of it"),
    ],
)
def test_what_is_no_key_is_refused_with_the_key(words: list[str], told: str) -> None:
    with pytest.raises(KeyNotUnderstood, match=told.replace("…", ".")):
        key_of(members(), words)


def test_more_values_than_a_key_of_one_column_has_are_counted() -> None:
    with pytest.raises(KeyNotUnderstood) as caught:
        key_of(items(PENDING), ["1", "2"])

    assert str(caught.value) == "the key of Items is one value (id), and 2 were given"


def test_a_text_with_a_sign_of_equality_in_it_is_a_plain_value() -> None:
    class Note(Job, unique_for=60):
        def perform(self, text: str) -> None: ...

    class Notes(Reconciler, every=60):
        pending = derive(Note, select(Word.text))

    assert key_of(Notes.definition, ["a=b"]) == ("a=b",)


def test_a_row_is_found_by_its_job_wherever_that_is(
    home: Engine, seam: Passes, redis_url: str, raw: Any
) -> None:
    worker = Rig(redis_url, raw).worker()
    fill(home, [1, 2])
    definition = items(PENDING)
    seam.push(definition.job, [(1,), (2,)])
    first = worker.exchange(queues=("work",), want=1).jobs[0]
    worker.exchange(other(first, Kind.DEAD), queues=("work",), want=0)
    jids = [seam.trace(seam.digests(definition.job, [(1,)])[0].decode()).dead]
    queued = seam.trace(seam.digests(definition.job, [(2,)])[0].decode()).jid

    assert jids[0] is not None
    assert row_of_jid(jids[0].jid, seam, home).key == (1,)
    assert row_of_jid(queued, seam, home).key == (2,)


def test_a_row_that_is_held_back_is_found_by_its_last_job_after_a_flush(
    home: Engine, seam: Passes, raw: Any
) -> None:
    definition = items(PENDING)
    end(raw, definition, (7,), jid="abc123")
    RowStates(home, seam).drain()
    raw.flushall()

    assert row_of_jid("abc123", seam, home).key == (7,)


def test_a_row_of_a_shard_is_found_with_its_shard(
    tmp_path: Any, home: Engine, seam: Passes
) -> None:
    url = shard(tmp_path, "north", 1)
    definition = sharded(lambda: {"north": url})
    seam.push(definition.job, [("north", 1)])
    jid = seam.trace(seam.digests(definition.job, [("north", 1)])[0].decode()).jid

    meant = row_of_jid(jid, seam, home)

    assert (meant.definition.shard, meant.key) == ("north", (1,))


def test_a_job_that_is_gone_or_that_nobody_tells_is_said_to_be(home: Engine, seam: Passes) -> None:
    class Alone(Job, unique_for=60):
        def perform(self) -> None: ...

    seam.push(Alone, [()])
    jid = seam.trace(seam.digests(Alone, [()])[0].decode()).jid

    with pytest.raises(NoSuchJob, match="has ended well"):
        row_of_jid("nobody", seam, home)
    with pytest.raises(NoSuchJob, match="no reconciler tells such jobs"):
        row_of_jid(jid, seam, home)
