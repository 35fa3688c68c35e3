"""A worker tells what each class ran; with a Redis of its own, under the names of Sidekiq's Metrics page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from qik_core import Job, registry, settings, tallies
from qik_core.embedding import EmbeddedWorker
from qik_core.minutes import Minutes
from qik_core.settings import Settings, Wire
from qik_core.store import Store
from qik_core.store.exchange import Done
from qik_core.store.link import Link
from qik_core.tallies import Tallies
from tests.faultproxy import FaultProxy, is_script
from tests.qik_core.store.rig import Rig
from tests.qik_core.store.test_minutes import counters
from tests.qik_core.test_tallies import Counted, run
from tests.waiting import eventually

with registry.scope():

    class MinuteWell(Job, retry=3):
        def perform(self, n: int) -> None: ...

    class MinuteBad(Job, retry=3):
        def perform(self, n: int) -> None:
            raise ValueError(n)


@pytest.fixture(autouse=True)
def _alone(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Store(redis_url, birth_ms=0).look()  # no hold at the start of a new epoch
    monkeypatch.setattr(tallies, "current", None)
    with registry.scope():
        for job in (MinuteWell, MinuteBad, Counted):
            registry.register(job.definition)
        yield
    settings.use(None)


def using(url: str, **options: Any) -> Settings:
    used = Settings(redis=url, heartbeat=0.3, lease=3.0, poll=0.1, **options)
    settings.use(used)
    return used


def numbers(raw: Any, pattern: str) -> dict[bytes, int]:
    """All minutes together: a test may run over the end of one."""
    total: dict[bytes, int] = {}
    for key in raw.scan_iter(pattern):
        for field, value in raw.hgetall(key).items():
            total[field] = total.get(field, 0) + int(value)
    return total


@pytest.mark.parametrize(
    ("wire", "minute", "histogram"),
    [
        (Wire.SIDEKIQ8, "j|%y%m%d|*:??", "h|MinuteWell-*"),
        (Wire.SIDEKIQ7, "j|%Y%m%d|*", "MinuteWell-??-??:*"),
    ],
)
def test_a_worker_tells_of_each_class_what_sidekiqs_metrics_page_shows(
    redis_url: str, raw: Any, wire: Wire, minute: str, histogram: str
) -> None:
    pattern = datetime.now(UTC).strftime(minute)
    with EmbeddedWorker(using(redis_url, wire=wire)):
        MinuteWell.perform_bulk([(n,) for n in range(20)])
        MinuteBad.perform_async(1)
        eventually(lambda: numbers(raw, pattern).get(b"MinuteBad|f"))
        eventually(lambda: numbers(raw, pattern).get(b"MinuteWell|p") == 20)

    found = numbers(raw, pattern)
    assert (found[b"MinuteBad|p"], found[b"MinuteBad|f"]) == (1, 1)
    assert not {b"MinuteBad|ms", b"MinuteWell|f"} & set(found)
    assert sum(sum(counters(raw, key)) for key in raw.scan_iter(histogram)) == 20
    assert list(raw.scan_iter("*MinuteBad-*")) == []  # of failures there is no time
    assert numbers(raw, datetime.now(UTC).strftime("j|%y%m%d|*:?")) == found


def test_what_ran_last_is_told_when_a_worker_ends(redis_url: str, raw: Any) -> None:
    used = Settings(redis=redis_url, heartbeat=60.0, lease=200.0)
    settings.use(used)
    with EmbeddedWorker(used) as worker:
        MinuteWell.perform_bulk([(n,) for n in range(5)])
        eventually(lambda: raw.get("stat:processed") == b"5")
    assert not worker.is_running

    assert numbers(raw, "j|20*")[b"MinuteWell|p"] == 5


def test_with_class_metrics_off_nothing_is_counted_or_written(redis_url: str, raw: Any) -> None:
    with EmbeddedWorker(using(redis_url, class_metrics=False)):
        MinuteWell.perform_async(1)
        eventually(lambda: raw.get("stat:processed") == b"1")

    assert tallies.current is None
    assert list(raw.scan_iter("j|*")) == []


def test_a_worker_after_another_one_in_the_same_process_tells_its_own_runs_alone(
    redis_url: str, raw: Any
) -> None:
    for total in (3, 6):
        with EmbeddedWorker(using(redis_url)):
            MinuteWell.perform_bulk([(n,) for n in range(3)])
            eventually(lambda: raw.get("stat:processed") == b"%d" % total)  # noqa: B023  it is asked at once

    assert numbers(raw, "j|20*")[b"MinuteWell|p"] == 6


def test_each_run_is_written_once_and_classes_that_ran_nothing_not_at_all(rig: Rig) -> None:
    count = Tallies()
    run(count, Done)
    written = Minutes(count, eight=True)
    calls: list[Any] = []

    def spied(name: str, names: Any, args: Any) -> Any:
        calls.append(args[2:])
        return rig.link.run(name, names, args)

    written.write(spied, 60.0)
    run(count, Done, took=0.5)
    written.write(spied, 60.0)
    written.write(spied, 60.0)

    ((name, processed, failed, ms, _, filled),) = calls
    assert (name, processed, failed, filled) == ("Counted", 1, 0, "9 1")
    assert 500 <= ms < 60_000


def test_an_answer_that_was_lost_is_not_asked_for_again_and_that_is_said_once(
    rig: Rig, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    count, link = Tallies(), Link(proxy.url)
    written = Minutes(count, eight=True)
    proxy.lose(is_script("ran"), times=2)

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            run(count, Done)
            written.write(link.run, 60.0)
    link.close()

    assert numbers(rig.raw, "j|700101|*:??")[b"Counted|p"] == 3  # it had come to Redis each time
    assert proxy.seen()["ran"] == 3
    assert (
        len([each for each in caplog.records if each.message.startswith("metrics by class")]) == 1
    )


def test_a_redis_that_refuses_these_keys_hinders_no_beat(redis_url: str, raw: Any) -> None:
    raw.acl_setuser(
        "narrow", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-bitfield", "-hincrby"]
    )
    url = redis_url.replace("redis://", "redis://narrow:x@").replace("unix://", "unix://narrow:x@")
    with EmbeddedWorker(using(url)) as worker:
        MinuteWell.perform_async(1)
        eventually(lambda: raw.get("stat:processed") == b"1")
        (identity,) = raw.smembers("processes")
        before = float(raw.hget(identity, "beat"))
        eventually(lambda: float(raw.hget(identity, "beat")) > before + 1)
        assert worker.is_running

    raw.acl_deluser("narrow")
