from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from qik_core import Job
from qik_core.commits import State
from qik_core.errors import ArgumentError, NotEnqueued, QikError
from qik_core.results import Code, Duplicate, Enqueued
from tests.qik_core.jobs_of_tests import scheduled, stored
from tests.reconciler.committing import Sync, new, rows, told
from tests.reconciler.shop import Base, Item

pytestmark = pytest.mark.usefixtures("default_client")


# --- one transaction -----------------------------------------------------------------------------


def test_a_push_waits_for_the_commit_and_its_jid_is_known_before(
    session: Session, raw: redis.Redis
) -> None:
    session.add(Item(id=7, state="pending", rank=0, version=1))
    session.flush()
    deferred = Sync.after_commit(session).perform_async(7)

    assert (told(raw), deferred.state) == ([], State.WAITING)
    with pytest.raises(QikError, match=rf"Sync {deferred.jid} waits for its transaction: commit"):
        deferred.result()
    session.commit()

    assert deferred.result() == Enqueued(deferred.jid)
    assert deferred.state is State.ANSWERED
    assert [each["jid"] for each in stored(raw, "queue:work")] == [deferred.jid]


def test_a_rollback_drops_the_push_and_says_so(session: Session, raw: redis.Redis) -> None:
    deferred = Sync.after_commit(session).perform_async(7)
    session.rollback()
    session.commit()

    assert (told(raw), deferred.state) == ([], State.DROPPED)
    with pytest.raises(NotEnqueued, match="its transaction was rolled back"):
        deferred.result()


def test_a_push_may_come_before_the_first_statement(engine: Engine, raw: redis.Redis) -> None:
    with Session(engine) as session:
        Sync.after_commit(session).perform_async(1)
        session.add(Item(id=1, state="pending", rank=0, version=1))
        session.commit()
        Sync.after_commit(session).perform_async(2)
        session.rollback()
        session.commit()

    assert told(raw) == rows(engine) == [1]


def test_a_session_that_is_closed_without_a_commit_tells_nothing_nor_does_its_next_use(
    session: Session, raw: redis.Redis
) -> None:
    for end in (session.close, session.reset, session.invalidate):
        Sync.after_commit(session).perform_async(7)
        end()
        session.commit()

    assert told(raw) == []


def test_a_session_is_used_for_one_transaction_after_another(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    for number in range(1, 7):
        new(session, number)
        if number % 3 == 2:
            session.rollback()
        else:
            session.commit()

    assert told(raw) == rows(engine) == [1, 3, 4, 6]


def test_begin_as_a_block_commits_at_its_end_and_rolls_back_on_an_error(
    engine: Engine, raw: redis.Redis
) -> None:
    with Session(engine) as session, session.begin():
        new(session, 1)
    with suppress(LookupError), Session(engine) as session, session.begin():
        new(session, 2)
        raise LookupError

    assert told(raw) == rows(engine) == [1]


def test_a_commit_that_fails_tells_nothing(engine: Engine, raw: redis.Redis) -> None:
    with Session(engine) as session:
        new(session, 1)
        session.commit()
        Sync.after_commit(session).perform_async(2)
        session.add(Item(id=1, state="pending", rank=0, version=1))
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        new(session, 3)
        session.commit()

    assert told(raw) == rows(engine) == [1, 3]


def test_two_sessions_have_a_fate_each(engine: Engine, raw: redis.Redis) -> None:
    with Session(engine) as one, Session(engine) as other:
        Sync.after_commit(one).perform_async(1)
        Sync.after_commit(other).perform_async(2)
        Sync.after_commit(one).perform_async(3)
        other.rollback()
        one.commit()
        assert told(raw) == [1, 3]
        Sync.after_commit(other).perform_async(4)
        other.commit()

    assert told(raw) == [1, 3, 4]


def test_autocommit_of_the_driver_changes_nothing(postgres_url: str, raw: redis.Redis) -> None:
    engine = create_engine(postgres_url)
    Base.metadata.create_all(engine)
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        new(session, 1)
        assert (told(raw), rows(engine)) == ([], [1])
        session.commit()
    engine.dispose()

    assert told(raw) == [1]


def test_a_push_from_within_a_flush_belongs_to_the_transaction_around_it(
    engine: Engine, raw: redis.Redis
) -> None:
    class Listening(Session): ...

    @event.listens_for(Listening, "after_flush")
    def push(session: Session, _context: object) -> None:
        for row in session.new:
            assert isinstance(row, Item)
            Sync.after_commit(session).perform_async(row.id)

    with Listening(engine) as session:
        session.add(Item(id=1, state="pending", rank=0, version=1))
        session.flush()
        with suppress(LookupError), session.begin_nested():
            session.add(Item(id=2, state="pending", rank=0, version=1))
            session.flush()
            raise LookupError
        session.add(Item(id=3, state="pending", rank=0, version=1))
        session.commit()

    assert told(raw) == rows(engine) == [1, 3]


# --- savepoints ----------------------------------------------------------------------------------


def test_a_released_savepoint_tells_nothing_until_the_outermost_commit(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    new(session, 1)
    with session.begin_nested():
        new(session, 2)
        with session.begin_nested():
            new(session, 3)
        assert told(raw) == []
        new(session, 4)
    assert told(raw) == []
    new(session, 5)
    session.commit()

    assert told(raw) == rows(engine) == [1, 2, 3, 4, 5]


def test_a_savepoint_that_is_rolled_back_drops_what_was_pushed_inside_it(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    new(session, 1)
    with suppress(LookupError), session.begin_nested():
        new(session, 2)
        with session.begin_nested():
            new(session, 3)
        raise LookupError
    with session.begin_nested():
        new(session, 4)
        with suppress(LookupError), session.begin_nested():
            new(session, 5)
            raise LookupError
    session.commit()

    assert told(raw) == rows(engine) == [1, 4]


def test_an_outermost_rollback_drops_what_released_savepoints_held(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    with session.begin_nested():
        new(session, 1)
    session.rollback()
    session.commit()

    assert told(raw) == rows(engine) == []


def test_a_commit_with_open_savepoints_commits_them_too(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    new(session, 1)
    session.begin_nested()
    new(session, 2)
    session.begin_nested()
    new(session, 3)
    session.commit()

    assert told(raw) == rows(engine) == [1, 2, 3]


def test_a_flush_that_fails_inside_a_savepoint_costs_only_that(
    session: Session, engine: Engine, raw: redis.Redis
) -> None:
    new(session, 1)
    session.expunge_all()
    with suppress(IntegrityError), session.begin_nested():
        Sync.after_commit(session).perform_async(2)
        session.add(Item(id=1, state="pending", rank=0, version=1))
        session.flush()
    new(session, 3)
    session.commit()

    assert told(raw) == rows(engine) == [1, 3]


def test_two_phases_are_one_commit(postgres_url: str, raw: redis.Redis) -> None:
    engine = create_engine(postgres_url)
    Base.metadata.create_all(engine)
    with Session(engine, twophase=True) as session:
        new(session, 1)
        session.prepare()
        assert told(raw) == []
        session.commit()
        new(session, 2)
        session.prepare()
        session.rollback()

    assert told(raw) == rows(engine) == [1]
    engine.dispose()


# --- every kind of call --------------------------------------------------------------------------


def test_delays_moments_options_and_bulks_wait_too(session: Session, raw: redis.Redis) -> None:
    pusher = Sync.after_commit(session)
    pusher.perform_in(60, 1)
    pusher.perform_at(4_000_000_000, 2)
    pusher.set(queue="high").perform_async(3)
    Sync.set(queue="low").after_commit(session).perform_async(4)
    many = pusher.perform_bulk([(5,), (6,)], at=[4_000_000_001, 4_000_000_002])
    spread = pusher.perform_bulk(((n,) for n in range(7, 9)), jitter=60)

    assert [key for key in raw.scan_iter() if b"unique" not in key and key != b"qik:epoch"] == []
    session.commit()

    due = {payload["args"][0]: score for payload, score in scheduled(raw)}
    assert sorted(due) == [1, 2, 5, 6, 7, 8]
    assert (due[2], due[5], due[6]) == (4_000_000_000, 4_000_000_001, 4_000_000_002)
    assert [raw.llen("queue:high"), raw.llen("queue:low")] == [1, 1]
    assert many.result().codes == [Code.ENQUEUED] * 2
    assert many.result().jids == many.jids
    assert len(set(spread.jids)) == 2


def test_what_is_pushed_is_what_was_given_at_the_call(session: Session, raw: redis.Redis) -> None:
    class MailCommitted(Job, queue="work"):
        def perform(self, lines: list[str]) -> None: ...

    lines, many = ["a"], [(["b"],)]
    MailCommitted.after_commit(session).perform_async(lines)
    MailCommitted.after_commit(session).perform_bulk(many)
    lines.append("changed")
    many[0][0].append("changed")
    session.commit()

    assert told(raw) == [["a"], ["b"]]


def test_a_duplicate_is_an_answer_and_no_error(session: Session) -> None:
    class OnceCommitted(Job, unique_for=60):
        def perform(self, number: int) -> None: ...

    first = OnceCommitted.after_commit(session).perform_async(1)
    second = OnceCommitted.after_commit(session).perform_async(1)
    session.commit()

    assert second.result() == Duplicate(first.jid, Code.DUPLICATE_QUEUED)


def test_what_cannot_travel_is_refused_at_the_call_and_a_key_before_its_flush_says_so(
    session: Session, raw: redis.Redis
) -> None:
    item = Item(state="pending", rank=0, version=1)
    session.add(item)
    pusher = Sync.after_commit(session)

    with pytest.raises(
        ArgumentError, match=r"Sync: args\[0\] \(item_id\).*session\.flush\(\) first"
    ):
        pusher.perform_async(item.id)
    with pytest.raises(ArgumentError, match=r"item 1: Sync: args\[0\].*session\.flush\(\) first"):
        pusher.perform_bulk([(1,), (item.id,)])
    with pytest.raises(
        ArgumentError, match=r"is a str, int is wanted: convert it before the push$"
    ):
        pusher.perform_async("7")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="missing"):
        pusher.perform_async()  # type: ignore[call-arg]
    session.flush()
    pusher.perform_async(item.id)
    session.commit()

    assert told(raw) == [item.id]


@pytest.mark.parametrize(
    "given", [None, 7, "session", sessionmaker()], ids=["none", "int", "str", "sessionmaker"]
)
def test_what_is_no_session_is_refused(given: Any) -> None:
    with pytest.raises(ArgumentError, match="give it a Session, an AsyncSession or a scoped_sess"):
        Sync.after_commit(given).perform_async(7)


def test_a_session_that_begins_nothing_by_itself_is_left_alone(engine: Engine) -> None:
    with Session(engine, autobegin=False) as session:
        with pytest.raises(ArgumentError, match="begin one first"):
            Sync.after_commit(session).perform_async(7)
        with session.begin():
            assert Sync.after_commit(session).perform_async(7).jid


def test_a_scoped_session_is_the_session_of_its_thread(engine: Engine, raw: redis.Redis) -> None:
    scoped = scoped_session(sessionmaker(engine))

    def request(number: int, *, fails: bool) -> None:
        Sync.after_commit(scoped).perform_async(number)
        scoped.rollback() if fails else scoped.commit()
        scoped.remove()

    threads = [
        threading.Thread(target=request, args=(n,), kwargs={"fails": n == 2}) for n in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told(raw) == [1]
