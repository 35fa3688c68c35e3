from __future__ import annotations

import statistics
import time
from collections import Counter
from functools import partial

import pytest

from tests.faultproxy import FaultProxy, is_command, is_script
from tests.qik_core.engine import Jobs, Start, drained, held
from tests.qik_core.store.rig import Rig, jid
from tests.waiting import eventually, never

# --- the ordinary day ----------------------------------------------------------


def test_every_job_runs_once_and_leaves_neither_lock_nor_entry(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    for first in range(0, 2000, 500):
        rig.edge(*range(first, first + 500))
    start()
    start()

    eventually(lambda: drained(rig), 20)
    assert jobs.runs == Counter(range(2000))
    assert rig.raw.get("stat:processed") == b"2000"
    assert rig.store.audit(["default"]) == 0


def test_an_idle_worker_is_woken_by_a_push_and_does_not_poll(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    start(size=1)
    waits = []
    for number in range(20):
        eventually(lambda: rig.raw.scard("qik:idle:default") == 1)
        at = time.monotonic()
        rig.edge(number)
        eventually(partial(jobs.runs.get, number), every=0.001)
        waits.append(time.monotonic() - at)
    assert statistics.median(waits) < 0.05
    assert max(waits) < 0.5


def test_a_push_wakes_a_worker_that_has_threads_free_beside_those_that_run(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(*range(8))
    start(size=10)
    waits = []
    for number in range(8):
        at = time.monotonic()
        rig.edge(number)
        eventually(partial(jobs.runs.get, number), every=0.001)
        waits.append(time.monotonic() - at)
    assert statistics.median(waits[1:]) < 0.05
    jobs.open()


def test_a_push_of_ruby_wakes_nobody_and_is_found_within_two_seconds(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    start()
    eventually(lambda: rig.raw.scard("qik:idle:default") == 1)
    rig.raw.lpush("queue:default", b'{"class":"X","args":[7],"jid":"abc","queue":"default"}')

    eventually(lambda: jobs.ends[7], 2.0)


def test_a_result_is_settled_while_other_jobs_go_on(rig: Rig, jobs: Jobs, start: Start) -> None:
    jobs.slow(1)
    start(size=2)
    rig.edge(1, 2)

    eventually(lambda: jobs.ends[2])
    eventually(lambda: rig.locks() == 1, 0.5)
    assert held(rig) == 1


def test_jobs_behind_a_slow_one_are_handed_back_after_100_ms_in_their_order(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    start(size=1).fetch_ahead()
    eventually(lambda: rig.raw.scard("qik:idle:default") == 1)
    jobs.slow(1)
    rig.edge(*range(1, 51))
    eventually(lambda: jobs.runs[1])

    eventually(lambda: len(rig.queued()) == 49, 1.0)
    assert rig.queued() == [jid(number).decode() for number in range(2, 51)]
    start(size=1)
    eventually(lambda: sum(jobs.ends[n] for n in range(2, 51)) == 49, 2.0)
    assert jobs.ends[1] == 0


def test_a_quiet_worker_ends_what_it_runs_and_takes_nothing_new(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1)
    engine = start(size=2)
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    engine.courier.quiet()
    rig.edge(2)

    never(lambda: jobs.runs[2], 0.5)
    jobs.open()
    eventually(lambda: rig.locks() == 1)
    assert rig.queued() == [jid(2).decode()]


def test_a_worker_that_closes_hands_back_what_it_has_not_started(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    engine = start(size=1)
    engine.fetch_ahead()
    eventually(lambda: rig.raw.scard("qik:idle:default") == 1)
    jobs.slow(1)
    rig.edge(*range(1, 11))
    eventually(lambda: jobs.runs[1])
    engine.courier.close()

    eventually(lambda: rig.queued() == [jid(number).decode() for number in range(2, 11)])
    assert not engine.courier.closed.is_set()
    jobs.open()
    assert engine.courier.closed.wait(5)
    assert held(rig) == 0


def test_a_superseded_job_is_not_started_and_a_superseded_run_is_asked_to_stop(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    engine = start(size=1)
    engine.fetch_ahead()
    eventually(lambda: rig.raw.scard("qik:idle:default") == 1)
    jobs.slow(1)
    next(iter(engine.courier.capsules)).pace.stuck = lambda: False  # type: ignore[method-assign] # no handing back meanwhile
    rig.edge(1, 2, 3)
    eventually(lambda: jobs.runs[1] and len(engine.courier.snapshot()[0]) == 3)
    fields = {job.raw: field for field, job in engine.courier.held.items()}
    one, two, _ = (
        next(field for raw, field in fields.items() if jid(number) in raw) for number in (1, 2, 3)
    )

    engine.courier.supersede({one, two})
    assert jobs.contexts[1].cancelled
    jobs.open()
    eventually(lambda: drained(rig))
    assert (jobs.runs[2], jobs.runs[3]) == (0, 1)


# --- lost replies --------------------------------------------------------------


@pytest.mark.parametrize("action", ["cut", "hang", "refuse"])
@pytest.mark.parametrize("skip", [0, 1, 4])
def test_no_lost_answer_of_an_exchange_doubles_or_strands_a_job(
    rig: Rig, jobs: Jobs, start: Start, proxy: FaultProxy, action: str, skip: int
) -> None:
    rig.edge(*range(300))
    rule = proxy.lose(is_script("exchange"), action, skip=skip, times=2)
    start(proxy.url)

    eventually(lambda: drained(rig))
    assert jobs.runs == Counter(range(300))
    assert rig.raw.get("stat:processed") == b"300"
    eventually(lambda: rule.hits == 2)


def test_the_same_bytes_go_out_again_until_they_are_answered(
    rig: Rig, jobs: Jobs, start: Start, proxy: FaultProxy
) -> None:
    jobs.slow(1)
    start(proxy.url, size=2)
    rig.edge(1, 2)
    eventually(lambda: jobs.ends[2] and rig.locks() == 1)
    proxy.lose(is_script("exchange"), times=3)
    proxy.calls.clear()
    jobs.open()

    sent = eventually(lambda: exchanges(proxy) if len(exchanges(proxy)) >= 4 else [])
    assert sent[0] == sent[1] == sent[2] == sent[3]
    assert drained(rig)


def exchanges(proxy: FaultProxy) -> list[list[bytes]]:
    return [words for words in proxy.calls if is_script("exchange")(words)]


@pytest.mark.parametrize("name", ["giveback", "assert"])
def test_a_lost_answer_of_handing_back_or_asserting_changes_nothing(
    rig: Rig, jobs: Jobs, start: Start, proxy: FaultProxy, name: str
) -> None:
    start(proxy.url, size=1).fetch_ahead()
    eventually(lambda: rig.raw.scard("qik:idle:default") == 1)
    jobs.slow(1)
    rule = proxy.lose(is_script(name))
    rig.edge(*range(1, 31))
    eventually(lambda: jobs.runs[1])
    if name == "assert":
        rig.raw.delete(*rig.raw.scan_iter("qik:working:*"))
    eventually(lambda: rule.hits)
    jobs.open()

    eventually(lambda: drained(rig))
    assert jobs.overlaps == []
    assert {n: jobs.runs[n] for n in range(1, 31)} == dict.fromkeys(range(1, 31), 1)


def test_broken_connections_cost_time_and_nothing_else(
    rig: Rig, jobs: Jobs, start: Start, proxy: FaultProxy
) -> None:
    start(proxy.url)
    for number in range(10):
        rig.edge(*range(number * 20, number * 20 + 20))
        proxy.cut()
        eventually(partial(jobs.ends.get, number * 20))

    eventually(lambda: drained(rig))
    assert jobs.runs == Counter(range(200))


def test_a_sleeper_whose_wake_up_is_lost_looks_all_the_same(
    rig: Rig, jobs: Jobs, start: Start, proxy: FaultProxy
) -> None:
    proxy.lose(is_command(b"BLPOP"), "hang", times=100)
    start(proxy.url)
    rig.edge(1)

    eventually(lambda: jobs.ends[1], 2.5)
