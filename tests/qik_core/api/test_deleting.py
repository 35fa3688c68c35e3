from __future__ import annotations

import pytest

from qik_core.api import (
    Act,
    DeadSet,
    Queue,
    RetrySet,
)
from qik_core.errors import ArgumentError
from qik_core.results import Code
from tests.qik_core.api.places import (
    PLACES,
    foreign,
    name,
    nothing_missing,
    place_of,
    put,
)
from tests.qik_core.store.rig import Rig


@pytest.mark.every_server
@pytest.mark.parametrize("key", PLACES)
def test_deleting_a_job_frees_its_lock_wherever_it_waits(rig: Rig, key: str) -> None:
    put(rig, key, 1, 2)
    jobs = place_of(rig, key)
    job = jobs.find(name(1))
    assert job is not None

    assert jobs.delete(job).act is Act.DONE

    assert [each.jid for each in jobs] == [name(2)]
    assert rig.lock(1) is None
    assert (rig.lock(2) is None) == (key == "dead")
    assert rig.edge(3, keys=[1]) == [Code.ENQUEUED]
    assert nothing_missing(rig)


@pytest.mark.parametrize("key", PLACES)
def test_deleting_a_job_that_has_just_moved_changes_nothing_and_says_so(rig: Rig, key: str) -> None:
    put(rig, key, 1)
    jobs = place_of(rig, key)
    [job] = jobs
    rig.raw.delete(key)
    before = rig.lock(1)

    assert jobs.delete(job).act is Act.GONE
    assert not jobs.delete(job)
    assert rig.lock(1) == before


def test_deleting_a_copy_leaves_the_lock_of_another_job_alone(rig: Rig) -> None:
    put(rig, "retry", 1)
    [copy] = RetrySet(rig.store)
    RetrySet(rig.store).delete(copy)
    rig.edge(2, keys=[1])
    rig.raw.zadd("retry", {copy.raw: 5.0})
    rig.raw.incr("qik:n:retry")

    assert RetrySet(rig.store).delete(copy)

    assert rig.lock(1) is not None
    assert rig.edge(3, keys=[1]) == [Code.DUPLICATE_QUEUED]


def test_deleting_a_copy_leaves_the_lock_of_its_own_run_alone(rig: Rig) -> None:
    rig.edge(1)
    [job] = Queue(store=rig.store)
    rig.worker().fetch()
    rig.raw.lpush("queue:default", job.raw)
    rig.raw.incr("qik:n:queue:default")
    running = rig.lock(1)
    assert running is not None
    assert running[0] == "r"

    assert Queue(store=rig.store).delete(job)
    assert rig.lock(1) == running


def test_a_lock_until_start_is_freed_by_a_deletion_too(rig: Rig) -> None:
    put(rig, "queue:default", 1, until="start")
    [job] = Queue(store=rig.store)

    Queue(store=rig.store).delete(job)

    assert rig.locks() == 0


def test_a_job_that_ruby_wrote_anew_frees_its_lock_when_deleted(rig: Rig) -> None:
    put(rig, "retry", 1)
    [job] = RetrySet(rig.store)
    rig.raw.delete("retry")
    rig.raw.set("qik:n:retry", 0)
    fields = {key: job.fields[key] for key in reversed(list(job.fields))}
    rig.raw.zadd("retry", {foreign(**fields): 5.0})
    [again] = RetrySet(rig.store)
    assert again.foreign

    assert RetrySet(rig.store).delete(again)

    assert rig.lock(1) is None
    assert nothing_missing(rig)


def test_during_a_roll_a_deletion_frees_the_lock_in_both_generations(rig: Rig) -> None:
    put(rig, "retry", 1)
    [job] = RetrySet(rig.store)
    rig.link.run("roll_begin", (), (rig.store.candidate.text, "next", "me", 60))
    assert rig.locks() == 1

    RetrySet(rig.store).delete(job)

    assert rig.locks() == 0


def test_many_are_deleted_by_a_filter_and_the_others_stay(rig: Rig) -> None:
    rig.edge(*range(1, 501))
    rig.edge(*range(501, 1001), queue="default")
    rig.edge(*range(1001, 1201))

    tally = Queue(store=rig.store).delete_all("args:7 ")
    assert tally.done == 1
    tally = Queue(store=rig.store).delete_all("-jid:*0")

    assert (tally.done, tally.gone) == (1200 - 75 - 1, 0)
    assert [job.jid[-1] for job in Queue(store=rig.store)] == ["0"] * 75
    assert rig.locks() == 75
    assert nothing_missing(rig)


@pytest.mark.parametrize("key", PLACES)
def test_clearing_a_place_frees_every_lock(rig: Rig, key: str) -> None:
    put(rig, key, *range(1, 501))
    put(rig, key, *range(501, 751))
    jobs = place_of(rig, key)

    assert jobs.size == 750
    assert jobs.clear() == 750

    assert jobs.size == 0
    assert jobs.clear() == 0
    assert rig.locks() == 0
    assert nothing_missing(rig)


def test_the_same_bytes_twice_are_deleted_one_at_a_time(rig: Rig) -> None:
    rig.raw.lpush("queue:default", b'{"class":"X"}', b'{"class":"X"}', b'{"class":"Y"}')
    queue = Queue(store=rig.store)
    first = next(queue.matching("class:X"))

    assert queue.delete(first)
    assert [job.class_name for job in queue] == ["Y", "X"]

    rig.raw.lpush("queue:default", b'{"class":"X"}')
    assert queue.delete_all("class:X").done == 2
    assert [job.class_name for job in queue] == ["Y"]


def test_a_job_that_pushes_have_moved_along_is_still_deleted(rig: Rig) -> None:
    rig.edge(*range(1, 11))
    queue = Queue(store=rig.store)
    claims = [job.claim() for job in queue]
    rig.edge(*range(100, 600))
    rig.edge(*range(600, 700))

    flags = queue._records.drop(queue.location.key, claims, at=0, is_list=True)

    assert flags == [True] * 10
    assert rig.raw.llen("queue:default") == 600
    assert nothing_missing(rig)


def test_a_job_must_be_acted_on_where_it_was_read(rig: Rig) -> None:
    put(rig, "retry", 1)
    [job] = RetrySet(rig.store)

    with pytest.raises(ArgumentError, match="was read in retry, not in dead: act on it there"):
        DeadSet(rig.store).delete(job)
