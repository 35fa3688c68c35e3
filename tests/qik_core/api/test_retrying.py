from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from qik_core.api import (
    Act,
    DeadSet,
    LaterSet,
    Queue,
    RetrySet,
    ScheduledSet,
)
from qik_core.payload import Payload
from qik_core.results import Code
from qik_core.store import Store
from qik_core.store.exchange import Kind
from tests.qik_core.api.places import (
    foreign,
    name,
    nothing_missing,
    place_of,
    put,
)
from tests.qik_core.store.rig import Rig, digest, other


@pytest.mark.every_server
def test_a_retry_by_hand_is_not_counted_among_the_jobs_own(rig: Rig) -> None:
    put(rig, "retry", 1)
    [job] = RetrySet(rig.store)
    assert job.retry_count == 0

    assert RetrySet(rig.store).retry(job)

    [queued] = Queue(store=rig.store)
    assert queued.retry_count == -1
    assert queued.enqueued_at is not None
    assert abs(queued.enqueued_at - datetime.now(UTC)) < timedelta(seconds=5)
    assert queued.raw.startswith(b'{"qik":"')
    lock = rig.lock(1)
    assert lock is not None
    assert lock[0] == "q"
    assert lock.endswith(name(1))
    assert RetrySet(rig.store).size == 0
    assert nothing_missing(rig)
    assert len(rig.worker("host:9:aaaa").fetch()) == 1


@pytest.mark.parametrize("key", ["schedule", "qik:later:default"])
def test_an_advanced_job_is_queued_as_it_is(rig: Rig, key: str) -> None:
    put(rig, key, 1)
    jobs = place_of(rig, key)
    assert isinstance(jobs, (ScheduledSet, LaterSet))
    [job] = jobs

    assert jobs.advance(job)

    [queued] = Queue(store=rig.store)
    assert queued.raw.startswith(job.raw[:-1])
    assert queued.retry_count is None
    lock = rig.lock(1)
    assert lock is not None
    assert lock[0] == "q"
    assert rig.edge(2, keys=[1]) == [Code.DUPLICATE_QUEUED]
    assert nothing_missing(rig)


@pytest.mark.every_server
def test_a_dead_job_that_is_retried_takes_its_lock_again(rig: Rig) -> None:
    put(rig, "dead", 1)
    [job] = DeadSet(rig.store)
    assert rig.lock(1) is None

    assert DeadSet(rig.store).retry(job)

    assert rig.edge(2, keys=[1]) == [Code.DUPLICATE_QUEUED]
    assert rig.queued() == [name(1)]
    assert nothing_missing(rig)


def test_a_dead_job_whose_key_another_holds_stays_dead_and_says_who(rig: Rig) -> None:
    put(rig, "dead", 1)
    [job] = DeadSet(rig.store)
    rig.edge(2, keys=[1])

    acted = DeadSet(rig.store).retry(job)

    assert (acted.act, acted.holder) == (Act.BLOCKED, name(2))
    assert rig.queued() == [name(2)]
    assert DeadSet(rig.store).size == 1
    rig.worker("host:9:aaaa").fetch()
    assert DeadSet(rig.store).retry(job).holder == name(2)


def test_of_two_dead_jobs_of_one_key_one_is_retried(rig: Rig) -> None:
    put(rig, "dead", 1)
    rig.edge(2, keys=[1])
    worker = rig.worker("host:2:bbbb")
    worker.exchange(other(worker.fetch()[0], Kind.DEAD), want=0)

    tally = DeadSet(rig.store).retry_all()

    assert (tally.done, tally.blocked, tally.gone) == (1, 1, 0)
    assert rig.raw.llen("queue:default") == rig.raw.zcard("dead") == 1


def test_a_dead_job_comes_back_under_a_lock_whose_window_has_passed(rig: Rig) -> None:
    put(rig, "dead", 1)
    [job] = DeadSet(rig.store)
    rig.edge(2, keys=[1], queue="elsewhere")
    generation = rig.store.look().generation
    lock = rig.lock(1)
    assert lock is not None
    rig.raw.hset(f"qik:unique:{generation}", digest(1), lock[:8] + "1000000000" + lock[18:])

    assert DeadSet(rig.store).retry(job)


def test_a_retry_of_a_job_that_has_moved_changes_nothing(rig: Rig) -> None:
    put(rig, "retry", 1)
    [job] = RetrySet(rig.store)
    assert RetrySet(rig.store).retry(job).act is Act.DONE

    assert RetrySet(rig.store).retry(job).act is Act.GONE

    assert rig.queued() == [name(1)]
    assert nothing_missing(rig)


def test_a_foreign_job_is_retried_as_ruby_wrote_it(rig: Rig) -> None:
    big = 123456789012345678901234567890
    raw = foreign(args=[big, {}, []], retry_count=3, error_class="RuntimeError", enqueued_at=5.5)
    rig.raw.zadd("retry", {raw: 5.0})
    [job] = RetrySet(rig.store)

    assert RetrySet(rig.store).retry(job)

    [queued] = Queue(store=rig.store)
    assert queued.foreign
    assert queued.args == [big, {}, []]
    assert (queued.retry_count, queued.fields["error_class"]) == (2, "RuntimeError")
    assert queued.fields["enqueued_at"] > 1e9
    assert nothing_missing(rig)


def test_a_job_that_ruby_wrote_anew_is_ours_again_when_retried(rig: Rig) -> None:
    put(rig, "retry", 1)
    [job] = RetrySet(rig.store)
    rig.raw.delete("retry")
    rig.raw.set("qik:n:retry", 0)
    rig.raw.zadd("retry", {foreign(**{key: job.fields[key] for key in sorted(job.fields)}): 5.0})

    assert RetrySet(rig.store).retry_all().done == 1

    [queued] = Queue(store=rig.store)
    assert (queued.foreign, queued.unique) == (False, job.unique)
    assert nothing_missing(rig)
    assert len(rig.worker("host:9:aaaa").fetch()) == 1
    assert rig.edge(2, keys=[1]) == [Code.DIRTIED]


def test_all_are_retried_by_a_filter(rig: Rig) -> None:
    put(rig, "retry", *range(1, 501))
    put(rig, "retry", *range(501, 701))

    tally = RetrySet(rig.store).retry_all("-args:7 class:Charge")

    assert tally.done == 699
    assert rig.raw.llen("queue:default") == 699
    assert [job.args for job in RetrySet(rig.store)] == [[7]]
    assert nothing_missing(rig)


def test_a_job_that_fails_again_at_once_is_not_retried_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(rig, "retry", 1)
    retries = RetrySet(rig.store)
    [job] = retries
    late = Payload(job.fields).replace(failed_at=datetime.now(UTC).timestamp() + 60).encode()
    rig.raw.zadd("retry", {late: 9e9})
    rig.raw.incr("qik:n:retry")

    assert retries.retry_all().done == 1
    assert retries.size == 1


def test_what_is_no_job_cannot_be_retried_and_can_be_deleted(rig: Rig) -> None:
    rig.raw.zadd(
        "dead", {b"\xffnot json": 5.0, b'{"class":"X","queue":"no good"}': 6.0, b"[]": 7.0}
    )
    dead = DeadSet(rig.store)

    assert dead.retry_all().no_job == 3
    assert [job.malformed for job in dead] == [True, False, True]
    assert all(dead.delete(job) for job in dead)
    assert dead.size == 0


def test_milliseconds_are_written_where_the_wire_asks_for_them(rig: Rig) -> None:
    put(rig, "retry", 1)
    store = Store(rig.url, milliseconds=True)
    RetrySet(store).retry_all()
    store.close()

    [queued] = Queue(store=rig.store)
    assert type(queued.fields["enqueued_at"]) is int
    assert queued.fields["enqueued_at"] > 1e12
