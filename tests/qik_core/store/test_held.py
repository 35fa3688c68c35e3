from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis

from qik_core.errors import NotEnqueued, StoreError
from qik_core.payload import Payload
from qik_core.results import Code
from qik_core.store import held, rolls
from qik_core.store.exchange import Fetched, Kind, Other, queue_of
from qik_core.store.held import HeldJobs
from tests.qik_core.store.rig import Rig, Worker, jid

OLD, NEW = "qik:held:Charge", "qik:held:Charge+"


def stopped(job: Fetched, kind: Kind) -> Other:
    payload = Payload.decode(job.raw)
    if kind is Kind.HELD:
        return Other(job, kind, payload.unique, payload.jid, "Charge", failed=False)
    flag = b"disable_charge"
    fate = ("switched_off", flag)
    return Other(
        job, kind, payload.unique, payload.jid, job.queue, failed=False, counter=fate[0], note=flag
    )


def hold(worker: Worker, jobs: Sequence[Fetched]) -> None:
    worker.exchange(*(stopped(job, Kind.HELD) for job in jobs), want=0)


def names(raw: Any, key: str) -> list[str]:
    """Return the jids of a list, the next to be released first."""
    return [Payload.decode(each).jid for each in reversed(raw.lrange(key, 0, -1))]


def jids(*numbers: int) -> list[str]:
    return [jid(number).decode() for number in numbers]


def release(rig: Rig, key: str = OLD, most: int = held.AT_ONCE) -> int:
    """Release what comes first in a list, without waiting for its time."""
    rig.raw.delete("qik:released:Charge")
    for at, raws in held.windows(rig.link.call, key.encode()):
        jobs = [(queue_of(raw), raw) for raw in raws[:most]]
        return held.release(rig.link, "Charge", key.encode(), at, jobs)
    return held.release(rig.link, "Charge", key.encode())


def bytes_held(raw: redis.Redis) -> int | None:
    size = raw.hget("qik:held", "Charge")
    return None if size is None else int(size)


# --- held at fetch -----------------------------------------------------------------


@pytest.mark.every_server
def test_a_held_job_leaves_its_process_and_keeps_its_lock_as_one_that_waits(
    rig: Rig, raw: redis.Redis
) -> None:
    rig.push(1, 2)
    rig.push(3, unique=False)
    worker = rig.worker()
    hold(worker, worker.fetch())

    assert names(raw, OLD) == jids(1, 2, 3)
    assert worker.held == 0
    assert rig.lock(1)[:2] == rig.lock(2)[:2] == "q0"  # type: ignore[index]
    assert bytes_held(raw) == sum(map(len, raw.lrange(OLD, 0, -1)))
    assert rig.tell(11, keys=[1]) == [Code.DUPLICATE_QUEUED]


def test_a_dropped_job_is_gone_with_its_lock_and_counted_even_when_an_edge_came(
    rig: Rig, raw: redis.Redis
) -> None:
    rig.push(1, 2)
    worker = rig.worker()
    jobs = worker.fetch()
    assert rig.edge(11, keys=[1]) == [Code.DIRTIED]
    worker.exchange(*(stopped(job, Kind.OFF) for job in jobs), want=0)

    assert (rig.queued(), worker.held, rig.locks()) == ([], 0, 0)
    assert raw.hgetall("qik:switched") == {b"disable_charge": b"2"}
    assert raw.hget("qik:counts", "switched_off") == b"2"
    assert not raw.exists("qik:ended")


def test_an_edge_that_came_meanwhile_does_not_make_a_held_job_two(
    rig: Rig, raw: redis.Redis
) -> None:
    rig.push(1)
    worker = rig.worker()
    jobs = worker.fetch()
    assert rig.edge(11, keys=[1]) == [Code.DIRTIED]
    hold(worker, jobs)

    assert (names(raw, OLD), rig.queued()) == (jids(1), [])
    assert rig.lock(1)[:2] == "q0"  # type: ignore[index]


@pytest.mark.parametrize("kind", [Kind.HELD, Kind.OFF])
def test_what_another_run_holds_is_neither_held_nor_dropped_but_superseded(
    rig: Rig, raw: redis.Redis, kind: Kind
) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    generation = rig.store.look().generation
    lock = rig.lock(1)
    assert lock is not None
    raw.hset(f"qik:unique:{generation}", job.raw[8:30], lock[:-6] + "zzzzzz")
    answer = worker.exchange(stopped(job, kind), want=0)

    assert answer.superseded == 1
    assert not raw.exists(OLD, "qik:switched")
    assert worker.held == 0


@pytest.mark.every_server
def test_a_full_redis_holds_drops_and_releases(rig: Rig, raw: redis.Redis) -> None:
    rig.push(1, 2, 3)
    worker = rig.worker()
    one, *others = worker.fetch()
    raw.config_set("maxmemory", 1)
    try:
        worker.exchange(
            stopped(one, Kind.OFF), *(stopped(job, Kind.HELD) for job in others), want=0
        )
        assert names(raw, OLD) == jids(2, 3)
        assert release(rig) == 2
    finally:
        raw.config_set("maxmemory", 0)
    assert rig.queued() == jids(2, 3)


def test_a_job_that_cannot_be_held_stays_with_its_process_and_goes_back(
    rig: Rig, raw: redis.Redis
) -> None:
    raw.set(OLD, "somebody's")
    rig.push(1)
    worker = rig.worker()
    hold(worker, worker.fetch())

    assert worker.held == 1
    assert raw.hget("qik:counts", "wrong_type") == b"1"
    strays = worker.store.read(rig.link, [b"1.1"])
    assert worker.store.give_back(rig.link, strays) == 1
    assert rig.queued() == jids(1)


# --- held at push ------------------------------------------------------------------


def test_what_is_pushed_to_be_held_is_on_no_queue_and_under_its_lock(
    rig: Rig, raw: redis.Redis
) -> None:
    assert rig.edge(1, 2, held="Charge") == [Code.ENQUEUED] * 2
    assert rig.edge(11, keys=[1], held="Charge") == [Code.DUPLICATE_QUEUED]

    assert (names(raw, NEW), rig.queued()) == (jids(1, 2), [])
    assert rig.locks() == 2
    assert bytes_held(raw) == sum(map(len, raw.lrange(NEW, 0, -1)))


def test_what_has_a_time_waits_for_it_as_ever(rig: Rig, raw: redis.Redis) -> None:
    assert rig.edge(1, delays=[60], held="Charge") == [Code.ENQUEUED]

    assert raw.zcard("schedule") == 1
    assert not raw.exists(NEW, "qik:held")


def test_beyond_ten_thousand_jobs_a_push_is_refused_without_a_trace(
    rig: Rig, raw: redis.Redis
) -> None:
    raw.lpush(OLD, *[b"x"] * 4_000)
    raw.lpush(NEW, *[b"x"] * 5_998)

    assert rig.edge(1, 2, 3, held="Charge") == [Code.ENQUEUED] * 2 + [Code.REFUSED]
    assert rig.edge(4, held="Charge") == [Code.REFUSED]
    assert (raw.llen(NEW), rig.locks()) == (6_000, 2)
    assert raw.hget("qik:counts", "held_full") == b"2"
    assert rig.edge(2, held="Charge") == [Code.ENQUEUED]  # its own jid: it is there


def test_beyond_64_megabytes_a_push_is_refused(rig: Rig, raw: redis.Redis) -> None:
    raw.lpush(OLD, "x")
    raw.hset("qik:held", "Charge", 64 * 1024 * 1024 - 300)

    assert rig.edge(1, 2, held="Charge") == [Code.ENQUEUED, Code.REFUSED]


def test_a_push_sent_twice_is_held_once_and_refused_twice(rig: Rig, raw: redis.Redis) -> None:
    raw.lpush(OLD, *[b"x"] * 9_999)
    for _ in range(2):
        assert rig.edge(1, 2, held="Charge") == [Code.ENQUEUED, Code.REFUSED]

    assert raw.llen(NEW) == 1
    assert raw.hget("qik:counts", "held_full") == b"1"


def test_a_full_redis_refuses_a_push_to_be_held(rig: Rig, raw: redis.Redis) -> None:
    raw.config_set("maxmemory", 1)
    try:
        with pytest.raises(NotEnqueued, match="is full"):
            rig.push(1, held="Charge")
    finally:
        raw.config_set("maxmemory", 0)
    assert (rig.locks(), raw.exists(NEW)) == (0, 0)


# --- release -----------------------------------------------------------------------


@pytest.mark.every_server
def test_released_jobs_go_to_their_queues_in_their_order(rig: Rig, raw: redis.Redis) -> None:
    rig.push(1, 2, 3)
    rig.push(4, queue="low")
    worker = rig.worker()
    hold(worker, worker.exchange(want=9, queues=("default", "low")).jobs)

    assert release(rig, most=2) == 2
    assert rig.queued() == jids(1, 2)
    assert names(raw, OLD) == jids(3, 4)
    assert release(rig) == 2
    assert (rig.queued(), rig.queued("low")) == (jids(1, 2, 3), jids(4))
    assert (raw.exists(OLD), bytes_held(raw)) == (0, None)
    assert not rig.store.audit(["default", "low"])
    assert [job.raw for job in worker.fetch()] != []


def test_some_of_a_window_are_released_and_the_others_keep_their_order(
    rig: Rig, raw: redis.Redis
) -> None:
    rig.push(*range(1, 7), held="Charge")
    ((at, raws),) = held.windows(rig.link.call, NEW.encode())
    even = [("default", each) for each in raws if Payload.decode(each).args[0] % 2 == 0]

    assert held.release(rig.link, "Charge", NEW.encode(), at, even) == 3
    assert (rig.queued(), names(raw, NEW)) == (jids(2, 4, 6), jids(1, 3, 5))
    assert bytes_held(raw) == sum(map(len, raw.lrange(NEW, 0, -1)))


def test_who_comes_second_releases_nothing(rig: Rig, raw: redis.Redis) -> None:
    rig.push(1, 2, held="Charge")
    ((at, raws),) = held.windows(rig.link.call, NEW.encode())
    pairs = [("default", each) for each in raws]
    first = held.release(rig.link, "Charge", NEW.encode(), at, pairs[:1])
    soon = held.release(rig.link, "Charge", NEW.encode(), at, pairs[1:])
    raw.delete("qik:released:Charge")
    late = held.release(rig.link, "Charge", NEW.encode(), at, pairs)

    assert (first, soon, late) == (1, 0, 1)
    assert rig.queued() == jids(1, 2)


def test_windows_show_a_long_list_whole_and_in_order(rig: Rig, raw: redis.Redis) -> None:
    raw.lpush(OLD, *range(1_234))
    shown = [each for _, raws in held.windows(rig.link.call, OLD.encode()) for each in raws]

    assert shown == [b"%d" % n for n in range(1_234)]


def test_a_window_far_from_the_end_is_released_as_it_was_shown(rig: Rig, raw: redis.Redis) -> None:
    raw.lpush(OLD, *range(1_100))
    windows = list(held.windows(rig.link.call, OLD.encode()))
    at, raws = windows[-1]

    assert len(raws) == 100
    assert held.release(rig.link, "Charge", OLD.encode(), at, [("q", each) for each in raws]) == 100
    assert raw.llen(OLD) == 1_000


def test_lists_that_somebody_deleted_are_forgotten_and_their_locks_looked_for(
    rig: Rig, raw: redis.Redis
) -> None:
    rig.push(1, held="Charge")
    raw.delete(NEW)

    assert release(rig) == 0
    assert bytes_held(raw) is None
    assert raw.exists("qik:roll")


def test_nothing_is_released_while_locks_are_walked(rig: Rig, raw: redis.Redis) -> None:
    rig.push(1, held="Charge")
    roll = rolls.Roll(rig.link, rig.store.candidate, "w")
    assert roll.begin()

    assert release(rig, NEW) == 0
    assert roll.walk()
    assert roll.end() == 0
    assert release(rig, NEW) == 1


def test_a_queue_of_another_type_stops_a_release_and_nothing_is_half_done(
    rig: Rig, raw: redis.Redis
) -> None:
    rig.push(1, held="Charge")
    raw.set("queue:default", "somebody's")

    with pytest.raises(StoreError, match="WRONGTYPE"):
        release(rig, NEW)
    assert names(raw, NEW) == jids(1)


# --- locks, numbers ------------------------------------------------------------------


def test_a_roll_keeps_the_locks_of_held_jobs_and_finds_lists_whose_sizes_are_lost(
    rig: Rig, raw: redis.Redis
) -> None:
    rig.push(1)
    worker = rig.worker()
    hold(worker, worker.fetch())
    rig.push(2, held="Charge")
    worker.store.leave(rig.link, ["default"])
    raw.delete("qik:held")

    assert rolls.roll(rig.link, rig.store.candidate, "w", deadline=float("inf")) == 0
    assert rig.locks() == 2
    assert held.names(rig.link.call) == ["Charge"]


def test_a_loss_of_locks_is_made_good_from_held_jobs(rig: Rig, raw: redis.Redis) -> None:
    rig.push(1, held="Charge")
    raw.delete(*raw.keys("qik:unique:*"), "qik:epoch")
    rig.store.look()

    rolls.roll(rig.link, rig.store.candidate, "w", deadline=float("inf"))
    assert rig.lock(1)[:2] == "q0"  # type: ignore[index]


@pytest.mark.parametrize("key", ["qik:held:Charge", "qik:held:Charge+"])
def test_the_numbers_say_what_is_held_also_beside_a_key_of_another_type(
    rig: Rig, raw: redis.Redis, key: str
) -> None:
    rig.push(1, 2, held="Charge")
    size = bytes_held(raw)
    assert held.held(rig.link.call) == [HeldJobs("Charge", 2, size or 0)]

    raw.delete(key)
    raw.set(key, "x")
    assert held.held(rig.link.call) == [HeldJobs("Charge", -1, size or 0)]


def test_names_that_no_class_has_and_sizes_that_are_no_number_hide_nothing(
    rig: Rig, raw: redis.Redis
) -> None:
    rig.push(1, held="Charge")
    raw.hset("qik:held", mapping={"Charge": "garbage", "Charge+": 7, b"\xff": 7, b"\xfe": 7})

    assert held.names(rig.link.call) == ["Charge"]
    assert held.held(rig.link.call) == [HeldJobs("Charge", 1, 0)]


def test_a_class_whose_size_is_no_number_is_forgotten_when_nothing_is_held(
    rig: Rig, raw: redis.Redis
) -> None:
    raw.hset("qik:held", "Charge", "garbage")

    assert release(rig) == 0
    assert not raw.exists("qik:held")
