"""`qik work` on a real server, at a tenth of the usual times: how a worker lives and ends, told by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from typing import Any

import pytest

from tests.integration.shop import NOTES, SHUTDOWN, Shop, drained
from tests.waiting import alive, eventually, never, whole_lines

APP = (
    NOTES
    + """
import logging
from qik_core.hooks import Event, on

log = logging.getLogger("shop.billing")

for each in Event:
    on(each)(lambda each=each: note(each.value, 0))

class Wait(Job, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        log.info("waiting")
        while not (HERE / "go").exists():
            time.sleep(0.01)
        note("end", n)

class Report(Wait, queue="reports", retry=3):
    pass

class Note(Job):
    def perform(self, n: int) -> None:
        note("start", n)

class Nap(Job, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        time.sleep(0.02)
        note("end", n)

class Checks(Job):
    def perform(self, n: int) -> None:
        note("start", n)
        while not (HERE / "go").exists():
            time.sleep(0.01)
            self.context.checkpoint()
        note("end", n)

class Awaits(Job):
    async def perform(self, n: int) -> None:
        import asyncio
        note("start", n)
        await asyncio.sleep(30)
        note("end", n)
"""
)
CAPSULES = '{"slow": {"queues": ["reports,2"], "concurrency": 2}}'


def add(shop: Shop, code: str) -> None:
    """Add code to the application."""
    with (shop.folder / "shop.py").open("a") as file:
        file.write(code)


def events(shop: Shop) -> list[str]:
    """Return what was noted, each kind once, in the order of its first time."""
    return list(dict.fromkeys(line.split()[0] for line in whole_lines(shop.folder / "notes")))


def identity(raw: Any) -> bytes:
    (found,) = eventually(lambda: raw.smembers("processes"))
    return bytes(found)


# --- events ------------------------------------------------------------------------


def test_an_application_is_told_of_the_life_of_its_worker_in_order_and_of_each_event_once(
    shop: Shop, raw: Any
) -> None:
    shop.push("Note", 1)
    worker = shop.work()
    eventually(lambda: shop.notes("start") and len(shop.notes("beat")) >= 3)
    worker.send_signal(signal.SIGTSTP)
    eventually(lambda: shop.notes("quiet"))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(SHUTDOWN + 6) == 0

    told = events(shop)
    told.remove("start")
    assert told == ["startup", "heartbeat", "beat", "quiet", "shutdown", "exit"]
    for event in ("startup", "heartbeat", "quiet", "shutdown", "exit"):
        assert len(shop.notes(event)) == 1
    assert shop.notes("startup")[0][2] < shop.notes("start")[0][2]


def test_an_application_is_told_when_redis_had_forgotten_its_worker(shop: Shop, raw: Any) -> None:
    shop.work()
    eventually(lambda: shop.notes("heartbeat"))
    raw.delete(identity(raw))

    eventually(lambda: len(shop.notes("heartbeat")) == 2)


def test_a_startup_function_that_raises_ends_the_worker_with_its_reason(shop: Shop) -> None:
    add(shop, "\n@on('startup')\ndef connect():\n    raise ValueError('no database')\n")
    shop.push("Note", 1)
    environment = {**shop.environment, "QIK_LOG_FORMAT": "plain"}
    shop.environment = environment

    worker = shop.spawn("-p", "5")  # a parent gives up after five failures

    assert worker.wait(20) == 1
    assert "a function for the event startup raised ValueError: no database" in shop.log()
    assert 'shop.py", line' in shop.log()
    assert "no worker can start" in shop.log()
    assert shop.notes("start") == []


def test_functions_that_hang_keep_neither_beats_nor_the_end_from_coming(
    shop: Shop, raw: Any
) -> None:
    for event in ("beat", "quiet", "shutdown", "exit"):
        add(shop, f"\n@on('{event}')\ndef hang_{event}():\n    time.sleep(60)\n")
    worker = shop.work()
    name = identity(raw)
    eventually(lambda: "takes longer than a beat" in shop.log())
    before = raw.hget(name, "beat")
    eventually(lambda: raw.hget(name, "beat") != before)
    at = time.monotonic()
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(SHUTDOWN + 6) == 0
    assert time.monotonic() - at <= SHUTDOWN + 5
    assert "not waited for" in shop.log()


# --- signals ------------------------------------------------------------------------


def test_a_second_term_stops_at_once_and_the_jobs_go_back_uncounted(shop: Shop, raw: Any) -> None:
    shop.environment["QIK_SHUTDOWN"] = "30"
    shop.push("Wait", *range(3))
    before = set(raw.lrange("queue:default", 0, -1))
    worker = shop.work()
    eventually(lambda: len(shop.notes("start")) == 3)
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "quiet: no more jobs" in shop.log())
    at = time.monotonic()
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(10) == 0
    assert time.monotonic() - at <= 5
    assert set(raw.lrange("queue:default", 0, -1)) == before


def test_int_stops_as_term_does(shop: Shop, raw: Any) -> None:
    worker = shop.work()
    worker.send_signal(signal.SIGINT)

    assert worker.wait(SHUTDOWN + 6) == 0
    assert raw.scard("processes") == 0


def test_term_ends_a_worker_that_has_never_reached_redis(shop: Shop, redis_server: Any) -> None:
    redis_server.kill()
    worker = shop.work()
    eventually(lambda: "waiting for Redis" in shop.log())
    at = time.monotonic()
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(SHUTDOWN + 6) == 0
    assert time.monotonic() - at <= SHUTDOWN + 1


def test_quiet_from_sidekiqs_pages_cannot_be_taken_back(shop: Shop, raw: Any) -> None:
    worker = shop.work()
    name = identity(raw)
    raw.lpush(name + b"-signals", "TSTP")
    eventually(lambda: raw.hget(name, "quiet") == b"true")
    for number in (signal.SIGTSTP, signal.SIGCONT):
        worker.send_signal(number)
    shop.push("Note", 1)

    never(lambda: shop.notes("start"), 1.2)
    assert len(shop.notes("quiet")) == 1


def test_stop_from_sidekiqs_pages_ends_the_process_and_loses_nothing(shop: Shop, raw: Any) -> None:
    shop.push("Wait", 1)
    worker = shop.work()
    name = identity(raw)
    (child,) = shop.children(worker)
    eventually(lambda: shop.notes("start"))
    raw.lpush(name + b"-signals", "TERM")

    eventually(lambda: not alive(child), SHUTDOWN + 6)
    shop.go()
    eventually(lambda: shop.runs("end") == Counter([1]))


def test_ttin_names_every_thread_and_the_job_that_it_runs(shop: Shop, raw: Any) -> None:
    shop.push("Wait", 1)
    jid = json.loads(raw.lindex("queue:default", 0))["jid"]
    worker = shop.work()
    eventually(lambda: shop.notes("start"))
    worker.send_signal(signal.SIGTTIN)

    line = rf"thread thread_name=job-\d+ number=(0x[0-9a-f]{{16}}) jid={jid}"
    (number,) = eventually(lambda: re.findall(line, shop.log()))
    assert f"Thread {number} (most recent call first)" in shop.log()
    assert "in perform" in shop.log()
    assert "thread_name=courier" in shop.log()


# --- capsules and lines ---------------------------------------------------------------


def test_a_worker_has_the_capsules_of_its_settings(shop: Shop, raw: Any) -> None:
    shop.environment["QIK_CAPSULES"] = CAPSULES
    shop.push("Wait", *range(4))
    shop.push("Report", *range(10, 14))
    worker = shop.work("-c", "3")
    eventually(lambda: len(shop.notes("start")) == 5)
    name = identity(raw)
    eventually(lambda: raw.hget(name, "busy") == b"5")

    info = json.loads(raw.hget(name, "info"))
    assert info["queues"] == ["default", "reports"]
    assert info["concurrency"] == 5
    assert info["capsules"] == {
        "default": {"concurrency": 3, "mode": "strict", "weights": {"default": 1}},
        "slow": {"concurrency": 2, "mode": "weighted", "weights": {"reports": 2}},
    }
    (child,) = shop.children(worker)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: len(shop.notes("start")) >= 10, 20)
    shop.go()
    eventually(lambda: drained(raw)() and not raw.llen("queue:reports"), 20)
    assert set(shop.runs("end")) == {*range(4), *range(10, 14)}


def test_lines_are_json_when_the_settings_say_so_and_those_of_a_job_tell_of_it(
    shop: Shop, raw: Any
) -> None:
    shop.environment["QIK_LOG_FORMAT"] = "json"
    shop.push("Wait", 7)
    jid = json.loads(raw.lindex("queue:default", 0))["jid"]
    shop.go()
    shop.work(ready='"logger": "parent", "event": "is ready"')
    eventually(drained(raw))

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in shop.log().splitlines()]

    eventually(lambda: any(each["event"] == "job done" for each in lines()))
    about = [each for each in lines() if each.get("jid") == jid]
    assert [each["event"] for each in about] == ["job started", "waiting", "job done"]
    assert all((each["job"], each["queue"]) == ("Wait", "default") for each in about)
    assert about[1]["logger"] == "shop.billing"
    assert about[2]["seconds"] >= 0


# --- pausing and cancelling -------------------------------------------------------------


def test_a_pause_holds_at_once_and_a_resume_lets_go(shop: Shop, raw: Any) -> None:
    shop.push("Nap", *range(400))
    shop.work("-c", "2")
    eventually(lambda: len(shop.notes("start")) > 20)
    raw.sadd("paused", "default")
    at = time.monotonic()
    eventually(lambda: time.monotonic() - shop.notes("start")[-1][2] > 0.3)

    assert shop.notes("start")[-1][2] - at < 0.3
    assert raw.llen("queue:default") > 100
    raw.srem("paused", "default")
    eventually(drained(raw), 20)
    assert shop.runs("end") == Counter(range(400))


@pytest.mark.parametrize("name", ["Checks", "Awaits"])
def test_a_running_job_that_somebody_cancels_ends_and_is_counted(
    shop: Shop, raw: Any, name: str
) -> None:
    shop.push(name, 1)
    jid = json.loads(raw.lindex("queue:default", 0))["jid"]
    shop.work()
    eventually(lambda: shop.notes("start"))
    raw.zadd("qik:cancelled", {jid: time.time() + 60})

    eventually(drained(raw))
    assert shop.notes("end") == []
    assert raw.hget("qik:counts", "cancelled") == b"1"
    assert raw.get("stat:failed") is None


def test_a_job_that_somebody_cancelled_is_not_started(shop: Shop, raw: Any) -> None:
    shop.push("Note", 1, 2)
    jids = [json.loads(each)["jid"] for each in raw.lrange("queue:default", 0, -1)]
    raw.sadd("paused", "default")
    shop.work()
    raw.zadd("qik:cancelled", {jids[0]: time.time() + 60})
    beats = len(shop.notes("beat"))
    eventually(lambda: len(shop.notes("beat")) >= beats + 2)
    raw.srem("paused", "default")

    eventually(drained(raw))
    assert len(shop.notes("start")) == 1
    assert raw.hget("qik:counts", "cancelled") == b"1"
