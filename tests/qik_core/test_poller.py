from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from qik_core.embedded import Embedded
from qik_core.payload import Payload
from qik_core.poller import Poller
from qik_core.store import due
from qik_core.store.link import Link
from tests.qik_core.store.rig import Rig, jid
from tests.waiting import eventually

Make = Callable[..., Poller]


@pytest.fixture
def poller(rig: Rig) -> Iterator[Make]:
    """Makes pollers; ends their threads with the test."""
    made: list[Poller] = []
    threads: list[threading.Thread] = []
    links: list[Link] = []

    def make(*, every: float = 60.0, milliseconds: bool = False, runs: bool = False) -> Poller:
        def link() -> Link:
            links.append(Link(rig.url, timeout=0.5))
            return links[-1]

        one = Poller(
            link, ["default"], every, clock=time.time, dice=lambda: 0.5, milliseconds=milliseconds
        )
        made.append(one)
        if runs:
            threads.append(threading.Thread(target=one.run, daemon=True))
            threads[-1].start()
        return one

    yield make
    for one in made:
        one.stop()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    for each in links:
        each.close()


@pytest.mark.every_server
def test_a_look_moves_what_is_due_from_every_place_where_jobs_wait(rig: Rig, poller: Make) -> None:
    rig.edge(1, due=[time.time() + 0.001])
    rig.tell(2, delays=[0.001])
    rig.raw.zadd("retry", {b'{"class":"X","args":[3],"queue":"other"}': time.time()})
    look = poller()

    eventually(lambda: look.look() is not None and len(rig.queued()) == 2)
    assert set(rig.queued()) == {jid(1).decode(), jid(2).decode()}
    assert rig.raw.llen("queue:other") == 1


def test_a_look_says_when_the_next_job_is_due(rig: Rig, poller: Make) -> None:
    assert poller().look() == float("inf")
    rig.edge(1, delays=[30.0])
    rig.tell(2, delays=[10.0])

    assert poller().look() == pytest.approx(10, abs=1)


def test_more_jobs_than_one_script_moves_are_moved_by_one_look(rig: Rig, poller: Make) -> None:
    rig.raw.zadd(
        "schedule", {b'{"class":"X","args":[%d],"queue":"default"}' % n: 1.0 for n in range(1500)}
    )
    poller().look()

    assert (rig.raw.zcard("schedule"), rig.raw.llen("queue:default")) == (0, 1500)


def test_a_job_goes_when_it_is_due_and_not_at_the_next_look(rig: Rig, poller: Make) -> None:
    rig.edge(1, delays=[0.3])
    at = time.monotonic()
    poller(every=60.0, runs=True)

    eventually(rig.queued, 2.0)
    assert 0.2 < time.monotonic() - at < 1.0


def test_times_on_the_wire_are_milliseconds_when_the_settings_say_so(
    rig: Rig, poller: Make
) -> None:
    rig.tell(1, delays=[0.001])
    look = poller(milliseconds=True)
    eventually(lambda: look.look() and rig.queued())

    raw = rig.raw.lindex("queue:default", 0)
    assert raw is not None
    assert type(Payload.decode(raw)["enqueued_at"]) is int


def test_what_is_no_job_is_set_aside_and_that_is_said(
    rig: Rig, poller: Make, caplog: pytest.LogCaptureFixture
) -> None:
    rig.raw.zadd("retry", {b"no job %d" % n: 1.0 for n in range(3)})
    poller().look()

    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "set aside in the dead set" in record.message
    assert vars(record)["count"] == 3
    assert rig.raw.zcard("dead") == 3


@pytest.mark.parametrize("score", ["-inf", "-1e300", "-5", "0"])
def test_a_score_before_every_time_is_due(rig: Rig, poller: Make, score: str) -> None:
    rig.raw.execute_command("ZADD", "retry", score, '{"class":"X","args":[],"queue":"default"}')
    poller().look()

    assert rig.raw.llen("queue:default") == 1


@pytest.mark.parametrize("score", ["inf", "1e300"])
def test_a_score_after_every_time_waits_and_holds_nothing_up(
    rig: Rig, poller: Make, score: str
) -> None:
    rig.raw.execute_command("ZADD", "schedule", score, '{"class":"X","args":[],"queue":"default"}')
    poller(every=0.1, runs=True)
    rig.edge(1, delays=[0.2])

    eventually(rig.queued)
    assert rig.raw.zcard("schedule") == 1


@pytest.mark.parametrize("key", ["schedule", "retry", "qik:later:default"])
def test_a_place_of_the_wrong_type_does_not_keep_jobs_of_the_others_waiting(
    rig: Rig, poller: Make, key: str
) -> None:
    rig.raw.set(key, "no zset")
    poller(every=0.1, runs=True)
    other = "schedule" if key != "schedule" else "retry"
    rig.raw.zadd(other, {b'{"class":"X","args":[],"queue":"default"}': 1.0})

    eventually(lambda: rig.raw.llen("queue:default"), 3.0)


def test_it_goes_on_when_redis_is_back(rig: Rig, poller: Make, redis_server: Embedded) -> None:
    poller(every=0.1, runs=True)
    redis_server.kill()
    redis_server.start()
    rig.store.close()
    rig.edge(1, delays=[0.05])

    eventually(rig.queued)


def test_a_large_retry_set_does_not_keep_scheduled_jobs_waiting(
    rig: Rig, poller: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.raw.zadd(
        "retry", {b'{"class":"X","args":[%d],"queue":"slow"}' % n: 1.0 for n in range(2000)}
    )
    rig.raw.zadd("schedule", {b'{"class":"X","args":[1],"queue":"default"}': 1.0})
    waited: list[int] = []
    promote = due.promote

    def watched(link: Link, source: bytes, *, milliseconds: bool = False) -> due.Moved:
        if rig.raw.zcard("schedule"):
            waited.append(rig.raw.llen("queue:slow"))
        return promote(link, source, milliseconds=milliseconds)

    monkeypatch.setattr(due, "promote", watched)
    poller().look()

    assert max(waited) <= 200  # one batch, not the whole set
    assert (rig.raw.zcard("retry"), rig.raw.llen("queue:slow")) == (0, 2000)


def test_jobs_of_one_score_are_all_moved_each_once(rig: Rig, poller: Make) -> None:
    at = time.time() + 0.3
    for first in (0, 500, 1000):
        rig.edge(*range(first, first + 500), due=[at] * 500)
    look = poller()

    eventually(lambda: look.look() and not rig.raw.zcard("schedule"))
    assert sorted(rig.queued()) == sorted(jid(n).decode() for n in range(1500))


@pytest.mark.parametrize(
    ("processes", "least", "most"),
    [(1, 0.5, 1.0), (2, 1.0, 3.0), (9, 4.5, 13.5), (10, 0.0, 20.0), (500, 0.0, 20.0)],
)
def test_the_more_processes_there_are_the_more_seldom_each_looks(
    rig: Rig, processes: int, least: float, most: float
) -> None:
    drawn: list[float] = []
    for dice in (0.0, 0.5, 1.0):
        one = Poller(
            lambda: Link(rig.url),
            ["default"],
            1.0,
            clock=time.time,
            dice=partial(float, dice),
            milliseconds=False,
        )
        one.processes = processes
        drawn.append(one._pause())

    assert (drawn[0], drawn[2]) == (least, most)
    assert drawn[1] == pytest.approx((least + most) / 2)


@pytest.mark.parametrize(("every", "longest"), [(60.0, 1.0), (0.1, 0.1)])
def test_the_first_look_comes_within_a_second_and_not_for_all_at_one_instant(
    rig: Rig, every: float, longest: float
) -> None:
    waits: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            self.set()
            return True

    for dice in (0.0, 0.25, 1.0):
        one = Poller(
            lambda: Link(rig.url),
            [],
            every,
            clock=time.time,
            dice=partial(float, dice),
            milliseconds=False,
        )
        one._stopping = Stopping()
        one.run()

    assert waits == [0.0, longest / 4, longest]
