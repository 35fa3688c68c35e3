"""`qik work` with jobs that do what jobs must not do, and under restarts: nothing is lost, and what ended is not repeated."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from functools import partial
from typing import Any

import pytest

from tests.integration.shop import LEASE, NOTES, SHUTDOWN, Shop, drained
from tests.waiting import eventually

APP = (
    NOTES
    + """
import asyncio, gc, signal, socket, sys, threading
from qik_core.courier import Courier

class OwnBase(BaseException):
    pass

RAISED = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, OwnBase, StopIteration, MemoryError]

class Raises(Job, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        raise RAISED[n]("on purpose")

class RaisesAsync(Job, retry=3):
    async def perform(self, n: int) -> None:
        note("start", n)
        raise RAISED[n]("on purpose")

class Plain(Job, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        note("end", n)

class Nap(Job, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        time.sleep(0.01 if n % 10 else 2.0)
        note("end", n)

class Burn(Job, retry=3):
    def perform(self, n: int) -> None:
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            sum(range(1000))
        note("end", n)

def forks():
    if os.fork() == 0:
        time.sleep(0.2)

def leaves_zombies():
    for _ in range(5):
        if os.fork() == 0:
            os._exit(0)

def spawns_threads():
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(1,)).start()

def changes_handlers():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a job thread may not: that is the job's failure

def blocks_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGTSTP})

def changes_folder():
    os.chdir("/")

def closes_files():
    os.closerange(0, 1000)

def hangs_the_courier():
    if not (HERE / "hung").exists():
        (HERE / "hung").touch()
        (courier,) = [each for each in gc.get_objects() if type(each) is Courier]
        courier._step = lambda: time.sleep(600)

def sets_a_default_timeout():
    socket.setdefaulttimeout(0.001)

def replaces_output():
    sys.stdout = sys.stderr = None

def changes_the_environment():
    os.environ.clear()

class Misbehaves(Job, retry=3):
    def perform(self, what: str) -> None:
        note("start", 0)
        globals()[what]()
        note("end", 0)
"""
)
LONG = """
class Long(Job, unique_for=1, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        while not (HERE / "go").exists():
            time.sleep(0.01)
        note("end", n)
"""
HARMLESS = (
    "forks",
    "leaves_zombies",
    "spawns_threads",
    "changes_handlers",
    "blocks_signals",
    "changes_folder",
    "sets_a_default_timeout",
    "replaces_output",
    "changes_the_environment",
)


def more_ends(shop: Shop, than: int) -> bool:
    return len(shop.notes("end")) >= than


@pytest.mark.parametrize("name", ["Raises", "RaisesAsync"])
def test_whatever_jobs_raise_waits_in_the_retry_set_by_name_and_the_process_lives(
    shop: Shop, raw: Any, name: str
) -> None:
    worker = shop.work()
    (child,) = shop.children(worker)
    shop.push(name, *range(7))
    eventually(lambda: raw.zcard("retry") == 7)
    shop.push("Plain", 100)
    eventually(lambda: shop.runs("end")[100])

    failed = [
        json.loads(each)["error_class"].rpartition(".")[2] for each in raw.zrange("retry", 0, -1)
    ]
    assert sorted(failed) == sorted(
        [
            "SystemExit",
            "KeyboardInterrupt",
            "GeneratorExit",
            "CancelledError",
            "OwnBase",
            "StopIteration" if name == "Raises" else "RuntimeError",
            "MemoryError",
        ]
    )
    assert shop.children(worker) == [child]


@pytest.mark.parametrize(
    "kinds",
    [HARMLESS, *(pytest.param((each,), marks=pytest.mark.slow) for each in HARMLESS)],
    ids=lambda kinds: kinds[0] if len(kinds) == 1 else "all",
)
def test_jobs_that_spoil_their_process_leave_the_jobs_after_them_unharmed(
    shop: Shop, raw: Any, kinds: tuple[str, ...]
) -> None:
    worker = shop.work("-c", "2")
    for at, what in enumerate(kinds):
        numbers = range(100 * at + 1, 100 * at + 101)
        shop.run(f"import shop; shop.Misbehaves.perform_async({what!r})")
        eventually(lambda at=at: len(shop.notes("start")) >= at * 101 + 1)  # type: ignore[misc]
        shop.push("Plain", *numbers)

        eventually(lambda: not raw.llen("queue:default"))
        eventually(lambda numbers=numbers: shop.runs("end")[numbers[-1]], 20)  # type: ignore[misc]
    eventually(lambda: drained(raw)() or raw.zcard("retry"))
    ends, each = shop.runs("end"), range(1, 100 * len(kinds) + 1)
    assert {n: ends[n] for n in each} == dict.fromkeys(each, 1)
    # The copy of a forked process has settled nothing.
    assert int(raw.get("stat:processed")) == 101 * len(kinds)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(SHUTDOWN + 6) == 0


def test_a_process_whose_files_a_job_has_closed_is_replaced_and_nothing_is_lost(
    shop: Shop, raw: Any
) -> None:
    worker = shop.work("-c", "2")
    (child,) = shop.children(worker)
    shop.run("import shop; shop.Misbehaves.perform_async('closes_files')")
    eventually(lambda: shop.notes("start"))
    shop.push("Plain", *range(1, 101))

    # What its threads note may go into any file by now, so only Redis can say what became of the jobs. One that failed
    # for want of its files is tried again after 15 to 25 s. The job itself is settled, or dead after three deaths.
    eventually(lambda: child not in shop.children(worker), 40)
    eventually(drained(raw, dead=1), 60)
    assert int(raw.get("stat:processed") or 0) >= 101
    buried = [json.loads(each) for each in raw.zrange("dead", 0, -1)]
    assert {(each["class"], each["error_class"]) for each in buried} <= {
        ("Misbehaves", "qik_core.errors.PoisonousJob")
    }


@pytest.mark.slow
def test_a_process_that_looks_alive_while_its_courier_hangs_is_replaced(
    shop: Shop, raw: Any
) -> None:
    worker = shop.work("-c", "2")
    (child,) = shop.children(worker)
    shop.run("import shop; shop.Misbehaves.perform_async('hangs_the_courier')")
    shop.push("Plain", *range(1, 11))

    eventually(lambda: child not in shop.children(worker), 40)
    eventually(drained(raw), 40)
    assert "gave no sign" in shop.log()
    assert shop.runs("end")[10] == 1


def test_busy_threads_and_a_long_queue_keep_no_beat_from_coming(shop: Shop, raw: Any) -> None:
    shop.push("Burn", *range(300))
    shop.work("-c", "10")
    shop.work("-c", "10")

    eventually(lambda: sum(shop.runs("end").values()) >= 300, 60)
    assert shop.runs("end") == Counter(range(300))
    for number in range(2):
        assert "recovered the jobs" not in shop.log(number)
        assert "fenced" not in shop.log(number)
        assert "gave no sign" not in shop.log(number)


def test_rolling_restarts_under_load_repeat_nothing_that_ended_and_count_no_attempt(
    shop: Shop, raw: Any
) -> None:
    """Every tenth job takes longer than the time to stop: it is handed back as it was."""
    shop.environment["QIK_SHUTDOWN"] = "0.5"
    numbers = range(1, 801)
    shop.push("Nap", *numbers)
    shop.work("-c", "5")
    for restart in range(3):
        shop.work("-c", "5")
        eventually(partial(more_ends, shop, len(shop.notes("end")) + 20))
        at = time.monotonic()
        shop.workers[restart].send_signal(signal.SIGTERM)
        assert shop.workers[restart].wait(10) == 0
        assert time.monotonic() - at <= 0.5 + 5
    (shop.folder / "shop.py").write_text(APP.replace("else 2.0", "else 0.01"))
    shop.work("-c", "5")
    shop.workers[3].send_signal(signal.SIGTERM)
    assert shop.workers[3].wait(10) == 0

    eventually(drained(raw), 40)
    assert shop.runs("end") == Counter(numbers)
    assert raw.zcard("retry") == raw.zcard("dead") == 0
    starts = shop.runs("start")
    assert all(starts[n] == 1 for n in numbers if n % 10)


def test_a_worker_that_lost_redis_while_it_stopped_leaves_its_jobs_to_others(
    shop: Shop, raw: Any
) -> None:
    shop.environment["QIK_SHUTDOWN"] = "0.5"
    shop.push("Nap", 10)
    worker = shop.work()
    eventually(lambda: shop.notes("start"))
    server = raw.info("server")["process_id"]
    os.kill(server, signal.SIGSTOP)
    try:
        at = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(0.5 + 6) == 0
        assert time.monotonic() - at <= 0.5 + 5
    finally:
        os.kill(server, signal.SIGCONT)
    (shop.folder / "shop.py").write_text(APP.replace("else 2.0", "else 0.01"))
    shop.work()

    eventually(lambda: shop.runs("end")[10] == 1, LEASE + 10)


def test_a_job_that_runs_longer_than_a_lease_keeps_its_lock_and_is_not_started_again(
    shop: Shop, raw: Any
) -> None:
    with (shop.folder / "shop.py").open("a") as file:
        file.write(LONG)
    shop.run("import shop; shop.Long.perform_async(1)")
    shop.work()
    shop.work()
    eventually(lambda: shop.notes("start"))
    duplicate = "import shop; assert type(shop.Long.perform_async(1)).__name__ == 'Dirtied'"
    eventually(lambda: time.monotonic() - shop.notes("start")[0][2] > LEASE + 1, LEASE + 3)
    shop.run(duplicate)

    assert len(shop.notes("start")) == 1
    shop.go()
    eventually(drained(raw))
    assert shop.runs("end") == Counter({1: 2})  # once more, after the first: the edge asked for it
    (_, _, first_end), (_, _, second_end) = shop.notes("end")
    assert first_end < shop.notes("start")[1][2] < second_end


def test_the_password_of_redis_is_in_no_line(shop: Shop, raw: Any) -> None:
    shop.environment["REDIS_URL"] = shop.environment["REDIS_URL"].replace(
        "unix://", "unix://someone:S3CR3T@"
    )
    worker = shop.work()
    eventually(lambda: "waiting for Redis" in shop.log())
    worker.send_signal(signal.SIGTTIN)
    eventually(lambda: "thread_name=MainThread" in shop.log())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(SHUTDOWN + 6) == 0

    assert "S3CR3T" not in shop.log()
