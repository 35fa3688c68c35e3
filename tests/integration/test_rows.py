"""`qik work` with somebody who knows rows: here a folder with a file for each pending row."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter

import pytest
import redis

from qik_core.passes import EndedKind, Passes
from qik_core.store import Store
from tests.integration.shop import NOTES, Shop, drained
from tests.waiting import eventually

APP = (
    NOTES
    + """
import contextlib, ctypes
from qik_core import rows
from qik_core.rows import Standing

(HERE / "rows").mkdir(exist_ok=True)

class Folder:
    def reconciled(self, name):
        return True

    def checked(self, name):
        return True

    def progress(self, name):
        return name != "Careless"

    def look(self, asked):
        note("look", len(asked))
        while (HERE / f"hang{asked[0].name}").exists():
            time.sleep(0.01)
        if (HERE / "down").exists():
            return [Standing.UNKNOWN] * len(asked)
        return [Standing.PENDING if (HERE / "rows" / str(each.args[0])).exists() else Standing.GONE for each in asked]

    def guarded(self, name, args):
        return contextlib.nullcontext(True)

rows.fill(Folder)

class Take(Job, unique_for=600, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        (HERE / "rows" / str(n)).unlink(missing_ok=True)
        note("end", n)

class Leave(Job, unique_for=600):
    def perform(self, n: int) -> None:
        note("start", n)

class Careless(Leave):
    pass

class Twice(Job, unique_for=600):
    def perform(self, n: int) -> None:
        note("start", n)
        while not (HERE / "go").exists():
            time.sleep(0.01)
        if (HERE / "second").exists():
            (HERE / "rows" / str(n)).unlink()
        (HERE / "second").touch()

class Hang(Job, unique_for=600):
    def perform(self, n: int) -> None:
        note("start", n)
        (HERE / "rows" / str(n)).unlink()
        (HERE / "hangHang").touch()  # whoever asks from now on hangs

class Fail(Job, unique_for=600, retry=0):
    def perform(self, n: int) -> None:
        raise ValueError(f"row {n} is impossible")

class Segfault(Job, unique_for=600):
    def perform(self, n: int) -> None:
        note("start", n)
        ctypes.string_at(0)
"""
)


def pend(shop: Shop, *numbers: int) -> None:
    (shop.folder / "rows").mkdir(exist_ok=True)
    for number in numbers:
        (shop.folder / "rows" / str(number)).touch()


def pending(shop: Shop) -> set[int]:
    return {int(path.name) for path in (shop.folder / "rows").iterdir()}


def count(raw: redis.Redis, name: str) -> int:
    return int(raw.hget("qik:counts", name) or 0)


@pytest.fixture
def passes(redis_url: str) -> Passes:
    return Passes(Store(redis_url))


def read(passes: Passes) -> Counter[tuple[str, int]]:
    return Counter((each.kind.value, each.args[0]) for each in passes.ended())


def test_jobs_whose_rows_are_gone_are_skipped_and_counted_and_leave_no_lock(
    shop: Shop, raw: redis.Redis
) -> None:
    pend(shop, *range(0, 300, 2))
    shop.push("Take", *range(300))
    shop.work("-c", "5")
    eventually(drained(raw), 20)

    assert shop.runs("end") == Counter(range(0, 300, 2))
    assert (count(raw, "stale"), pending(shop)) == (150, set())
    assert raw.exists("qik:ended") == 0
    asked = sum(n for n, _, _ in shop.notes("look"))
    assert (
        450 <= asked <= 700
    )  # each before; each that ran, after; some twice, since an answer grows old
    assert len(shop.notes("look")) < 100


def test_a_job_that_leaves_its_row_is_recorded_once_a_run(
    shop: Shop, raw: redis.Redis, passes: Passes
) -> None:
    pend(shop, *range(10))
    shop.push("Leave", *range(5))
    shop.push("Careless", *range(5, 10))
    worker = shop.work()
    eventually(drained(raw))

    expected = Counter({("no_progress", n): 1 for n in range(5)})
    assert read(passes) == expected
    (child,) = shop.children(worker)
    os.kill(worker.pid, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    assert read(passes) == expected  # until somebody has them
    passes.forget_ended(5)
    assert read(passes) == Counter()


def test_a_run_during_which_an_edge_came_is_not_blamed_for_its_row(
    shop: Shop, raw: redis.Redis, passes: Passes
) -> None:
    pend(shop, 1)
    shop.push("Twice", 1)
    shop.work()
    eventually(lambda: shop.runs("start") == Counter({1: 1}))
    shop.push("Twice", 1)
    shop.go()
    eventually(lambda: shop.runs("start") == Counter({1: 2}))
    eventually(drained(raw))

    assert (pending(shop), read(passes)) == (set(), Counter())


def test_a_stale_job_that_an_edge_wants_once_more_is_asked_for_again(
    shop: Shop, raw: redis.Redis
) -> None:
    (shop.folder / "hangTake").touch()
    shop.push("Take", 1)
    shop.work()
    eventually(lambda: shop.notes("look"))
    shop.push("Take", 1)  # it holds its lock as running by now
    (shop.folder / "hangTake").unlink()
    eventually(drained(raw))

    assert (count(raw, "stale"), shop.runs("start")) == (2, Counter())


def test_where_nothing_can_be_known_jobs_run_and_are_counted(shop: Shop, raw: redis.Redis) -> None:
    (shop.folder / "down").touch()
    shop.push("Take", *range(50))
    worker = shop.work("-c", "5")
    eventually(drained(raw))
    eventually(lambda: count(raw, "unchecked") == 50)
    assert shop.runs("end") == Counter(range(50))
    assert len(shop.notes("look")) <= 5

    (shop.folder / "down").unlink()
    numbers = iter(range(50, 100))

    def is_asked_again() -> bool:
        shop.push("Take", next(numbers))
        return count(raw, "stale") > 0

    eventually(is_asked_again)
    worker.terminate()
    assert worker.wait(10) == 0


def test_unchecked_jobs_are_counted_also_by_a_worker_that_leaves(
    shop: Shop, raw: redis.Redis
) -> None:
    shop.environment["QIK_HEARTBEAT"] = "60"
    shop.environment["QIK_LEASE"] = "200"
    (shop.folder / "down").touch()
    shop.push("Take", 1, 2)
    worker = shop.work()
    eventually(drained(raw))
    worker.terminate()
    assert worker.wait(10) == 0

    assert count(raw, "unchecked") == 2


def test_a_database_that_hangs_stalls_no_worker(shop: Shop, raw: redis.Redis) -> None:
    pend(shop, *range(100, 110))
    (shop.folder / "hangTake").touch()
    shop.push("Take", *range(20))
    shop.push("Leave", *range(100, 110))
    began = time.monotonic()
    shop.work("-c", "5")
    eventually(lambda: len(shop.runs("end")) >= 19 and len(shop.runs("start")) >= 29)

    assert time.monotonic() - began < 8
    (shop.folder / "hangTake").unlink()
    eventually(drained(raw))
    assert "a defect" not in shop.log()


def hanging(shop: Shop) -> subprocess.Popen[bytes]:
    """A worker that has run a job, and hangs in the question what the run has changed."""
    pend(shop, 1)
    shop.push("Hang", 1)
    worker = shop.work()
    eventually(lambda: len(shop.notes("look")) == 2)
    return worker


def test_a_worker_that_leaves_settles_what_it_still_asks_about(
    shop: Shop, raw: redis.Redis, passes: Passes
) -> None:
    worker = hanging(shop)
    worker.terminate()
    eventually(lambda: "quiet" in shop.log())
    (shop.folder / "hangHang").unlink()
    assert worker.wait(10) == 0

    assert drained(raw)()
    assert (shop.runs("start"), read(passes)) == (Counter({1: 1}), Counter())


def test_a_job_whose_process_died_before_its_end_was_known_is_stale_the_next_time(
    shop: Shop, raw: redis.Redis, passes: Passes
) -> None:
    worker = hanging(shop)
    (child,) = shop.children(worker)
    os.kill(child, signal.SIGKILL)
    (shop.folder / "hangHang").unlink()
    eventually(drained(raw), 20)

    assert (shop.runs("start"), count(raw, "stale")) == (Counter({1: 1}), 1)
    assert read(passes) == Counter()


@pytest.mark.slow
@pytest.mark.every_server
def test_a_job_that_dies_and_one_that_crashes_are_recorded_with_their_error(
    shop: Shop, raw: redis.Redis, passes: Passes
) -> None:
    pend(shop, 1, 2)
    shop.push("Fail", 1)
    shop.push("Segfault", 2)
    shop.work("-c", "1")
    eventually(lambda: raw.zcard("dead") == 2, 30)

    died, crashed = sorted(passes.ended(), key=lambda each: each.args[0])
    assert (died.kind, died.error) == (EndedKind.DIED, "ValueError: row 1 is impossible")
    assert (crashed.kind, crashed.name) == (EndedKind.CRASHED, "Segfault")
    assert "3 processes died" in crashed.error
    assert shop.runs("start") == Counter({2: 3})


def test_a_worker_killed_before_it_could_settle_leaves_one_record_for_each_row(
    shop: Shop, raw: redis.Redis, passes: Passes
) -> None:
    pend(shop, *range(40))
    shop.push("Leave", *range(40))
    worker = shop.work("-c", "4")
    eventually(lambda: len(shop.runs("start")) >= 5)
    (child,) = shop.children(worker)
    os.kill(child, signal.SIGKILL)
    eventually(drained(raw), 20)

    records = read(passes)
    assert set(records) == {("no_progress", n) for n in range(40)}
    assert set(records.values()) == {1}
