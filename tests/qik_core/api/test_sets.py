from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from qik_core.api import (
    DeadSet,
    JobRecord,
    LaterSet,
    Queue,
    RetrySet,
    SuspectList,
)
from qik_core.errors import WrongType
from tests.qik_core.api.places import (
    PLACES,
    count_of,
    foreign,
    name,
    put,
)
from tests.qik_core.store.rig import Rig


def test_a_job_is_fetched_by_score_and_id_as_sidekiqs_pages_name_it(rig: Rig) -> None:
    raws = [foreign(jid="a"), foreign(jid="b"), b"no job"]
    rig.raw.zadd("dead", dict.fromkeys(raws, 1795297418.7378762))
    dead = DeadSet(rig.store)

    assert [job.jid for job in dead.fetch(1795297418.7378762)] == ["", "a", "b"]
    assert [job.jid for job in dead.fetch(1795297418.737876, "b")] == ["b"]
    assert dead.fetch(1795297418.75) == []


def test_a_job_is_found_by_its_id_and_not_by_a_text_that_holds_it(rig: Rig) -> None:
    rig.raw.lpush(
        "queue:default", foreign(jid="a*b", args=[1]), foreign(jid="x", args=["a*b", "y"])
    )
    rig.raw.zadd("retry", {foreign(jid="a*b"): 1.0, foreign(jid="x", args=["a*b", "q"]): 2.0})

    for place in (Queue(store=rig.store), RetrySet(rig.store)):
        job = place.find("a*b")
        assert job is not None
        assert job.args == [1]
        assert place.find("y") is place.find("aab") is None


def test_queues_are_listed_by_name(rig: Rig) -> None:
    rig.edge(1, queue="b")
    rig.edge(2, queue="a")
    rig.raw.sadd("queues", "no good")

    assert [queue.name for queue in Queue.all(rig.store)] == ["a", "b"]
    assert [each.queue for each in LaterSet.all(rig.store)] == ["a", "b"]


def test_latency_is_read_in_both_units(rig: Rig) -> None:
    queue = Queue(store=rig.store)
    assert queue.latency == 0
    now = datetime.now(UTC).timestamp()

    for at in (now - 50, int(now * 1000) - 50_000):
        rig.raw.delete("queue:default")
        rig.raw.lpush("queue:default", foreign(enqueued_at=at, jid="old"), foreign(enqueued_at=now))
        assert 49 < queue.latency < 60

    rig.raw.delete("queue:default")
    rig.raw.lpush("queue:default", b"no job")
    assert queue.latency == 0


@pytest.mark.every_server
def test_a_paused_queue_is_passed_over_until_it_is_resumed(rig: Rig) -> None:
    queue, worker = Queue(store=rig.store), rig.worker()
    rig.edge(1)

    assert queue.pause()
    assert not queue.pause()
    assert [queue.paused] == [True]
    assert worker.fetch() == []

    assert queue.resume()
    assert not queue.resume()
    assert [queue.paused] == [False]
    assert len(worker.fetch()) == 1


def test_resuming_a_queue_wakes_who_sleeps_on_it(rig: Rig) -> None:
    queue, worker = Queue(store=rig.store), rig.worker()
    queue.pause()
    rig.edge(1)
    assert worker.fetch() == []
    assert not rig.raw.exists(f"qik:wake:{worker.identity}")

    queue.resume()

    assert rig.raw.exists(f"qik:wake:{worker.identity}")


def test_suspects_can_be_seen_and_deleted(rig: Rig) -> None:
    rig.edge(1)
    raw = rig.raw.rpop("queue:default")
    assert isinstance(raw, bytes)
    rig.raw.decr("qik:n:queue:default")
    rig.raw.lpush("qik:suspect:default", raw)
    rig.raw.incr("qik:n:qik:suspect:default")
    rig.raw.sadd("qik:suspects", "default")

    [suspects] = SuspectList.all(rig.store)
    [job] = suspects
    assert job.location.state == "suspect"
    assert suspects.delete(job)

    assert rig.locks() == 0
    assert SuspectList.all(rig.store) == []
    assert count_of(rig, "qik:suspect:default") == 0


def test_what_a_person_does_is_written_down(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "qik_core.api")
    put(rig, "retry", 1, 2)
    retries = RetrySet(rig.store)
    retries.retry(next(iter(retries)))
    retries.delete_all("class:Charge")
    Queue(store=rig.store).clear()

    said = [(each.getMessage(), each.__dict__) for each in caplog.records]
    assert [what for what, _ in said] == [
        "a job was retried by hand",
        "jobs were deleted by hand",
        "a queue was cleared by hand",
    ]
    assert said[0][1]["jid"] == name(1)
    assert (said[1][1]["where"], said[1][1]["done"]) == ("class:Charge", 1)


@pytest.mark.parametrize("key", [*PLACES, "qik:suspect:default"])
def test_a_key_of_another_type_is_named_with_the_remedy(rig: Rig, key: str) -> None:
    kind = SuspectList if key == "qik:suspect:default" else PLACES[key]
    jobs = kind(store=rig.store)
    rig.edge(1, queue="other")
    raw = rig.raw.lindex("queue:other", 0)
    assert isinstance(raw, bytes)
    job = JobRecord.of(raw, jobs.location)
    rig.raw.set(key, "x")

    for look in (
        lambda: jobs.size,
        lambda: list(jobs),
        lambda: jobs.find("a"),
        lambda: jobs.delete(job),
        jobs.clear,
    ):
        with pytest.raises(WrongType, match=rf"{key} holds .*Rename or delete"):
            look()


def test_nothing_is_taken_from_its_place_when_the_other_one_is_of_another_type(rig: Rig) -> None:
    put(rig, "retry", 1)
    retries = RetrySet(rig.store)
    [job] = retries
    rig.raw.set("queue:default", "x")
    rig.raw.set("dead", "x")

    with pytest.raises(WrongType, match="queue:default holds a string"):
        retries.retry(job)
    with pytest.raises(WrongType, match="dead holds a string"):
        retries.bury(job)
    assert retries.size == 1
    assert count_of(rig, "retry") == 1


@pytest.mark.every_server
def test_a_full_redis_lets_people_delete_retry_and_bury(rig: Rig) -> None:
    put(rig, "retry", *range(1, 11))
    put(rig, "schedule", 11)
    rig.raw.config_set("maxmemory", 1)
    try:
        retries = RetrySet(rig.store)
        jobs = list(retries)
        assert retries.delete(jobs[0])
        assert retries.retry(jobs[1])
        assert retries.bury(jobs[2])
        assert retries.reschedule(jobs[3], timedelta(hours=1))
        assert retries.retry_all().done == 7
        assert Queue(store=rig.store).pause()
    finally:
        rig.raw.config_set("maxmemory", 0)


def test_a_place_is_printed_by_the_key_that_it_is(rig: Rig) -> None:
    assert repr(Queue("billing", rig.store)) == "<Queue queue:billing>"
    assert repr(RetrySet(rig.store)) == "<RetrySet retry>"
