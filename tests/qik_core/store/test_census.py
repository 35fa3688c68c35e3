from __future__ import annotations

from typing import Any

import pytest

from qik_core.store import Store
from qik_core.store.census import Where, census


def ours(name: str, count: int) -> list[str]:
    """Payloads of a class, as they begin."""
    head = '{"qik":"-","jid":"%d","queue":"q","class":"%s","args":["\\"class\\":\\"Other\\""]}'
    return [head % (each, name) for each in range(count)]


@pytest.mark.every_server
def test_jobs_are_counted_by_class_and_by_where_they_wait(redis_url: str, raw: Any) -> None:
    raw.sadd("queues", "q", "mail")
    raw.lpush("queue:q", *ours("A", 3), *ours("B", 2), '{"class":"Ruby","args":[]}')
    raw.lpush("queue:mail", *ours("A", 1))
    raw.lpush("qik:suspect:q", *ours("B", 1))
    raw.zadd("schedule", dict.fromkeys(ours("A", 4), 5))
    raw.zadd("qik:later:q", dict.fromkeys(ours("B", 5), 5))
    raw.zadd("retry", dict.fromkeys(ours("A", 6), 5))
    raw.hset("qik:held", "A", 10)
    raw.lpush("qik:held:A", *ours("A", 2))
    raw.lpush("qik:held:A+", *ours("A", 1))

    found = census(Store(redis_url).links)

    assert found.exact
    assert {name: dict(where) for name, where in found.jobs.items()} == {
        "A": {Where.QUEUED: 4, Where.SCHEDULED: 4, Where.RETRYING: 6, Where.HELD: 3},
        "B": {Where.QUEUED: 3, Where.SCHEDULED: 5},
        "": {Where.QUEUED: 1},
    }


def test_of_a_long_list_a_part_is_counted_and_the_rest_taken_to_be_like_it(
    redis_url: str, raw: Any
) -> None:
    raw.sadd("queues", "q")
    for _ in range(10):
        raw.lpush("queue:q", *ours("A", 100), *ours("B", 50))

    found = census(Store(redis_url).links, 3_000)

    assert not found.exact
    assert {name: dict(where) for name, where in found.jobs.items()} == {
        "A": {Where.QUEUED: 1_000},
        "B": {Where.QUEUED: 500},
    }


def test_keys_that_hold_something_else_and_an_empty_redis_count_nothing(
    redis_url: str, raw: Any
) -> None:
    store = Store(redis_url)
    assert census(store.links).jobs == {}
    raw.set("schedule", "something else")
    raw.sadd("queues", "q", "no queue")

    assert census(store.links).jobs == {}


def test_held_jobs_are_counted_once_whatever_else_stands_beside_them(
    redis_url: str, raw: Any
) -> None:
    raw.hset("qik:held", mapping={"A": "garbage", "A+": 1, "B": 1, b"\xff": 1})
    raw.lpush("qik:held:A", *ours("A", 2))
    raw.lpush("qik:held:A+", *ours("A", 1))
    raw.set("qik:held:B", "something else")

    assert census(Store(redis_url).links).jobs == {"A": {Where.HELD: 3}}
