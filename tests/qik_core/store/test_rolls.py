from __future__ import annotations

import time

import pytest

from qik_core.store import recovery, rolls
from qik_core.store.exchange import Kind
from qik_core.store.worker import Held
from tests.qik_core.store.rig import Rig, digest, done, other

pytestmark = pytest.mark.every_server


def _roll(rig: Rig, seconds: float = 5.0) -> int | None:
    return rolls.roll(rig.link, rig.store.candidate, "tester", deadline=time.monotonic() + seconds)


def test_locks_without_a_job_go_and_all_others_stay(rig: Rig) -> None:
    rig.edge(*range(1, 301))
    rig.edge(*range(301, 601))
    rig.edge(601, delays=[60.0])
    rig.tell(602, delays=[60.0])
    worker = rig.worker()
    running, failing = worker.fetch(want=2)
    worker.exchange(other(failing, Kind.RETRY, delay=60.0), want=0)
    rig.edge(*range(701, 711), queue="gone")
    rig.raw.delete("queue:gone")
    worker.beat()
    link, begun = rig.link, rig.store.look()

    attempt = rolls.Roll(link, rig.store.candidate, "tester")
    assert attempt.begin()
    assert attempt.walk()
    assert attempt.end() == -1  # the process has not beaten in the new generation
    worker.beat()
    assert attempt.end() == 10

    after = rig.store.look()
    assert after.loss == begun.loss
    assert (after.generation != begun.generation, after.previous) == (True, None)
    assert rig.locks() == 602
    assert rig.edge(1001, keys=[701])[0].value == "enqueued"
    assert rig.edge(1002, keys=[300])[0].value == "duplicate_queued"
    worker.exchange(done(running), want=0)


def test_a_deletion_by_hand_is_proven_by_counts(rig: Rig) -> None:
    rig.edge(1, 2, 3)
    rig.edge(4, delays=[60.0])
    assert rig.store.audit(["default"]) == 0

    rig.raw.delete("queue:default")
    rig.raw.delete("schedule")
    assert rig.store.audit(["default"]) == 4
    assert rig.store.audit(["default"]) == 0


def test_counts_follow_every_way_that_a_job_can_take(rig: Rig) -> None:
    rig.edge(*range(1, 21))
    worker = rig.worker()
    jobs = worker.fetch(want=10)
    worker.store.give_back(rig.link, jobs[:2])
    outcomes = [
        other(jobs[2], Kind.RETRY, delay=60.0),
        other(jobs[3], Kind.BACK),
        other(jobs[4], Kind.DEAD),
    ]
    worker.exchange(*outcomes, *[done(job) for job in jobs[5:8]], want=0)
    rig.edge(31, delays=[60.0])
    rig.edge(32, keys=[31])
    recovery.fence(rig.link, worker.identity, recovery.SURE)
    recovery.recover(rig.link, worker.identity, rig.store.candidate)

    assert rig.store.audit(["default"]) == 0
    assert int(rig.raw.get("qik:n:queue:default") or 0) == rig.raw.llen("queue:default")
    assert int(rig.raw.get("qik:n:retry") or 0) == rig.raw.zcard("retry")
    assert int(rig.raw.get("qik:n:schedule") or 0) == rig.raw.zcard("schedule") == 0


def test_one_process_walks_at_a_time_and_a_dead_one_is_followed(rig: Rig) -> None:
    rig.edge(1)
    first = rolls.Roll(rig.link, rig.store.candidate, "first")
    assert first.begin()

    second = rolls.Roll(rig.link, rig.store.candidate, "second")
    assert not second.begin()
    generation = rig.store.look().generation
    rig.raw.delete("qik:roller")
    assert second.begin()
    assert rig.store.look().generation == generation
    assert second.walk()
    assert second.end() == 0
    assert first.end() == -2


def test_pushes_and_fetches_go_on_during_a_roll(rig: Rig) -> None:
    rig.edge(1, 2)
    worker = rig.worker()
    attempt = rolls.Roll(rig.link, rig.store.candidate, "tester")
    attempt.begin()

    assert rig.edge(11, keys=[1])[0].value == "duplicate_queued"
    job = worker.fetch(want=1)[0]
    assert rig.edge(12, keys=[1])[0].value == "dirtied"
    assert rig.store.told([digest(1), digest(2), digest(9)])[0] == [True, True, False]
    again = worker.exchange(done(job), want=1).jobs
    attempt.walk()
    worker.beat()
    assert attempt.end() == 0
    worker.exchange(*[done(each) for each in again], want=10)
    worker.exchange(*[done(each) for each in worker.fetch()])
    assert rig.raw.hlen("qik:unique:" + rig.store.look().generation) - 1 == worker.held


def test_a_lost_process_holds_a_roll_up_until_it_is_recovered(rig: Rig) -> None:
    rig.edge(1)
    lost = rig.worker("host:1:lost")
    lost.fetch()

    assert _roll(rig, 0.2) is None
    recovery.fence(rig.link, lost.identity, recovery.NO_BEAT)
    assert _roll(rig, 0.2) is None
    recovery.recover(rig.link, lost.identity, rig.store.candidate)
    assert _roll(rig) == 0
    assert rig.locks() == 1


def test_a_roll_collects_the_generations_that_a_lost_epoch_left_behind(rig: Rig) -> None:
    rig.edge(1, 2)
    rig.raw.delete("qik:epoch")
    rig.edge(3)
    assert len(list(rig.raw.scan_iter("qik:unique:*"))) == 2

    assert _roll(rig) == 0
    assert list(rig.raw.scan_iter("qik:unique:*")) == [
        f"qik:unique:{rig.store.look().generation}".encode()
    ]
    assert rig.locks() == 3


def test_a_job_fetched_between_a_beat_and_its_assertion_keeps_its_lock_through_a_roll(
    rig: Rig,
) -> None:
    worker = rig.worker()
    beat = worker.store.beat(rig.link, ["info", "{}"])
    rig.edge(1)
    worker.fetch()
    attempt = rolls.Roll(rig.link, rig.store.candidate, "tester")
    attempt.begin()
    attempt.walk()
    worker.store.hold(rig.link, (), generation=beat.epoch.generation)

    assert attempt.end() == -1, "that beat named nothing in the new generation"
    worker.beat()
    assert attempt.end() == 0
    assert rig.tell(2, keys=[1])[0].value == "duplicate_running"


def test_a_roll_waits_for_a_process_whose_working_hash_somebody_deleted(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    worker.beat()
    (job,) = worker.fetch()
    rig.raw.delete(f"qik:working:{worker.identity}")
    attempt = rolls.Roll(rig.link, rig.store.candidate, "tester")
    attempt.begin()
    attempt.walk()
    assert worker.store.beat(rig.link, ["info", "{}"]).lost
    worker.beat()

    assert attempt.end() == -1, "what it runs is in no working hash"
    worker.store.hold(rig.link, [Held(job.field, False, job.raw)], mark="1:0")
    assert not worker.store.beat(rig.link, ["info", "{}"]).lost
    assert attempt.end() == 0
    assert rig.tell(2, keys=[1])[0].value == "duplicate_running"
