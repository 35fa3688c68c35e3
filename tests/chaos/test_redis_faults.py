"""What a Redis does to its clients on a bad day: they wait, lose nothing, run nothing twice, and go on by themselves."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from qik_core.embedded import Embedded
from qik_core.errors import NotEnqueued, StoreError
from qik_core.store.link import Link
from tests.chaos import places
from tests.faultproxy import FaultProxy
from tests.qik_core.engine import Engine, Jobs, drained, held
from tests.qik_core.store.rig import LIMITS, Rig
from tests.waiting import eventually, never

SOON = 0.3
AFTER = 10.0  # seconds within which work goes on when Redis is back
ERRORS = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "READONLY": "READONLY You can't write against a read only replica.",
    "MASTERDOWN": "MASTERDOWN Link is down, and stale data is not served.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "max clients": "ERR max number of clients reached",
    "NOAUTH": "NOAUTH Authentication required.",
    "NOPERM": "NOPERM User default has no permissions to run the 'evalsha' command",
}


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@contextmanager
def working(url: str, jobs: Jobs) -> Iterator[Engine]:
    """A worker with heartbeats; at the end it must be able to leave."""
    engine = Engine(url, jobs, beats=True, timeout=SOON)
    yield engine
    jobs.open()
    engine.stop()


def busy(rig: Rig, jobs: Jobs) -> None:
    """Let one job run and ten wait behind slow ones, so that the fault meets every state."""
    jobs.slow(1, 2, 3, 4)
    rig.edge(*range(1, 11))
    eventually(lambda: jobs.runs.total() == 4)


def finished(rig: Rig, jobs: Jobs, numbers: range) -> None:
    jobs.open()
    eventually(lambda: set(jobs.ends) >= set(numbers) and drained(rig), AFTER)
    assert jobs.runs == Counter(numbers)
    assert jobs.overlaps == []
    assert places.look(rig.raw).wrong() == []


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(each, marks=[] if each in ("LOADING", "NOPERM") else [pytest.mark.slow])
        for each in ERRORS
    ],
)
def test_an_error_of_a_bad_day_is_waited_out(
    rig: Rig, jobs: Jobs, proxy: FaultProxy, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    with working(proxy.url, jobs) as engine, caplog.at_level(logging.WARNING):
        busy(rig, jobs)
        before = engine.identity
        rule = proxy.lose(lambda words: True, "error", times=10**9, text=ERRORS[error])
        eventually(lambda: rule.hits >= 3)
        jobs.open()
        tries = rule.hits
        at = time.monotonic()
        never(lambda: rule.hits - tries > 25, 0.6, "a tight loop")
        proxy.heal()
        finished(rig, jobs, range(1, 11))
        assert time.monotonic() - at < AFTER
        assert engine.identity == before
    said = [record.getMessage() for record in caplog.records]
    assert len(said) <= 8, said
    assert any(error.split(maxsplit=1)[0] in str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize("error", ERRORS)
def test_a_push_that_the_server_refused_is_surely_not_enqueued(
    rig: Rig, proxy: FaultProxy, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qik_core.store.store.PATIENCE", 0.2)
    through = Rig(proxy.url, rig.raw)
    proxy.lose(lambda words: True, "error", times=10**9, text=ERRORS[error])

    with pytest.raises(NotEnqueued, match=error.split(maxsplit=1)[0]):
        through.push(1)
    assert places.look(rig.raw).jobs == {}
    proxy.heal()
    through.push(1)
    assert rig.queued() == ["0" * 23 + "1"]
    through.store.close()
    through.link.close()


# --- the real thing ----------------------------------------------------------------


def _readonly(raw: redis.Redis) -> Callable[[], object]:
    raw.replicaof("127.0.0.1", "1")
    return lambda: raw.replicaof("no", "one")


def _no_replicas(raw: redis.Redis) -> Callable[[], object]:
    raw.config_set("min-replicas-to-write", 1)
    return lambda: raw.config_set("min-replicas-to-write", 0)


def _no_permission(raw: redis.Redis) -> Callable[[], object]:
    raw.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-evalsha", "-eval"])
    return lambda: raw.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"])


def _no_password(raw: redis.Redis) -> Callable[[], object]:
    raw.config_set("requirepass", "secret")
    raw.client_kill_filter(_type="normal", skipme=True)
    return lambda: raw.config_set("requirepass", "")


@pytest.mark.every_server
@pytest.mark.parametrize("break_", [_readonly, _no_replicas, _no_permission, _no_password])
def test_a_server_that_refuses_for_now_is_waited_for(
    rig: Rig, jobs: Jobs, raw: redis.Redis, break_: Callable[[redis.Redis], Callable[[], object]]
) -> None:
    with working(rig.url, jobs) as engine:
        busy(rig, jobs)
        mend = break_(raw)
        jobs.open()
        try:
            eventually(lambda: engine.courier._trouble >= 2)
        finally:
            mend()
        rig.store.close()
        finished(rig, jobs, range(1, 11))


def test_a_server_that_is_busy_with_a_script_is_waited_for(
    rig: Rig, jobs: Jobs, raw: redis.Redis
) -> None:
    raw.config_set("busy-reply-threshold", 100)
    with working(rig.url, jobs) as engine:
        busy(rig, jobs)
        loop = threading.Thread(
            target=_suppressed(lambda: Link(rig.url).call("EVAL", "while true do end", 0))
        )
        loop.start()
        eventually(lambda: engine.courier._trouble >= 2)
        jobs.open()
        raw.script_kill()
        loop.join()
        finished(rig, jobs, range(1, 11))


def _suppressed(call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            call()
        except StoreError:
            return

    return run


def test_a_server_that_takes_no_more_clients_is_waited_for(
    rig: Rig, jobs: Jobs, raw: redis.Redis
) -> None:
    with working(rig.url, jobs) as engine:
        busy(rig, jobs)
        raw.ping()
        raw.config_set("maxclients", 1)
        raw.client_kill_filter(_type="normal", skipme=True)
        jobs.open()
        try:
            eventually(lambda: engine.courier._trouble >= 2)
        finally:
            raw.config_set("maxclients", 10_000)
        rig.store.close()
        finished(rig, jobs, range(1, 11))


@pytest.mark.every_server
def test_scripts_flushed_ten_times_a_second_are_noticed_by_nobody(
    rig: Rig, jobs: Jobs, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    def flush() -> None:
        while not over.wait(0.1):
            raw.script_flush()

    flusher = threading.Thread(target=flush)
    flusher.start()
    with working(rig.url, jobs), caplog.at_level(logging.WARNING):
        for first in range(0, 1_500, 50):
            rig.edge(*range(first, first + 50))
            eventually(lambda first=first: jobs.ends.total() == first + 50)  # type: ignore[misc]
    over.set()
    flusher.join()
    assert jobs.runs == Counter(range(1_500))
    assert caplog.records == []


@pytest.mark.parametrize(
    "cycles", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_a_redis_killed_and_restarted_with_its_file_loses_nothing_and_is_used_again(
    jobs: Jobs, cycles: int, tmp_path: Path
) -> None:
    with Embedded(appendonly=True, folder=tmp_path / "data") as server:
        raw = redis.Redis(unix_socket_path=str(server.socket))
        rig = Rig(server.url, raw)
        with working(server.url, jobs) as engine:
            before, pushed = engine.identity, 0
            for _ in range(cycles):
                rig.edge(*range(pushed, pushed + 20))
                pushed += 20
                eventually(lambda: jobs.runs.total() > pushed - 20)  # noqa: B023 - used at once
                server.kill()
                server.start()
                rig.store.close()
                rig.link.close()
                at = time.monotonic()
                rig.edge(pushed)
                pushed += 1
                eventually(lambda: jobs.ends[pushed - 1], AFTER)  # noqa: B023 - used at once
                assert time.monotonic() - at < AFTER
            eventually(lambda: drained(rig), AFTER)
            assert jobs.runs == Counter(range(pushed))
            assert engine.identity == before
        rig.link.close()
        rig.store.close()
        raw.close()


def test_a_redis_that_stands_still_for_a_while_makes_nobody_lost(
    rig: Rig, jobs: Jobs, raw: redis.Redis
) -> None:
    other = Jobs()
    with working(rig.url, jobs) as engine, working(rig.url, other) as second:
        jobs.slow(*range(1, 9))
        other.gates = jobs.gates
        rig.edge(*range(1, 9))
        eventually(lambda: (jobs.runs + other.runs).total() == 8)
        names = (engine.identity, second.identity)
        raw.client_pause(1_500)
        raw.ping()

        never(lambda: (jobs.runs + other.runs).total() > 8, LIMITS.lease / 2)
        jobs.open()
        eventually(lambda: drained(rig), AFTER)
        assert (jobs.runs + other.runs) == Counter(range(1, 9))
        assert (engine.identity, second.identity) == names


def test_a_black_hole_swallows_no_job_and_holds_no_call_beyond_its_deadline(
    rig: Rig, jobs: Jobs, proxy: FaultProxy
) -> None:
    with working(proxy.url, jobs) as engine:
        busy(rig, jobs)
        hole = proxy.lose(lambda words: True, "hole", times=10**9)
        jobs.open()
        eventually(lambda: hole.hits >= 4)
        at = time.monotonic()
        with pytest.raises(StoreError):
            Link(proxy.url, timeout=SOON).call("PING")
        assert time.monotonic() - at < 1 + SOON + 1
        rig.edge(*range(11, 21))  # others push meanwhile
        proxy.heal()
        finished(rig, jobs, range(1, 21))
        engine.heartbeat.beat_soon()
        eventually(lambda: held(rig) == 0)


def test_random_resets_lose_nothing_and_repeat_nothing(
    rig: Rig, jobs: Jobs, proxy: FaultProxy
) -> None:
    """Each 13th exchange and each 7th wake-up is reset; the process lives, so no run is repeated."""
    counts: Counter[str] = Counter()

    def unlucky(words: list[bytes]) -> bool:
        counts["all"] += 1
        return counts["all"] % 13 == 0

    proxy.lose(unlucky, "reset", times=10**9)
    with working(proxy.url, jobs):
        for first in range(0, 1_000, 50):
            rig.edge(*range(first, first + 50))
            eventually(lambda first=first: jobs.ends.total() == first + 50)  # type: ignore[misc]
        proxy.heal()
        eventually(lambda: drained(rig))
    assert jobs.runs == Counter(range(1_000))
    assert counts["all"] > 26
