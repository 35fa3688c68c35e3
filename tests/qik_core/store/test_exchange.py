from __future__ import annotations

import time

import pytest

from qik_core.payload import Payload
from qik_core.store import Store
from qik_core.store.exchange import Kind, Status
from qik_core.store.store import Candidate
from qik_core.store.worker import Held
from tests.qik_core.store.rig import Rig, digest, done, jid, other

pytestmark = pytest.mark.every_server


def test_a_fetched_job_is_held_until_it_is_settled(rig: Rig) -> None:
    rig.edge(1, 2)
    worker = rig.worker()

    jobs = worker.fetch()
    assert [job.field for job in jobs] == [b"1.1", b"1.2"]
    assert (worker.held, rig.raw.llen("queue:default")) == (2, 0)

    worker.exchange(*[done(job) for job in jobs])
    assert (worker.held, rig.locks()) == (0, 0)


def test_a_re_send_hands_out_the_same_jobs_and_counts_nothing_twice(rig: Rig) -> None:
    rig.edge(1, 2, 3)
    worker = rig.worker()
    first = worker.fetch(want=1)
    settled = worker.send(2, done(first[0]), want=1)
    again = worker.send(2, done(first[0]), want=1)

    assert (settled.status, again.status) == (Status.DONE, Status.AGAIN)
    assert again.jobs == settled.jobs
    assert rig.raw.get("stat:processed") == b"1"
    assert rig.raw.llen("queue:default") == 1


def test_an_idle_exchange_writes_nothing_and_keeps_its_number(rig: Rig) -> None:
    worker = rig.worker()

    assert worker.send(1).status is Status.IDLE
    rig.edge(1)
    assert worker.send(1).status is Status.DONE


def test_a_number_out_of_turn_is_lost(rig: Rig) -> None:
    worker = rig.worker()

    assert worker.send(5).status is Status.LOST
    rig.raw.flushall()
    assert worker.send(1).status is Status.LOST


def test_after_a_loss_assert_brings_jobs_and_locks_back(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    job = worker.fetch()[0]
    rig.raw.flushall()
    rig.store.look()

    assert worker.send(2).status is Status.LOST
    assert (
        worker.store.hold(rig.link, [Held(job.field, settling=False, raw=job.raw)], mark="1:0")
        == set()
    )
    assert rig.edge(2, keys=[1])[0].value == "dirtied"
    assert worker.send(2, done(job), want=0).status is Status.DONE
    assert rig.queued() == [jid(1).decode()]


def test_assert_takes_a_lock_that_an_edge_took_meanwhile_and_leaves_a_mark(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    job = worker.fetch()[0]
    rig.raw.flushall()
    rig.store.look()
    rig.edge(2, keys=[1])

    assert (
        worker.store.hold(rig.link, [Held(job.field, settling=False, raw=job.raw)], mark="1:0")
        == set()
    )
    again = worker.send(2, done(job)).jobs

    # The edge's own copy is superseded; the running one runs once more for it.
    assert [Payload.decode(each.raw).jid for each in again] == [jid(1).decode()]
    assert rig.raw.hget("qik:counts", "superseded") == b"1"


def test_assert_says_what_another_process_runs(rig: Rig) -> None:
    rig.edge(1)
    frozen, lively = rig.worker("host:1:aaaa"), rig.worker("host:2:bbbb")
    job = frozen.fetch()[0]
    rig.raw.delete("qik:working:host:1:aaaa")
    rig.raw.hdel("qik:unique:" + rig.store.look().generation, digest(1))
    rig.edge(2, keys=[1])
    lively.fetch()

    held = [Held(job.field, settling=False, raw=job.raw)]
    assert frozen.store.hold(rig.link, held, mark="1:0") == {job.field}
    assert frozen.send(2, done(job), want=0).superseded == 1
    assert rig.locks() == 1


def test_a_failed_job_waits_in_the_retry_set_under_its_lock(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    job = worker.fetch()[0]
    worker.exchange(other(job, Kind.RETRY, delay=60.0))

    assert rig.raw.zcard("retry") == 1
    assert rig.edge(2, keys=[1])[0].value == "duplicate_retrying"
    assert rig.raw.get("stat:failed") == b"1"


def test_a_dead_job_lets_its_lock_go(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    worker.exchange(other(worker.fetch()[0], Kind.DEAD))

    assert (rig.raw.zcard("dead"), rig.locks()) == (1, 0)


def test_death_of_a_job_that_an_edge_marked_runs_it_once_more(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    job = worker.fetch()[0]
    rig.edge(2, keys=[1])

    again = worker.exchange(other(job, Kind.DEAD)).jobs
    assert [each.raw for each in again] == [job.raw]
    assert rig.raw.zcard("dead") == 0


def test_an_outcome_counts_only_where_the_job_is_still_held(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    job = worker.fetch()[0]
    worker.store.give_back(rig.link, [job])
    worker.exchange(other(job, Kind.RETRY), want=0)

    assert (rig.raw.zcard("retry"), rig.raw.llen("queue:default")) == (0, 1)


def test_a_second_copy_of_a_running_job_is_dropped(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    job = worker.fetch()[0]
    rig.raw.lpush("queue:default", job.raw)

    answer = worker.exchange()
    assert (answer.jobs, answer.superseded) == ([], 1)


def test_queues_are_served_in_the_order_given_and_paused_ones_are_passed_over(rig: Rig) -> None:
    rig.edge(1, queue="low")
    rig.edge(2, queue="high")
    rig.edge(3, queue="shut")
    rig.raw.sadd("paused", "shut")

    answer = rig.worker().exchange(queues=("shut", "high", "low"))
    assert [job.queue for job in answer.jobs] == ["high", "low"]


def test_nothing_starts_in_the_first_moments_of_an_epoch(rig: Rig) -> None:
    rig.raw.flushall()
    store = Store(rig.url)
    store.look()
    rig.store = store
    rig.edge(1)
    worker = rig.worker()

    assert worker.exchange().status is Status.IDLE
    rig.raw.set("qik:epoch", f"aa bb - {int(time.time() * 1000) - 1600}")
    rig.raw.hset("qik:unique:bb", "#", "1")
    assert len(worker.fetch()) == 1


def test_jobs_of_ruby_come_as_they_are(rig: Rig) -> None:
    raw = b'{"class":"Charge","args":[1],"jid":"abc","queue":"default"}'
    rig.raw.lpush("queue:default", raw, b"not a job \xff")
    worker = rig.worker()

    assert [job.raw for job in worker.fetch()] == [raw, b"not a job \xff"]


def test_a_sleeper_is_woken_by_a_push(rig: Rig) -> None:
    worker = rig.worker()
    worker.exchange()
    assert rig.raw.smembers("qik:idle:default") == {b"host:1:aaaa"}

    rig.edge(1)
    assert rig.raw.llen("qik:wake:host:1:aaaa") == 1
    assert rig.raw.scard("qik:idle:default") == 0


def test_the_dead_set_keeps_no_more_than_it_may(rig: Rig) -> None:
    from dataclasses import replace

    worker = rig.worker()
    worker.store.limits = replace(worker.store.limits, dead_max=3)
    rig.edge(*range(1, 6))
    for job in worker.fetch():
        worker.exchange(other(job, Kind.DEAD))

    assert rig.raw.zcard("dead") == 3


def test_a_process_that_redis_has_forgotten_hands_nothing_back_until_it_has_asserted(
    rig: Rig,
) -> None:
    rig.edge(1, 2)
    worker = rig.worker()
    jobs = worker.fetch()
    rig.raw.delete("qik:working:host:1:aaaa")

    assert worker.store.give_back(rig.link, jobs) is None
    held = [Held(job.field, settling=False, raw=job.raw) for job in jobs]
    worker.store.hold(rig.link, held, mark="1:0")
    assert worker.store.give_back(rig.link, jobs) == 2
    assert len(rig.queued()) == 2


def test_a_job_that_runs_once_more_goes_behind_another_copy_which_is_then_dropped(
    rig: Rig,
) -> None:
    rig.edge(1)
    worker = rig.worker()
    job = worker.fetch()[0]
    rig.raw.flushall()
    rig.store.look()
    rig.edge(2, keys=[1])  # the same key, before the run was asserted
    worker.store.hold(rig.link, [Held(job.field, settling=False, raw=job.raw)], mark="1:0")
    worker.send(2, done(job), want=0)
    assert rig.queued() == [jid(2).decode(), jid(1).decode()]

    worker.sequence = 2
    assert worker.fetch(want=1) == []
    (again,) = worker.fetch(want=1)
    assert Payload.decode(again.raw).jid == jid(1).decode()


def test_an_empty_payload_is_handed_out_again_and_given_back_like_any_other(rig: Rig) -> None:
    rig.raw.lpush("queue:default", b"")
    worker = rig.worker()
    first = worker.send(1)
    again = worker.send(1)

    assert [job.raw for job in first.jobs] == [b""]
    assert [job.raw for job in again.jobs] == [b""]
    assert worker.store.read(rig.link, [first.jobs[0].field]) == list(first.jobs)
    assert worker.store.give_back(rig.link, first.jobs) == 1
    assert worker.send(1, want=0).jobs == []


def test_an_exchange_that_finds_the_locks_gone_hands_out_nothing(rig: Rig) -> None:
    rig.store.candidate = Candidate()  # whose birth is now, as in production
    worker = rig.worker()
    rig.edge(1)
    rig.raw.delete("qik:unique:" + rig.store.look().generation)

    answer = worker.exchange()
    assert (answer.status, list(answer.jobs)) == ("idle", [])
    assert rig.queued() == [jid(1).decode()]
