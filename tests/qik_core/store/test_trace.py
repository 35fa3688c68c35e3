from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from qik_core.store import Store, keys
from qik_core.store.exchange import Kind
from qik_core.store.records import Records
from qik_core.store.rolls import Roll
from qik_core.store.trace import LockState, Trace, find, trace
from tests.qik_core.store.rig import Rig, digest, done, jid, other

pytestmark = pytest.mark.every_server


def dump(raw: Any) -> dict[bytes, bytes]:
    return {key: raw.dump(key) for key in raw.scan_iter()}


def look(rig: Rig, key: int, *queues: str) -> Trace:
    """Trace a key, and hold that nothing was written."""
    before = dump(rig.raw)
    seen = trace(rig.store, digest(key).decode(), queues)
    assert dump(rig.raw) == before
    return seen


def test_a_trace_on_an_empty_redis_finds_nothing_and_makes_no_epoch(
    redis_url: str, raw: Any
) -> None:
    store = Store(redis_url)

    seen = trace(store, digest(1).decode())

    assert (seen.state, seen.epoch, seen.dead, seen.orphan) == (
        LockState.ABSENT,
        None,
        None,
        False,
    )
    assert dump(raw) == {}
    store.close()


def test_a_queued_job_has_a_position_from_the_fetch_end(rig: Rig) -> None:
    rig.push(1, 2, 3)

    places = [look(rig, key).spot for key in (1, 2, 3)]

    assert [each and each.position for each in places] == [1, 2, 3]
    assert places[2] is not None
    assert (places[2].length, places[2].queue, places[2].name) == (3, "default", "Charge")
    assert (places[2].jid, list(places[2].args)) == (jid(3).decode(), [3])


def test_a_position_is_found_in_whichever_queue_the_job_is(rig: Rig) -> None:
    rig.push(1, queue="one")
    rig.push(2, queue="two")
    rig.push(3, 4, queue="two")

    seen = look(rig, 3, "one")

    assert seen.spot is not None
    assert (seen.spot.queue, seen.spot.position) == ("two", 2)


def test_a_position_in_a_long_queue_is_exact_and_found_in_time(rig: Rig) -> None:
    numbers = list(range(1, 20_001))
    for start in range(0, len(numbers), 500):
        rig.push(*numbers[start : start + 500])
    began = time.monotonic()

    seen = [look(rig, key).spot for key in (499, 500, 501, 19_999)]

    assert [each and each.position for each in seen] == [499, 500, 501, 19_999]
    assert time.monotonic() - began < 10


def test_a_search_that_ends_at_its_limit_says_at_least_how_many_come_before(rig: Rig) -> None:
    numbers = list(range(1, 2_001))
    for start in range(0, len(numbers), 500):
        rig.push(*numbers[start : start + 500])
    ticks = iter(range(100))

    seen = trace(
        rig.store, digest(2_000).decode(), ["default"], patience=2.5, now=lambda: next(ticks)
    )

    assert (seen.state, seen.spot, seen.cut, seen.orphan) == (LockState.QUEUED, None, True, False)
    assert 0 < seen.searched < 2_000


def test_a_scheduled_job_has_its_due_time_wherever_it_waits(rig: Rig) -> None:
    rig.push(1, due=[time.time() + 60])
    rig.tell(2, delays=[30.0], queue="slow")

    edge, told = look(rig, 1), look(rig, 2)

    assert edge.state is told.state is LockState.SCHEDULED
    assert edge.spot is not None
    assert told.spot is not None
    assert (edge.spot.key, told.spot.key) == ("schedule", "qik:later:slow")
    assert 50 < (edge.spot.due or 0) - edge.now < 70
    assert 20 < (told.spot.due or 0) - told.now < 40


def test_a_scheduled_job_that_ruby_has_promoted_is_found_on_its_queue(rig: Rig) -> None:
    rig.push(1, due=[time.time() + 60])
    ((raw, _),) = rig.raw.zrange("schedule", 0, -1, withscores=True)
    rig.raw.zrem("schedule", raw)
    rig.raw.lpush("queue:default", raw)

    seen = look(rig, 1)

    assert seen.state is LockState.SCHEDULED
    assert seen.spot is not None
    assert seen.spot.position == 1


def test_a_running_job_names_its_process_and_since_when(rig: Rig) -> None:
    rig.push(1, 2)
    worker = rig.worker("host:7:beef")
    held = worker.fetch(1)[0]
    worker.beat()

    fetched = look(rig, 1)
    rig.raw.hset(
        f"{worker.identity}:work", held.field, '{"queue": "default", "run_at": 1700000000}'
    )
    started = look(rig, 1)

    assert fetched.holder is not None
    assert started.holder is not None
    assert (fetched.state, fetched.holder.identity) == (LockState.RUNNING, "host:7:beef")
    assert fetched.holder.since is None
    assert started.holder.since == 1_700_000_000.0
    assert abs((started.holder.beat or 0) - started.now) < 60
    assert started.spot is not None
    assert started.spot.queue == "default"


def test_a_running_job_whose_process_is_unknown_says_so(rig: Rig) -> None:
    rig.push(1)
    worker = rig.worker("host:7:beef")
    worker.fetch(1)
    rig.raw.delete(f"qik:working:{worker.identity}", "qik:alive")

    seen = look(rig, 1)

    assert (seen.state, seen.spot) == (LockState.RUNNING, None)
    assert seen.holder is not None
    assert seen.holder.identity == ""
    assert not seen.orphan


def test_an_edge_that_came_meanwhile_is_seen_as_dirty(rig: Rig) -> None:
    rig.push(1)
    rig.worker().fetch(1)
    rig.edge(9, keys=[1])

    assert look(rig, 1).dirty


def test_a_retrying_job_has_its_error_its_failures_and_its_time(rig: Rig) -> None:
    rig.push(1)
    worker = rig.worker()
    held = worker.fetch(1)[0]
    failed = other(held, Kind.RETRY, delay=40)
    text = failed.payload.replace(
        b'"retry_count":0', b'"retry_count":2,"error_class":"KeyError","error_message":"no\\nrow"'
    )
    worker.exchange(replace(failed, payload=text))

    seen = look(rig, 1)

    assert seen.state is LockState.RETRYING
    assert seen.spot is not None
    assert (seen.spot.error, seen.spot.failures) == ("KeyError: no row", 3)
    assert 30 < (seen.spot.due or 0) - seen.now < 50


def test_of_the_dead_jobs_of_a_key_the_last_one_is_told(rig: Rig) -> None:
    for number in (1, 2):
        rig.push(number, keys=[7])
        worker = rig.worker(f"host:{number}:aaaa")
        worker.exchange(other(worker.fetch(1)[0], Kind.DEAD))

    seen = look(rig, 7)

    assert seen.state is LockState.ABSENT
    assert seen.dead is not None
    assert (seen.dead.key, seen.dead.jid) == ("dead", jid(2).decode())
    assert look(rig, 8).dead is None


def test_a_suspect_is_found_in_its_list(rig: Rig) -> None:
    rig.push(1)
    raw = rig.raw.rpop("queue:default")
    rig.raw.lpush("qik:suspect:default", raw)
    rig.raw.sadd("qik:suspects", "default")

    seen = look(rig, 1)

    assert seen.spot is not None
    assert (seen.spot.key, seen.spot.position) == ("qik:suspect:default", 1)


def test_a_lock_whose_job_was_deleted_by_hand_is_an_orphan(rig: Rig) -> None:
    rig.push(1, 2)
    rig.push(3, due=[time.time() + 60])
    rig.raw.delete("queue:default", "schedule")

    assert look(rig, 1).orphan
    assert look(rig, 3).orphan
    assert not look(rig, 9).orphan


def test_a_paused_queue_and_who_serves_it_are_told(rig: Rig) -> None:
    rig.push(1)
    alone = look(rig, 1).line
    for identity, queues, beat in (
        ("a:1:x", '["default"]', time.time()),
        ("b:1:x", '["other"]', time.time()),
        ("c:1:x", '["default"]', time.time() - 3_600),
    ):
        rig.raw.sadd("processes", identity)
        rig.raw.hset(identity, mapping={"info": f'{{"queues": {queues}}}', "beat": beat})
    Records(rig.store).pause("default", on=True)
    served = look(rig, 1).line

    assert alone is not None
    assert served is not None
    assert (alone.queue, alone.paused, alone.processes) == ("default", False, 0)
    assert (served.paused, served.processes) == (True, 1)


def test_a_lock_is_found_in_the_generation_that_a_roll_is_leaving(rig: Rig) -> None:
    rig.push(1)
    Roll(rig.link, rig.store.candidate, "me").begin()

    assert look(rig, 1).state is LockState.QUEUED


def test_a_version_tag_and_an_expiry_are_read_from_the_lock(rig: Rig) -> None:
    rig.push(1, versions=[b"abc123"], seconds=90)

    seen = look(rig, 1)

    assert seen.version == "abc123"
    assert 85 < (seen.expires_at or 0) - seen.now < 95


def test_a_job_is_found_by_its_jid_wherever_it_is(rig: Rig) -> None:
    rig.push(1, 2)
    worker = rig.worker()
    first, second = worker.fetch(2)
    worker.exchange(other(first, Kind.DEAD))
    rig.push(3, due=[time.time() + 60])
    rig.tell(4, delays=[30.0])
    rig.push(5)

    found = {number: find(rig.store, jid(number).decode()) for number in range(1, 7)}

    assert {number: each and each.key for number, each in found.items()} == {
        1: "dead",
        2: keys.working(worker.identity).decode(),
        3: "schedule",
        4: "qik:later:default",
        5: "queue:default",
        6: None,
    }
    assert found[5] is not None
    assert (found[5].digest, found[5].position) == (digest(5).decode(), 1)
    worker.exchange(done(second))
    assert find(rig.store, jid(2).decode()) is None


def test_a_job_is_looked_for_in_long_sets_no_longer_than_the_time_allows(rig: Rig) -> None:
    for key in ("schedule", "retry", "dead", "qik:later:default"):
        rig.raw.zadd(key, {f'{{"jid":"{key}-{number}"}}': number for number in range(5_000)})
    rig.push(1)
    rig.raw.config_resetstat()

    assert find(rig.store, "nobody", patience=0) is None
    assert rig.raw.info("commandstats")["cmdstat_zscan"]["calls"] == 8

    assert find(rig.store, "retry-7") is not None
