from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from qik_core import Job, client, metrics, registry, settings
from qik_core.capsule import Capsule, Capsules
from qik_core.crew import Crew
from qik_core.metrics import Reporter, redis_says
from qik_core.probes.gather import FRAME, OWN, REDIS_TOO
from qik_core.settings import Settings
from qik_core.store import Store
from qik_core.tallies import Tallies, Tally
from tests.waiting import eventually

with registry.scope():

    class Sent(Job, queue="mail", retry=3):
        def perform(self, number: int) -> None: ...


@pytest.fixture(autouse=True)
def _redis(redis_url: str) -> Iterator[None]:
    Store(redis_url, birth_ms=0).look()
    settings.use(Settings(redis=redis_url))
    with registry.scope():
        registry.register(Sent.definition)
        yield
    client.current().store.close()
    settings.use(None)


@pytest.fixture
def capsules() -> Capsules:
    crew = Crew(lambda _job, _entered: None, [lambda _: None], lambda: None)
    return Capsules([Capsule("default", crew, lambda: ["mail"], {"mail": 1, "idle": 1})])


class Line:
    """The parent's end of a line to a reporter."""

    def __init__(self, capsules: Capsules) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(10)
        self.reporter = Reporter(theirs, capsules, Tallies())
        self.theirs = theirs
        self.thread = threading.Thread(target=self.reporter.run, daemon=True)
        self.thread.start()

    def ask(self, what: bytes, number: int) -> None:
        self.ours.sendall(what + bytes([number]))

    def hear(self) -> tuple[int, dict[str, Any]]:
        length, number = FRAME.unpack(self._read(FRAME.size))
        return number, json.loads(self._read(length))

    def _read(self, length: int) -> bytes:
        raw = b""
        while len(raw) < length:
            raw += self.ours.recv(length - len(raw))
        return raw


@pytest.fixture
def line(capsules: Capsules) -> Iterator[Line]:
    line = Line(capsules)
    yield line
    line.ours.close()
    line.thread.join(10)
    line.theirs.close()


def test_a_child_says_everything_that_it_knows_from_zero_on(line: Line) -> None:
    line.ask(OWN, 7)

    number, said = line.hear()

    assert number == 7
    assert said["own"]["qik_jobs_total"]['{class="Sent",end="done"}'] == 0
    assert said["own"]["workqueue_unfinished_work_seconds"] == {
        '{name="mail"}': 0,
        '{name="idle"}': 0,
    }
    assert said["own"]["qik_threads"] == {"": 1}
    assert said["ready"] is False  # it has not looked at Redis yet
    assert "redis" not in said


def test_it_says_what_it_counted_while_redis_keeps_another_answer_waiting(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go = threading.Event(), threading.Event()

    def says(_: object) -> dict[str, Any]:
        asked.set()
        go.wait(10)
        return {"samples": {}}

    monkeypatch.setattr(metrics, "redis_says", says)
    line.ask(REDIS_TOO, 1)
    assert asked.wait(10)
    line.ask(OWN, 2)
    try:
        assert line.hear()[0] == 2
        line.ask(REDIS_TOO, 3)
        number, said = line.hear()
        assert (number, said["redis"]["scale"]) == (3, None)
    finally:
        go.set()
    assert line.hear()[0] == 1


def test_one_page_adds_the_runs_of_all_threads_up_once(capsules: Capsules) -> None:
    class Counting(Tallies):
        added = 0

        def runs(self) -> dict[str, Tally]:
            self.added += 1
            return super().runs()

    counting = Counting()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Reporter(theirs, capsules, counting).own()

    assert counting.added == 1


def test_old_questions_that_nobody_waits_for_are_not_answered(capsules: Capsules) -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(OWN + b"\x01" + OWN + b"\x02" + OWN + b"\x03")
    reporter = Reporter(theirs, capsules, Tallies())
    thread = threading.Thread(target=reporter.run, daemon=True)
    thread.start()

    _, number = FRAME.unpack(ours.recv(FRAME.size))

    assert number == 3
    ours.close()
    thread.join(10)
    theirs.close()


def test_a_parent_that_reads_no_answer_holds_up_no_end_and_the_log_says_what_is_lost(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    def answer() -> None:
        with suppress(OSError):
            line.reporter._say(1, {"own": "x" * 10_000_000})

    answering = threading.Thread(target=answer)
    answering.start()
    eventually(line.reporter._lock.locked)
    ending = threading.Thread(target=line.reporter.last, daemon=True)
    ending.start()
    ending.join(10)

    assert not ending.is_alive()
    line.ours.close()
    answering.join()
    assert caplog.messages == ["the last numbers could not be told"]


def test_redis_says_how_much_waits_and_for_how_long(raw: redis.Redis) -> None:
    Sent.perform_bulk([(number,) for number in range(3)])

    says = redis_says(["mail", "idle"])

    assert says["samples"]["workqueue_depth"] == {'{name="mail"}': 3, '{name="idle"}': 0}
    assert says["samples"]["qik_queue_later"] == {'{name="mail"}': 0, '{name="idle"}': 0}
    assert says["samples"]["qik_redis_up"] == {"": 1}
    mail = says["scale"]["queues"]["mail"]
    assert (mail["size"], mail["later"], mail["backlog"]) == (3, 0, 3)
    assert says["scale"]["backlog"] == 3
    assert says["scale"]["latency"] == mail["latency"] >= 0


def test_a_key_that_holds_something_else_is_no_outage(raw: redis.Redis) -> None:
    raw.set("schedule", "spoiled")
    raw.sadd("queues", "mail")
    raw.set("queue:mail", "spoiled")

    samples = redis_says(["mail", "idle"])["samples"]

    assert samples["qik_redis_up"] == {"": 1}
    assert samples["qik_scheduled_jobs"] == {"": 0}
    assert samples["workqueue_depth"] == {'{name="mail"}': 0, '{name="idle"}': 0}


def test_without_redis_it_says_so_and_nothing_else(redis_url: str) -> None:
    settings.use(Settings(redis="redis://127.0.0.1:1/0"))

    assert redis_says(["mail"]) == {"samples": {"qik_redis_up": {"": 0}}, "scale": None}
