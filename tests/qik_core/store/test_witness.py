from __future__ import annotations

import time
from typing import Any

import pytest

from qik_core.store import Store
from qik_core.store.witness import life, witness


@pytest.mark.every_server
def test_a_process_finds_what_it_left_last_and_its_numbers_only_rise(
    redis_url: str, raw: Any
) -> None:
    store = Store(redis_url)
    first, other, second = witness(store, "a"), witness(store, "b"), witness(store, "a")

    assert (first.before, other.before, second.before) == (None, None, first.now)
    assert second.now > first.now
    assert abs(first.now / 1000 - time.time()) < 60
    assert first.epoch.loss == second.epoch.loss
    raw.hset("qik:witness", "a", 10**14)  # the clock of the server went back
    assert witness(store, "a").now == 10**14 + 1


def test_leaving_takes_the_mark_away(redis_url: str, raw: Any) -> None:
    store = Store(redis_url)
    witness(store, "a")
    witness(store, "b")
    witness(store, "a", leave=True)

    assert raw.hkeys("qik:witness") == [b"b"]


def test_marks_of_processes_that_are_long_gone_do_not_stay_and_those_of_others_count_on(
    redis_url: str, raw: Any
) -> None:
    store = Store(redis_url)
    last = witness(store, "me")
    raw.hset("qik:witness", mapping={f"gone{each}": 1 for each in range(600)})

    assert witness(store, "me").before == last.now  # of 601 marks
    assert raw.hlen("qik:witness") == 1
    assert 0 < raw.ttl("qik:witness:old") <= 600


def test_a_look_works_on_a_full_redis_and_makes_an_epoch_where_there_is_none(
    redis_url: str, raw: Any
) -> None:
    store = Store(redis_url)
    raw.config_set("maxmemory", 1)
    try:
        assert witness(store, "a").epoch.loss
        assert raw.exists("qik:epoch")
    finally:
        raw.config_set("maxmemory", 0)


def test_one_start_of_a_server_is_told_from_another(redis_server: Any, redis_url: str) -> None:
    before = life(Store(redis_url))
    assert before
    assert life(Store(redis_url)) == before

    redis_server.kill()
    redis_server.restart()

    assert life(Store(redis_url)) not in ("", before)


def test_who_may_not_ask_for_the_server_gets_no_answer(redis_url: str, raw: Any) -> None:
    raw.acl_setuser("default", enabled=True, nopass=True, keys="*", commands=["+@all", "-info"])
    try:
        assert life(Store(redis_url)) == ""
    finally:
        raw.acl_setuser("default", enabled=True, nopass=True, keys="*", commands=["+@all"])


@pytest.mark.parametrize("garbage", ["x", "nan", "inf", "1e300", "-5", "9" * 400])
def test_marks_and_totals_that_are_no_number_count_as_none(
    redis_url: str, raw: Any, garbage: str
) -> None:
    store = Store(redis_url)
    raw.hset("qik:witness", "a", garbage)
    raw.hset("qik:counts", mapping={"lost_exchanges": garbage, "deleted_by_hand": 3})
    first, second = witness(store, "a"), witness(store, "a")

    assert (first.before, second.before) == (None, first.now)
    assert abs(first.now / 1000 - time.time()) < 60
    assert (first.lost_exchanges, first.deleted) == (0, 3)
