from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping

import pytest
import redis

from qik_core import settings
from qik_core.board import Board
from qik_core.errors import BadSnapshot, StoreError, StoreUnavailable
from qik_core.passes import Passes
from qik_core.settings import Settings
from qik_core.store import Store
from qik_core.switches import NOTHING, UNKNOWN, Rule, Snapshot
from tests.faultproxy import FaultProxy, is_called
from tests.qik_core.store.rig import Rig

ON = {"disable_charge": (Rule(source="sql", reason="why"),)}


class Told:
    """What answers a board in place of Redis."""

    def __init__(self, answer: bytes | Exception = b"") -> None:
        self.answer = answer
        self.asked: list[tuple[int, dict[str, int]]] = []

    def __call__(self, version: int, counts: Mapping[str, int]) -> bytes:
        self.asked.append((version, dict(counts)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def passes(redis_url: str) -> Iterator[Passes]:
    settings.use(Settings(redis=redis_url))
    yield Passes(Store(redis_url, birth_ms=0))
    settings.use(None)


def test_a_board_asks_once_a_second_and_goes_by_what_is_newer() -> None:
    clock, told = Clock(), Told(Snapshot(5, ON).dump())
    board = Board(now=clock)

    assert board.snapshot is NOTHING
    assert [board.look(told) for _ in range(3)] == [True, False, False]
    assert board.snapshot == Snapshot(5, ON)
    clock.at += 1
    told.answer = Snapshot(4, {}).dump()
    board.look(told)
    assert board.snapshot.version == 5
    assert [version for version, _ in told.asked] == [0, 5]


@pytest.mark.parametrize("raw", [b"<html>", b"\x80\x04.", Snapshot(9, ON).dump()[:-3]])
def test_garbage_changes_nothing_and_is_told_once_and_counted(
    caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    clock, told = Clock(), Told(Snapshot(5, ON).dump())
    board = Board(now=clock)
    board.look(told)
    told.answer = raw
    for _ in range(4):
        clock.at += 1
        board.look(told)

    assert board.snapshot == Snapshot(5, ON)
    assert [line.levelno for line in caplog.records].count(logging.ERROR) == 1
    assert [counts for _, counts in told.asked if counts] == [{"switches_unreadable": 1}]


def test_an_outage_changes_nothing_and_is_not_asked_again_for_a_second() -> None:
    clock, told = Clock(), Told(Snapshot(5, ON).dump())
    board = Board(now=clock)
    board.look(told)

    def hang(version: int, counts: Mapping[str, int]) -> bytes:
        clock.at += 3
        raise StoreUnavailable("gone")

    clock.at += 1
    with pytest.raises(StoreUnavailable):
        board.look(hang)
    clock.at += 0.9
    looked = board.look(told)
    clock.at += 0.2

    assert (looked, board.look(told)) == (False, True)
    assert board.snapshot == Snapshot(5, ON)


def test_a_refusal_of_redis_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    board = Board()

    assert board.look(Told(StoreError("NOPERM")))
    assert "could not be read" in caplog.text


def test_the_ignorance_of_another_process_does_not_replace_what_is_known() -> None:
    board = Board()

    assert board.take(Snapshot(5, ON))
    assert not board.take(Snapshot(6, {}, known=False))
    assert board.snapshot == Snapshot(5, ON)


def test_switches_that_are_configured_are_unknown_until_they_were_seen() -> None:
    board = Board(configured=True)

    assert board.snapshot is UNKNOWN
    board.take(Snapshot(5, {}))
    assert board.snapshot.known


def test_a_process_without_settings_learns_that_switches_are_configured() -> None:
    board = Board()

    assert board.take(Snapshot(5, {}, known=False))
    assert not board.snapshot.known


def test_what_was_counted_is_told_once_also_after_an_outage() -> None:
    clock, told = Clock(), Told(StoreUnavailable("gone"))
    board = Board(now=clock)
    board.count("disable_charge", 2)
    with pytest.raises(StoreUnavailable):
        board.look(told)
    board.count("disable_charge", 1)
    told.answer = b""
    clock.at += 1
    board.look(told)
    clock.at += 1
    board.look(told)

    assert [counts for _, counts in told.asked] == [
        {"disable_charge": 2},
        {"disable_charge": 3},
        {},
    ]


def test_many_threads_ask_one_question() -> None:
    told, start = Told(), threading.Barrier(8)
    board = Board(every=60)

    def look() -> None:
        start.wait(10)
        board.look(told)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(told.asked) == 1


# --- with Redis --------------------------------------------------------------------


def test_a_published_snapshot_reaches_other_processes(passes: Passes, rig: Rig) -> None:
    board = Board()

    assert passes.publish(Snapshot(5, ON)) == 5
    board.look(rig.store.switches)
    assert board.snapshot.rules == ON
    assert rig.store.switches(5, {}) == b""


def test_an_older_snapshot_and_an_unknown_one_replace_nothing(passes: Passes, rig: Rig) -> None:
    passes.publish(Snapshot(5, ON))
    other = Passes(rig.store)

    assert other.publish(Snapshot(4, {})) == 5
    assert other.publish(Snapshot(6, {}, known=False)) == 5
    assert Snapshot.parse(rig.store.switches(0, {})).rules == ON


def test_after_a_flush_nothing_changes_until_somebody_publishes_again(
    passes: Passes, rig: Rig, raw: redis.Redis
) -> None:
    clock = Clock()
    board = Board(now=clock)
    passes.publish(Snapshot(5, ON))
    board.look(rig.store.switches)
    raw.flushall()
    clock.at += 1
    board.look(rig.store.switches)

    assert board.snapshot.rules == ON
    assert passes.publish(Snapshot(5, ON)) == 5
    assert rig.store.switches(0, {})


@pytest.mark.parametrize("kind", ["garbage", "list", "huge"])
def test_whatever_stands_under_the_key_the_last_known_stays_and_publishing_mends_it(
    passes: Passes, rig: Rig, raw: redis.Redis, kind: str
) -> None:
    clock = Clock()
    board = Board(now=clock)
    passes.publish(Snapshot(5, ON))
    board.look(rig.store.switches)
    if kind == "list":
        raw.delete("qik:switches")
        raw.lpush("qik:switches", "x")
    else:
        raw.set("qik:switches", b"x" * (5_000_000 if kind == "huge" else 10))
    clock.at += 1
    board.look(rig.store.switches)

    assert board.snapshot.rules == ON
    passes.publish(Snapshot(6, {}))
    clock.at += 1
    board.look(rig.store.switches)
    assert board.snapshot.rules == {}
    assert raw.hget("qik:counts", "switches_unreadable") == b"1"


@pytest.mark.every_server
def test_a_full_redis_takes_switches_and_counts(passes: Passes, rig: Rig, raw: redis.Redis) -> None:
    passes.look()
    raw.config_set("maxmemory", 1)
    try:
        assert passes.publish(Snapshot(5, ON)) == 5
        assert rig.store.switches(0, {"disable_charge": 3}) != b""
        assert passes.switched_off() == {"disable_charge": 3}
        assert passes.forget_switched_off("disable_charge") == 3
        assert passes.forget_switched_off("disable_charge") == 0
    finally:
        raw.config_set("maxmemory", 0)
    assert raw.hget("qik:counts", "switched_off") == b"3"


def test_a_snapshot_that_is_too_large_is_not_published(passes: Passes, raw: redis.Redis) -> None:
    with pytest.raises(BadSnapshot):
        passes.publish(Snapshot(5, {"disable_charge": (Rule(reason="x" * 1_000_001),)}))
    assert not raw.exists("qik:switches")


def test_a_reply_that_is_lost_changes_nothing_of_what_is_published(
    rig: Rig, proxy: FaultProxy
) -> None:
    store = Store(proxy.url, birth_ms=0)
    passes = Passes(store)
    proxy.lose(is_called("publish"), "cut")
    with pytest.raises(StoreUnavailable):
        passes.publish(Snapshot(5, ON))

    assert passes.publish(Snapshot(5, ON)) == 5
    assert passes.publish(Snapshot(6, {})) == 6
    store.close()
