from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from qik_core import roller as module
from qik_core.embedded import Embedded
from qik_core.roller import Roller
from qik_core.store.link import Link
from tests.qik_core.store.rig import Rig
from tests.waiting import eventually, never


@pytest.fixture
def run(rig: Rig) -> Iterator[Callable[[], Roller]]:
    """Runs a roller, and ends its thread with the test."""
    running: list[tuple[Roller, threading.Thread, Link]] = []

    def run() -> Roller:
        link = Link(rig.url, timeout=0.5)
        roller = Roller(lambda: link, rig.store.candidate, "tester", dice=0.0)
        thread = threading.Thread(target=roller.run, daemon=True)
        thread.start()
        running.append((roller, thread, link))
        return roller

    yield run
    for roller, thread, link in running:
        roller.stop()
        thread.join(5)
        assert not thread.is_alive()
        link.close()


@pytest.fixture
def orphan(rig: Rig) -> None:
    """A lock whose job somebody deleted."""
    rig.edge(1)
    rig.raw.delete("queue:default")


@pytest.mark.usefixtures("orphan")
def test_locks_without_a_job_go_when_somebody_asks(
    rig: Rig, run: Callable[[], Roller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_MOST_EVERY", 0.0)
    run().ask()

    eventually(lambda: rig.locks() == 0)
    assert rig.raw.hget("qik:counts", "lock_without_job") == b"1"


@pytest.mark.usefixtures("orphan")
def test_who_asks_more_often_than_every_five_minutes_is_not_heard(
    rig: Rig, run: Callable[[], Roller]
) -> None:
    roller = run()
    for _ in range(100):
        roller.ask()

    never(lambda: rig.locks() == 0, 0.3)


@pytest.mark.usefixtures("orphan")
def test_once_an_hour_nobody_needs_to_ask(
    rig: Rig, run: Callable[[], Roller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOURLY", 0.1)
    run()

    eventually(lambda: rig.locks() == 0)


def test_a_roll_that_fails_is_followed_by_the_next_one(
    rig: Rig,
    run: Callable[[], Roller],
    monkeypatch: pytest.MonkeyPatch,
    redis_server: Embedded,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "HOURLY", 0.1)
    redis_server.kill()
    run()
    eventually(lambda: "a roll failed" in caplog.text)
    redis_server.start()
    rig.store.close()
    rig.edge(1)
    rig.raw.delete("queue:default")

    eventually(lambda: rig.locks() == 0)


@pytest.mark.parametrize("key", ["qik:roller", "queues", "retry", "qik:alive"])
def test_a_spoilt_key_does_not_end_the_roller(
    rig: Rig, run: Callable[[], Roller], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(module, "HOURLY", 0.05)
    rig.raw.delete(key)
    rig.raw.lpush(key, "x")
    run()
    never(rig.locks, 0.2)
    rig.raw.delete(key)
    rig.edge(1)
    rig.raw.delete("queue:default")

    eventually(lambda: rig.locks() == 0)
