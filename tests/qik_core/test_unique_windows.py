"""How long a unique job holds its key: deletions, windows, one call that differs, and losses of Redis."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from qik_core import (
    Code,
    DefinitionError,
    Dirtied,
    Duplicate,
    Enqueued,
    client,
)
from qik_core.api import DeadSet, Queue, RetrySet, ScheduledSet
from qik_core.passes import Passes
from qik_core.payload import Payload
from qik_core.store.exchange import Kind
from qik_core.store.worker import Held
from tests.qik_core.store.rig import Rig, Worker, done
from tests.qik_core.unique import (
    Brief,
    Invoice,
    Started,
    copies,
    fail,
    fetch_one,
    jid_of,
    locks,
    passed,
    tell,
)

pytestmark = pytest.mark.usefixtures("default_client")


# --- deletions -----------------------------------------------------------------------------------


@pytest.mark.every_server
def test_deleting_through_the_api_frees_the_lock_in_every_state(rig: Rig, worker: Worker) -> None:
    for place in (Queue(), ScheduledSet(), RetrySet(), DeadSet()):
        if isinstance(place, ScheduledSet):
            Invoice.perform_in(60, 7)
        else:
            Invoice.perform_async(7)
        if isinstance(place, (RetrySet, DeadSet)):
            fail(worker, Kind.DEAD if isinstance(place, DeadSet) else Kind.RETRY)
        [job] = place

        assert place.delete(job)

        assert rig.locks() == 0, place
        assert isinstance(Invoice.perform_async(7), Enqueued)
        Queue().clear()


@pytest.mark.every_server
def test_a_list_deleted_by_hand_is_proven_and_its_locks_are_collected(rig: Rig) -> None:
    passes = Passes(client.current().store)
    Invoice.perform_bulk([(number, False) for number in range(20)])
    Invoice.perform_in(60, 20)
    rig.raw.delete("queue:default")
    assert tell(7) is Code.DUPLICATE_QUEUED

    assert passes.audit(["default"])
    assert passes.roll(time.monotonic() + 5)

    assert rig.locks() == 1
    assert rig.raw.hget("qik:counts", "lock_without_job") == b"20"
    assert tell(7) is Code.ENQUEUED
    assert tell(20) is Code.DUPLICATE_SCHEDULED
    assert not passes.audit(["default"])


# --- the window ----------------------------------------------------------------------------------


@pytest.mark.every_server
def test_a_backlog_longer_than_the_window_gives_edges_sidekiqs_window_and_passes_no_copy(
    rig: Rig, worker: Worker
) -> None:
    old = jid_of(Brief.perform_async(7))
    passed(rig)

    for _ in range(3):
        assert tell(7, Brief) is Code.DUPLICATE_QUEUED
    assert copies(rig) == 1
    assert rig.raw.exists("qik:roll")
    new = jid_of(Brief.perform_async(7))
    assert new != old
    assert Brief.perform_async(7) == Duplicate(new, Code.DUPLICATE_QUEUED)

    job = fetch_one(worker)
    assert Payload.decode(job.raw).jid == new
    worker.exchange(done(job), want=0)
    assert (copies(rig), rig.locks()) == (0, 0)


def test_a_roll_renews_the_window_of_a_job_that_still_waits(rig: Rig) -> None:
    first = jid_of(Brief.perform_async(7))
    passed(rig)

    assert Passes(client.current().store).roll(time.monotonic() + 5)

    assert Brief.perform_async(7) == Duplicate(first, Code.DUPLICATE_QUEUED)
    assert copies(rig) == 1


def test_the_window_of_a_scheduled_job_begins_when_it_is_due(rig: Rig) -> None:
    Invoice.perform_in(timedelta(days=3), 7)

    [record] = locks(rig)
    wanted = time.time() + 3 * 86_400 + 3_600
    assert abs(int(record[8:18]) - wanted) < 10


def test_a_running_job_outlives_its_window_while_its_process_beats(
    rig: Rig, worker: Worker
) -> None:
    first = jid_of(Brief.perform_async(7))
    fetch_one(worker)
    [record] = locks(rig)
    generation = rig.store.look().generation
    name = next(each for each in rig.raw.hkeys(f"qik:unique:{generation}") if each != b"#")
    rig.raw.hset(f"qik:unique:{generation}", name, record[:8] + b"1000000000" + record[18:])

    assert tell(7, Brief) is Code.DUPLICATE_RUNNING
    assert Brief.perform_async(7) == Dirtied(first)
    worker.beat()

    [renewed] = locks(rig)
    assert int(renewed[8:18]) > time.time()
    assert copies(rig) == 0


# --- until start ---------------------------------------------------------------------------------


@pytest.mark.every_server
def test_a_lock_until_start_is_free_as_soon_as_the_job_runs(rig: Rig, worker: Worker) -> None:
    first = jid_of(Started.perform_async(7))
    assert Started.perform_async(7) == Duplicate(first, Code.DUPLICATE_QUEUED)
    job = fetch_one(worker)

    assert rig.locks() == 0
    second = jid_of(Started.perform_async(7))
    assert second != first
    worker.exchange(done(job), want=0)

    assert Started.perform_async(7) == Duplicate(second, Code.DUPLICATE_QUEUED)


# --- one call without, or with another window ----------------------------------------------------


def test_one_call_may_go_past_the_lock(rig: Rig, worker: Worker) -> None:
    Invoice.perform_async(7)
    assert isinstance(Invoice.set(unique_for=False).perform_async(7), Enqueued)
    assert list(Invoice.set(unique_for=False).perform_bulk([(7, False)] * 2)) == [Code.ENQUEUED] * 2
    assert copies(rig) == 4
    assert rig.locks() == 1

    jobs = worker.fetch()
    assert len(jobs) == 4
    worker.exchange(*map(done, jobs), want=0)
    assert rig.locks() == 0


def test_one_call_may_have_another_window(rig: Rig) -> None:
    Invoice.set(unique_for=timedelta(days=2)).perform_async(7)

    [record] = locks(rig)
    assert abs(int(record[8:18]) - time.time() - 2 * 86_400) < 10
    assert isinstance(Invoice.perform_async(7), Duplicate)


def test_a_window_that_cannot_be_is_refused() -> None:
    with pytest.raises(DefinitionError, match="unique_for"):
        Invoice.set(unique_for=0).perform_async(7)


# --- when Redis loses its data -------------------------------------------------------------------


@pytest.mark.every_server
def test_after_a_flush_a_running_job_takes_its_lock_again_before_another_can_start(
    rig: Rig, worker: Worker
) -> None:
    Invoice.perform_async(7)
    job = fetch_one(worker)
    rig.raw.flushall()
    rig.store.look()  # an epoch without its hold

    assert isinstance(Invoice.perform_async(7), Enqueued)
    mark = f"{worker.sequence}:1"
    assert worker.store.hold(rig.link, [Held(job.field, False, job.raw)], mark=mark) == set()

    other_worker = rig.worker("host:2:bbbb")
    assert other_worker.fetch() == []
    assert rig.raw.hget("qik:counts", "superseded") == b"1"
    worker.exchange(done(job), want=0)
    assert len(rig.queued()) == 1  # once more, as an edge came while it ran


def test_a_lock_of_an_epoch_that_is_gone_counts_as_absent(rig: Rig) -> None:
    first = jid_of(Invoice.perform_async(7))
    rig.raw.delete("qik:epoch")

    assert jid_of(Invoice.perform_async(7)) != first
