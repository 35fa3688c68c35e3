"""What a unique job meets, row by row: Sidekiq's promises, and what its users asked for beyond them.

Pushes go through the public calls; a worker is a process that exchanges by hand, so that each moment can be looked at.
"""

from __future__ import annotations

import pytest

from qik_core import (
    Advanced,
    Code,
    Dirtied,
    Duplicate,
    Enqueued,
    client,
)
from qik_core.passes import Passes
from qik_core.payload import Payload
from qik_core.store import due, recovery
from qik_core.store.exchange import Kind
from tests.qik_core.store.rig import Rig, Worker, done, other
from tests.qik_core.unique import (
    HOUR,
    Account,
    Brief,
    Invoice,
    Refund,
    copies,
    fail,
    fetch_one,
    jid_of,
    locks,
    passed,
    tell,
)
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("default_client")


# --- what is one key -----------------------------------------------------------------------------


def test_the_key_is_class_and_arguments_whatever_the_queue_and_however_they_are_written() -> None:
    first = jid_of(Invoice.perform_async(7))

    for again in (
        Invoice.perform_async(7),
        Invoice.perform_async(number=7),
        Invoice.perform_async(7, False),
        Invoice.perform_async(force=False, number=7),
        Invoice.set(queue="high").perform_async(7),
        Invoice.set(retry=2, tags=["x"]).perform_async(7),
    ):
        assert (again, bool(again)) == (Duplicate(first, Code.DUPLICATE_QUEUED), True)

    assert Invoice.perform_async(7, True) == Enqueued(jid_of(Invoice.perform_async(7, True)))
    assert isinstance(Refund.perform_async(7), Enqueued)
    assert isinstance(Invoice.perform_async(8), Enqueued)


def test_fewer_arguments_may_make_the_key(rig: Rig) -> None:
    assert isinstance(Account.perform_async(1, "first"), Enqueued)

    assert isinstance(Account.perform_async(1, "other"), Duplicate)
    assert isinstance(Account.perform_async(2, "first"), Enqueued)


def test_a_bulk_push_meets_its_own_duplicates(rig: Rig) -> None:
    result = Invoice.perform_bulk([(1, False), (2, False), (1, False)])

    assert list(result) == [Code.ENQUEUED, Code.ENQUEUED, Code.DUPLICATE_QUEUED]
    assert copies(rig) == 2


# --- what a duplicate meets ----------------------------------------------------------------------


@pytest.mark.every_server
def test_a_duplicate_of_a_queued_job_is_refused(rig: Rig) -> None:
    first = jid_of(Invoice.perform_async(7))

    assert Invoice.perform_async(7) == Duplicate(first, Code.DUPLICATE_QUEUED)
    assert Invoice.perform_in(60, 7) == Duplicate(first, Code.DUPLICATE_QUEUED)
    assert tell(7) is Code.DUPLICATE_QUEUED
    assert copies(rig) == 1


@pytest.mark.every_server
def test_an_edge_brings_a_scheduled_duplicate_forward_and_a_pass_does_not(rig: Rig) -> None:
    first = jid_of(Invoice.perform_in(HOUR, 7))
    assert tell(7) is Code.DUPLICATE_SCHEDULED
    assert Invoice.perform_in(60, 7) == Duplicate(first, Code.DUPLICATE_SCHEDULED)
    assert rig.raw.zcard("schedule") == 1

    assert Invoice.perform_async(7) == Advanced(first)

    assert (rig.raw.zcard("schedule"), rig.queued()) == (0, [first])
    assert Invoice.perform_async(7) == Duplicate(first, Code.DUPLICATE_QUEUED)


def test_an_edge_brings_a_jittered_job_of_a_pass_forward(rig: Rig) -> None:
    Passes(client.current().store).push(Invoice, [(7,)], delays=[60.0])

    assert isinstance(Invoice.perform_async(7), Advanced)
    assert copies(rig) == 1
    assert rig.raw.zcard("qik:later:default") == 0


@pytest.mark.every_server
def test_an_edge_that_meets_a_running_job_runs_it_once_more_after_it_ends(
    rig: Rig, worker: Worker
) -> None:
    first = jid_of(Invoice.perform_async(7))
    job = fetch_one(worker)

    assert tell(7) is Code.DUPLICATE_RUNNING
    assert Invoice.perform_async(7) == Dirtied(first)
    assert Invoice.perform_async(7) == Dirtied(first)
    assert copies(rig) == 0
    worker.exchange(done(job), want=0)
    assert rig.queued() == [first]

    worker.exchange(done(fetch_one(worker)), want=0)
    assert (copies(rig), rig.locks()) == (0, 0)


def test_a_pass_alone_never_runs_a_job_twice(rig: Rig, worker: Worker) -> None:
    assert tell(7) is Code.ENQUEUED
    job = fetch_one(worker)
    for _ in range(3):
        assert tell(7) is Code.DUPLICATE_RUNNING
    worker.exchange(done(job), want=0)

    assert (copies(rig), rig.locks()) == (0, 0)


@pytest.mark.every_server
def test_the_lock_is_held_while_a_job_waits_for_its_retry(rig: Rig, worker: Worker) -> None:
    first = jid_of(Invoice.perform_async(7))
    assert fail(worker) == first

    assert Invoice.perform_async(7) == Duplicate(first, Code.DUPLICATE_RETRYING)
    assert tell(7) is Code.DUPLICATE_RETRYING
    assert copies(rig) == 1


def test_a_dirty_run_that_fails_is_one_retry_and_no_second_copy(rig: Rig, worker: Worker) -> None:
    first = jid_of(Invoice.perform_async(7))
    job = fetch_one(worker)
    Invoice.perform_async(7)

    worker.exchange(other(job, Kind.RETRY, 60.0), want=0)

    assert copies(rig) == 1
    assert Invoice.perform_async(7) == Duplicate(first, Code.DUPLICATE_RETRYING)


@pytest.mark.parametrize("kind", [Kind.DEAD, Kind.GONE])
def test_a_dirty_run_that_dies_or_is_discarded_runs_again_all_the_same(
    rig: Rig, worker: Worker, kind: Kind
) -> None:
    first = jid_of(Invoice.perform_async(7))
    job = fetch_one(worker)
    Invoice.perform_async(7)

    worker.exchange(other(job, kind), want=0)

    assert rig.queued() == [first]
    assert isinstance(Invoice.perform_async(7), Duplicate)


@pytest.mark.parametrize("kind", [Kind.DEAD, Kind.GONE])
def test_death_and_discarding_free_the_lock(rig: Rig, worker: Worker, kind: Kind) -> None:
    first = jid_of(Invoice.perform_async(7))
    fail(worker, kind)

    assert jid_of(Invoice.perform_async(7)) != first
    assert copies(rig) == 1


# --- the own id ----------------------------------------------------------------------------------


@pytest.mark.every_server
@pytest.mark.parametrize("state", ["queued", "scheduled", "running", "retrying"])
def test_a_job_is_never_blocked_by_itself(rig: Rig, worker: Worker, state: str) -> None:
    mine = Invoice.set(jid="mine")
    assert (mine.perform_in(60, 7) if state == "scheduled" else mine.perform_async(7)) == Enqueued(
        "mine"
    )
    if state == "running":
        fetch_one(worker)
    if state == "retrying":
        fail(worker)
    rig.raw.delete("qik:sent:mine")
    before, held = copies(rig), locks(rig)

    assert mine.perform_async(7) == Enqueued("mine")

    assert (copies(rig), locks(rig)) == (before, held)


@pytest.mark.parametrize("key", [b"schedule", b"retry"])
def test_a_job_that_becomes_due_finds_its_own_lock_and_runs(
    rig: Rig, worker: Worker, key: bytes
) -> None:
    if key == b"schedule":
        first = jid_of(Invoice.perform_in(0.05, 7))
    else:
        first = jid_of(Invoice.perform_async(7))
        fail(worker, delay=0.05)
    eventually(lambda: due.promote(rig.link, key).jobs)

    job = fetch_one(worker)
    assert Payload.decode(job.raw).jid == first
    worker.exchange(done(job), want=0)
    assert rig.locks() == 0


# --- who releases --------------------------------------------------------------------------------


def test_success_after_retries_frees_the_lock(rig: Rig, worker: Worker) -> None:
    Invoice.perform_async(7)
    fail(worker, delay=0.01)
    eventually(lambda: due.promote(rig.link, b"retry").jobs)
    worker.exchange(done(fetch_one(worker)), want=0)

    assert rig.locks() == 0
    assert isinstance(Invoice.perform_async(7), Enqueued)


@pytest.mark.every_server
def test_a_run_whose_job_went_to_another_process_frees_nothing(rig: Rig, worker: Worker) -> None:
    first = jid_of(Invoice.perform_async(7))
    job = fetch_one(worker)
    beat = rig.raw.zscore("qik:alive", worker.identity)
    assert recovery.fence(rig.link, worker.identity, b"-" if beat is None else b"%.6f" % beat)
    assert recovery.recover(rig.link, worker.identity, rig.store.candidate) == 1
    second = rig.worker("host:2:bbbb")
    again = fetch_one(second)

    assert worker.exchange(done(job), want=0).status == "fenced"
    assert rig.locks() == 1
    assert Invoice.perform_async(7) == Dirtied(first)
    second.exchange(done(again), want=0)
    assert rig.queued() == [first]


def test_an_older_copy_that_ends_leaves_the_lock_of_the_newer_one_alone(
    rig: Rig, worker: Worker
) -> None:
    old = jid_of(Brief.perform_async(7))
    passed(rig)
    new = jid_of(Brief.perform_async(7))
    assert (old != new, copies(rig)) == (True, 2)

    job = fetch_one(worker)

    assert Payload.decode(job.raw).jid == new
    assert rig.raw.hget("qik:counts", "superseded") == b"1"
    assert Brief.perform_async(7) == Dirtied(new)
