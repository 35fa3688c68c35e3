"""`qik work` on a real server, at a tenth of the usual times: what becomes of running jobs when processes end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest
import redis

from tests import forks
from tests.integration.shop import HEARTBEAT, LEASE, NOTES, SHUTDOWN, Shop, drained
from tests.waiting import alive, eventually, never

APP = (
    NOTES
    + """
import ctypes

class Wait(Job, unique_for=600, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        while not (HERE / "go").exists():
            time.sleep(0.01)
        note("end", n)

class HoldGil(Job, unique_for=600):
    def perform(self, n: int) -> None:
        note("start", n)
        if not (HERE / "go").exists():
            mutex = ctypes.create_string_buffer(64)
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        note("end", n)

class Segfault(Job, unique_for=600):
    def perform(self, n: int) -> None:
        note("start", n)
        ctypes.string_at(0)
"""
)


@pytest.mark.every_server
def test_ten_jobs_of_a_child_that_sigkill_ended_run_again_within_2_seconds(
    shop: Shop, raw: redis.Redis
) -> None:
    shop.push("Wait", *range(10))
    worker = shop.work()
    eventually(lambda: len(shop.notes("start")) == 10)
    (child,) = shop.children(worker)
    at = time.monotonic()
    os.kill(child, signal.SIGKILL)
    eventually(lambda: len(shop.notes("start")) == 20)
    assert max(when for _, _, when in shop.notes("start")) - at <= 2.0
    assert set(shop.runs("start").values()) == {2}
    shop.go()
    eventually(drained(raw))
    assert shop.runs("end") == Counter(range(10))


def test_jobs_of_a_lost_host_run_again_within_a_lease_and_two_heartbeats(
    shop: Shop, raw: redis.Redis
) -> None:
    shop.push("Wait", *range(10))
    lost = shop.work()
    eventually(lambda: len(shop.notes("start")) == 10)
    shop.work()
    (child,) = shop.children(lost)
    at = time.monotonic()
    lost.kill()
    os.kill(child, signal.SIGKILL)
    eventually(lambda: len(shop.notes("start")) == 20, LEASE + 10)
    assert max(when for _, _, when in shop.notes("start")) - at <= LEASE + 2 * HEARTBEAT
    shop.go()
    eventually(drained(raw))
    assert shop.runs("end") == Counter(range(10))


def test_a_stop_finishes_what_fits_and_hands_the_rest_back_as_it_was(
    shop: Shop, raw: redis.Redis
) -> None:
    shop.push("Wait", *range(15))
    before = set(raw.lrange("queue:default", 0, -1))
    worker = shop.work()
    eventually(lambda: len(shop.notes("start")) == 10)
    at = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(SHUTDOWN + 6) == 0
    assert time.monotonic() - at <= SHUTDOWN + 5
    assert set(raw.lrange("queue:default", 0, -1)) == before  # byte for byte: nothing was counted
    assert raw.llen("queue:default") == 15
    assert not list(raw.scan_iter("qik:working:*"))
    assert shop.runs("end") == Counter()
    shop.go()
    shop.work()
    eventually(drained(raw))
    assert shop.runs("end") == Counter(range(15))


def test_a_stop_waits_for_jobs_that_end_in_time(shop: Shop, raw: redis.Redis) -> None:
    shop.push("Wait", *range(5))
    worker = shop.work()
    eventually(lambda: len(shop.notes("start")) == 5)
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "quiet: no more jobs" in shop.log())
    shop.push("Wait", 99)
    shop.go()
    at = time.monotonic()
    assert worker.wait(SHUTDOWN + 6) == 0
    assert time.monotonic() - at < SHUTDOWN
    assert shop.runs("start") == shop.runs("end") == Counter(range(5))
    assert raw.llen("queue:default") == 1


def test_a_stop_does_not_wait_for_a_redis_that_is_gone(shop: Shop, redis_server: Any) -> None:
    shop.push("Wait", *range(3))
    worker = shop.work()
    eventually(lambda: len(shop.notes("start")) == 3)
    redis_server.kill()
    at = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(SHUTDOWN + 6) == 0
    assert time.monotonic() - at <= SHUTDOWN + 5


def test_a_job_that_holds_the_gil_ends_with_its_process_and_the_process_is_replaced(
    shop: Shop, raw: redis.Redis
) -> None:
    shop.push("HoldGil", 1)
    worker = shop.work()
    eventually(lambda: shop.notes("start"))
    (_, stuck, at), *_ = shop.notes("start")
    shop.go()  # the next run will not hold it
    eventually(lambda: shop.runs("end") == Counter([1]), 2 * LEASE + 5)
    assert shop.notes("end")[0][2] - at <= 2 * LEASE
    assert not alive(stuck)
    assert stuck not in shop.children(worker)
    assert "gave no sign for 2 s: SIGKILL" in shop.log()
    eventually(drained(raw))


def test_a_quiet_worker_fetches_no_more_and_still_stops(shop: Shop, raw: redis.Redis) -> None:
    worker = shop.work()
    worker.send_signal(signal.SIGTSTP)
    eventually(lambda: "quiet: no more jobs" in shop.log())
    shop.push("Wait", 1)
    never(lambda: shop.notes("start"), 1.0)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(SHUTDOWN + 5) == 0
    assert raw.llen("queue:default") == 1


def test_sigttin_prints_what_every_thread_does(shop: Shop) -> None:
    shop.push("Wait", 1)
    worker = shop.work()
    eventually(lambda: shop.notes("start"))
    worker.send_signal(signal.SIGTTIN)
    eventually(lambda: "in perform" in shop.log())


def test_children_finish_by_themselves_when_their_parent_is_gone(
    shop: Shop, raw: redis.Redis
) -> None:
    shop.push("Wait", 1)
    worker = shop.work()
    eventually(lambda: shop.notes("start"))
    (child,) = shop.children(worker)
    worker.kill()
    eventually(lambda: "the parent is gone" in shop.log())
    shop.go()
    eventually(lambda: not alive(child))
    assert shop.runs("end") == Counter([1])
    assert drained(raw)()


def test_an_application_that_cannot_be_imported_ends_the_worker_with_its_traceback(
    shop: Shop,
) -> None:
    (shop.folder / "shop.py").write_text("\nimport nowhere_at_all\n")
    ended = subprocess.run(
        [sys.executable, "-m", "qik_core.cli", "work", "shop"],
        env=shop.environment,
        cwd=shop.folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "No module named 'nowhere_at_all'" in ended.stderr
    assert "line 2" in ended.stderr
    assert "no worker can start" in ended.stderr


def test_status_shows_the_process_and_what_it_works_on(shop: Shop) -> None:
    shop.push("Wait", 1, 2)
    shop.work()
    eventually(lambda: len(shop.notes("start")) == 2)

    def seen() -> dict[str, Any]:
        told = forks.run(forks.QIK, ["status", "--json"], cwd=shop.folder, env=shop.environment)
        return dict(json.loads(told.stdout))

    (process,) = seen()["processes"]
    assert process["working"] == 2
