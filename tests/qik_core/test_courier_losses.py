from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from qik_core.embedded import Embedded
from qik_core.store import recovery, rolls
from tests.qik_core.engine import Jobs, Start, drained, held
from tests.qik_core.store.rig import Rig
from tests.waiting import eventually, never


def test_a_running_job_is_asserted_after_a_loss_and_an_edge_makes_it_run_once_more(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1)
    start()
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    rig.raw.flushall()

    eventually(lambda: rig.lock(1), 2.0)
    assert rig.edge(2, keys=[1])[0].value == "dirtied"
    assert jobs.runs[1] == 1
    jobs.open()
    eventually(lambda: drained(rig))
    assert (jobs.runs[1], jobs.overlaps) == (2, [])


@pytest.mark.parametrize("what", ["working", "unique", "epoch", "all"])
def test_whatever_is_deleted_no_running_job_is_started_twice(
    rig: Rig, jobs: Jobs, start: Start, what: str
) -> None:
    jobs.slow(*range(8))
    rig.edge(*range(8))
    start(beats=True)
    start(beats=True)
    eventually(lambda: jobs.runs.total() == 8)
    if what == "all":
        rig.raw.flushall()
    else:
        rig.raw.delete(*rig.raw.scan_iter(f"qik:{what}*"))
    codes = rig.edge(*range(100, 108), keys=range(8))

    assert len(codes) == 8
    eventually(lambda: all(rig.lock(key) for key in range(8)) and held(rig) == 8, 3.0)
    never(lambda: jobs.runs.total() > 8, 1.0)
    jobs.open()
    if what == "epoch":  # the hash of the generation that it named is left, and collected
        rolls.roll(rig.link, rig.store.candidate, "tester", deadline=time.monotonic() + 5)
    eventually(lambda: drained(rig))
    assert jobs.overlaps == []
    assert max(jobs.runs.values()) <= 2
    told = int(rig.raw.hget("qik:counts", "lost_exchanges") or 0)
    assert (told > 0) is (what in ("working", "all"))  # what was held is told of where it was gone


def test_a_server_that_restarts_empty_is_used_again(
    rig: Rig, jobs: Jobs, start: Start, redis_server: Embedded
) -> None:
    jobs.slow(1)
    start(beats=True)
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    redis_server.kill()
    redis_server.start()
    rig.store.close()  # its connections are of the server before
    eventually(lambda: rig.lock(1))
    rig.edge(2)

    eventually(lambda: jobs.ends[2])
    jobs.open()
    eventually(lambda: drained(rig))
    assert jobs.runs == Counter([1, 2])


def test_a_fenced_process_comes_back_under_a_new_identity_and_its_old_results_count_nothing(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1)
    engine = start()
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    before, old = engine.identity, jobs.contexts[1]
    recovery.fence(rig.link, before, recovery.NO_BEAT)
    recovery.recover(rig.link, before, rig.store.candidate)

    eventually(lambda: engine.identity != before)
    eventually(
        lambda: jobs.runs[1] == 2
    )  # others took it over; here the same process fetched it again
    assert old.cancelled
    assert not jobs.contexts[1].cancelled
    jobs.open()
    eventually(lambda: drained(rig))
    assert not rig.raw.exists(f"qik:recovering:{before}")
    assert rig.raw.llen("queue:default") == 0


def test_a_process_that_was_silent_too_long_does_not_assert_what_it_held(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1)
    engine = start()
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    before = engine.identity
    engine.courier.fell_silent = lambda: True
    rig.raw.flushall()

    eventually(lambda: engine.identity != before)
    assert jobs.contexts[1].cancelled
    assert rig.lock(1) is None


def test_the_heartbeat_is_told_when_the_epoch_changes(rig: Rig, start: Start) -> None:
    engine = start()
    eventually(lambda: rig.raw.scard("qik:idle:default") == 1)
    before = engine.changes
    rig.raw.delete("qik:epoch")

    eventually(lambda: engine.changes > before, 1.5)


def test_snapshots_may_be_taken_while_the_courier_works(rig: Rig, jobs: Jobs, start: Start) -> None:
    """The heartbeat's view: what is held, what is being settled, never a field of an answered exchange left out."""
    engine = start()
    over = threading.Event()
    faults: list[Exception] = []

    def look() -> None:
        while not over.is_set():
            try:
                engine.courier.snapshot()
            except Exception as error:  # noqa: BLE001 - what the test is about
                faults.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for first in range(0, 2000, 500):
        rig.edge(*range(first, first + 500))
    eventually(lambda: drained(rig), 20)
    over.set()
    thread.join()
    assert faults == []


def test_a_worker_does_not_rest_between_superseded_copies(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    rig.edge(*range(200))
    rig.raw.delete(*rig.raw.scan_iter("qik:unique:*"))
    rig.edge(*range(1000, 1200), keys=list(range(200)))
    began = time.monotonic()

    start(size=1)

    eventually(lambda: drained(rig), 60)
    assert jobs.runs == Counter(range(1000, 1200))
    assert time.monotonic() - began < 30  # a rest of two seconds for each would be minutes
