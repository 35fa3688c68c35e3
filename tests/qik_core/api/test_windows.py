from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qik_core.api import Queue, RetrySet
from qik_core.store.windows import ListReader, SortedReader
from tests.qik_core.api.places import foreign
from tests.qik_core.store.rig import Rig


def fill(rig: Rig, count: int) -> list[bytes]:
    """Put members into a list; the first returned is the oldest, next to be fetched."""
    raws = [b"%d" % number for number in range(count)]
    rig.raw.rpush("queue:default", *reversed(raws))
    return raws


def lines(rig: Rig) -> ListReader:
    return ListReader(rig.store.links, b"queue:default")


def ranks(rig: Rig) -> SortedReader:
    return SortedReader(rig.store.links, b"retry")


# --- lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 999, 1000, 1501])
def test_a_list_of_any_length_is_read_once_from_the_push_end(rig: Rig, count: int) -> None:
    raws = fill(rig, count) if count else []

    windows = list(lines(rig))

    assert [entry.raw for window in windows for entry in window.entries] == raws[::-1]
    assert all(len(window.entries) <= 500 for window in windows)


@pytest.mark.parametrize("pushed", [1, 499, 500, 501, 700, 1999])
def test_pushes_meanwhile_repeat_nothing_and_hide_nothing(rig: Rig, pushed: int) -> None:
    raws = fill(rig, 3000)
    seen, fresh = [], 0
    for window in lines(rig):
        seen += [entry.raw for entry in window.entries]
        rig.raw.lpush("queue:default", *(b"new %d" % (fresh + n) for n in range(pushed)))
        fresh += pushed

    assert [raw for raw in seen if not raw.startswith(b"new")] == raws[::-1]


@pytest.mark.parametrize("fetched", [1, 100, 600])
def test_fetches_meanwhile_end_the_reading_sooner_and_repeat_nothing(
    rig: Rig, fetched: int
) -> None:
    fill(rig, 2000)
    seen: list[bytes] = []
    for window in lines(rig):
        seen += [entry.raw for entry in window.entries]
        rig.raw.rpop("queue:default", fetched)

    assert len(seen) == len(set(seen))
    left = rig.raw.lrange("queue:default", 0, -1)
    assert set(left) <= set(seen)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.99])
def test_deletions_of_what_was_read_hide_nothing_that_stays(rig: Rig, part: float) -> None:
    raws, dice = fill(rig, 3000), random.Random(7)
    seen: Counter[bytes] = Counter()
    for window in lines(rig):
        for entry in window.entries:
            seen[entry.raw] += 1
            if dice.random() < part:
                rig.raw.lrem("queue:default", 1, entry.raw)

    assert set(seen) == set(raws)
    assert set(seen.values()) == {1}


def test_deleting_everything_while_reading_reaches_everything(rig: Rig) -> None:
    fill(rig, 2000)
    for window in lines(rig):
        for entry in window.entries:
            rig.raw.lrem("queue:default", 1, entry.raw)

    assert rig.raw.llen("queue:default") == 0


# --- sorted sets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 500, 501, 1500])
@pytest.mark.parametrize("scores", [1, 3, 700])
def test_a_sorted_set_is_read_once_in_its_order_with_any_ties(
    rig: Rig, count: int, scores: int
) -> None:
    if count:
        rig.raw.zadd("retry", {b"%d" % n: n % scores + 0.123456 for n in range(count)})

    seen = [entry.raw for window in ranks(rig) for entry in window.entries]

    assert seen == rig.raw.zrange("retry", 0, -1)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000), scores=st.sampled_from([1, 2, 50]))
def test_whatever_moves_in_a_sorted_set_what_stays_is_met_exactly_once(
    rig: Rig, seed: int, scores: int
) -> None:
    dice = random.Random(seed)
    rig.raw.delete("retry")
    rig.raw.zadd("retry", {b"%d" % n: dice.randrange(scores) for n in range(1600)})
    stays = {b"%d" % n for n in range(1600)}
    seen: Counter[bytes] = Counter()
    for window in ranks(rig):
        seen.update(entry.raw for entry in window.entries)
        gone = dice.sample(sorted(stays), min(len(stays), dice.choice([0, 1, 300])))
        if gone:
            rig.raw.zrem("retry", *gone)
        stays -= set(gone)
        rig.raw.zadd("retry", {b"new %d" % dice.getrandbits(60): dice.randrange(scores)})

    assert all(seen[raw] == 1 for raw in stays)
    assert set(seen.values()) == {1}


def test_what_is_retried_while_it_is_read_is_met_once(rig: Rig) -> None:
    rig.raw.zadd("retry", {foreign(jid=f"j{n}"): 5.0 for n in range(1200)})
    retries = RetrySet(rig.store)

    done = [retries.retry(job).act for job in retries]

    assert Counter(done) == {"done": 1200}
    assert retries.size == 0


@pytest.mark.every_server
def test_a_long_queue_is_read_in_little_memory(rig: Rig) -> None:
    raw = foreign(args=["x" * 100])
    for _ in range(40):
        rig.raw.lpush("queue:default", *[raw] * 500)
    jobs = iter(Queue(store=rig.store))
    next(jobs)
    tracemalloc.start()
    try:
        count = 1 + sum(1 for _ in jobs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count == 20_000
    assert peak < 8_000_000


def test_equal_bytes_are_all_read_and_all_deleted(rig: Rig) -> None:
    rig.raw.lpush("queue:default", *[foreign()] * 1700)
    queue = Queue(store=rig.store)

    assert sum(1 for _ in queue) == 1700
    assert queue.delete_all("class:RubyJob").done == 1700
    assert queue.size == 0
