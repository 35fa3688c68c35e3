from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta

import pytest

from qik_core.api import History, Stats
from qik_core.errors import ArgumentError
from tests.qik_core.api.places import foreign, put
from tests.qik_core.store.rig import Rig, done


@pytest.mark.every_server
def test_everything_is_counted_in_one_look(rig: Rig) -> None:
    put(rig, "dead", 1, 2)
    put(rig, "retry", 3)
    put(rig, "schedule", 4, 5, 6)
    rig.edge(7, 8, queue="low")
    worker = rig.worker("host:7:aaaa")
    worker.exchange(*map(done, worker.exchange(queues=["low"], want=1).jobs), want=0)
    worker.beat()
    rig.raw.hset("host:7:aaaa", "busy", 3)

    stats = Stats.read(rig.store)

    assert (stats.dead, stats.retries, stats.scheduled) == (2, 1, 3)
    assert (stats.processed, stats.failed) == (4, 3)
    assert (stats.busy, stats.processes, stats.enqueued) == (3, 1, 1)
    assert {name: queue.size for name, queue in stats.queues.items()} == {"default": 0, "low": 1}
    assert stats.wrong == ()


def test_an_empty_redis_has_nothing(rig: Rig) -> None:
    stats = Stats.read(rig.store)

    assert (stats.processed, stats.enqueued, stats.busy, stats.processes) == (0, 0, 0, 0)
    assert (stats.queues, stats.default_latency) == ({}, 0.0)


def test_latency_of_each_queue_is_that_of_its_oldest_job(rig: Rig) -> None:
    now = datetime.now(UTC).timestamp()
    old, new = now - 30, now - 1
    for queue, raws in {
        "default": [foreign(enqueued_at=old), foreign(enqueued_at=new)],
        "rubys8": [foreign(enqueued_at=int(old * 1000))],
        "inside": [b'{"enqueued_at":%f,"class":"X","args":[{"enqueued_at":5}]}' % old],
        "broken": [b"no job"],
        "tricky": [b'{"class":"X","args":[],"enqueued_at":1.2.3}'],
    }.items():
        rig.raw.sadd("queues", queue)
        rig.raw.rpush(f"queue:{queue}", *reversed(raws))
    rig.edge(1, queue="ours")
    rig.raw.sadd("paused", "ours")

    queues = Stats.read(rig.store).queues

    assert all(29 < queues[name].latency < 40 for name in ("default", "rubys8", "inside"))
    assert queues["broken"].latency == queues["tricky"].latency == 0
    assert queues["ours"].latency < 5
    assert [name for name, queue in queues.items() if queue.paused] == ["ours"]
    assert Stats.read(rig.store).default_latency > 29


def test_keys_of_another_type_are_named_and_hide_nothing_else(rig: Rig) -> None:
    rig.edge(1, queue="good")
    rig.raw.sadd("queues", "bad")
    rig.raw.set("queue:bad", "x")
    rig.raw.set("retry", "x")

    stats = Stats.read(rig.store)

    assert stats.wrong == ("retry", "queue:bad")
    assert (stats.retries, stats.enqueued, stats.queues["good"].size) == (0, 1, 1)


def test_more_queues_than_one_script_may_read_are_all_counted(rig: Rig) -> None:
    names = [f"q{number}" for number in range(1700)]
    rig.raw.sadd("queues", *names)
    rig.raw.sadd("processes", *[f"host:{number}:aa" for number in range(1300)])
    for number in range(1300):
        rig.raw.hset(f"host:{number}:aa", "busy", 1)

    stats = Stats.read(rig.store)

    assert sorted(stats.queues) == sorted(names)
    assert (stats.processes, stats.busy) == (1300, 1300)


def test_totals_are_reset_and_days_stay(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.raw.mset({"stat:processed": 7, "stat:failed": 3, "stat:failed:2026-11-22": 3})

    Stats.reset("failed", store=rig.store)
    stats = Stats.read(rig.store)
    assert (stats.processed, stats.failed) == (7, 0)
    Stats.reset(store=rig.store)

    assert Stats.read(rig.store).processed == 0
    assert rig.raw.get("stat:failed:2026-11-22") == b"3"
    said = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert [each.__dict__["totals"] for each in said] == ["failed", "processed, failed"]
    with pytest.raises(ArgumentError, match="no total 'faild'; did you mean 'failed'"):
        Stats.reset("faild", store=rig.store)


def test_history_has_every_day_with_nothing_left_out(rig: Rig) -> None:
    rig.raw.mset({"stat:processed:2026-11-22": 7, "stat:failed:2026-11-20": 3})

    history = History.read(3, until=date(2026, 11, 22), store=rig.store)

    days = [date(2026, 11, day) for day in (22, 21, 20)]
    assert history.processed == dict(zip(days, [7, 0, 0], strict=True))
    assert history.failed == dict(zip(days, [0, 0, 3], strict=True))
    assert list(history.failed) == days


def test_history_ends_today_in_utc_and_meets_what_workers_count(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    worker.exchange(*map(done, worker.fetch()), want=0)

    history = History.read(2, store=rig.store)

    assert sum(history.processed.values()) == 1
    assert next(iter(history.processed)) - datetime.now(UTC).date() <= timedelta(0)


@pytest.mark.parametrize("days", [0, -1, 1826, True, 1.5, "7", None])
def test_days_of_history_are_bounded(rig: Rig, days: int) -> None:
    with pytest.raises(ArgumentError, match="use 1 to 1,825"):
        History.read(days, store=rig.store)


def test_five_years_of_history_are_one_round_trip(rig: Rig) -> None:
    rig.raw.config_resetstat()

    assert len(History.read(1825, store=rig.store).processed) == 1825

    calls = rig.raw.info("commandstats")
    assert calls["cmdstat_mget"]["calls"] == 1


def test_stats_are_one_script_for_hundreds_of_queues(rig: Rig) -> None:
    rig.raw.sadd("queues", *[f"q{number}" for number in range(100)])
    Stats.read(rig.store)
    rig.raw.config_resetstat()

    Stats.read(rig.store)

    assert rig.raw.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
