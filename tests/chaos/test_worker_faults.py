"""A whole worker, threads and all, through the fault proxy: each command of its life fails once.

Its process lives on, so no job may run twice; and two heartbeats later nothing is held that nobody runs.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest

from qik_core.errors import StoreError
from tests.chaos import finish, places
from tests.chaos.paths import STAYS, WHOLE, Fates, again, name, stand_in_line
from tests.faultproxy import FAULTS, FaultProxy, is_called
from tests.qik_core.engine import Engine, Jobs, held
from tests.qik_core.store.rig import Rig
from tests.waiting import eventually

SOON = 0.2
LAST = 19
NUMBERS = WHOLE | {LAST}


def push(rig: Rig) -> None:
    rig.raw.flushall()
    rig.store.look()
    stand_in_line(rig)


def live(rig: Rig, proxy: FaultProxy) -> Jobs:
    """Let a worker live through the proxy until everything has run, two beats more, one job more, and its goodbye."""
    jobs = Fates()
    engine = again(lambda: Engine(proxy.url, jobs, beats=True, timeout=SOON, size=4))
    try:
        eventually(lambda: jobs.ends.total() >= len(WHOLE))
        for _ in range(2):
            before = proxy.seen()["beat"]
            engine.heartbeat.beat_soon()
            eventually(lambda before=before: proxy.seen()["beat"] > before)  # type: ignore[misc]
        rig.push(LAST)
        eventually(lambda: jobs.ends[LAST] and not held(rig), 5)
    finally:
        with suppress(StoreError):  # what a child does: others find what is left
            engine.stop()
    return jobs


def fail_once(rig: Rig, proxy: FaultProxy, fault: str, command: str, nth: int) -> int:
    """Live once with one fault; returns whether it was met."""
    push(rig)
    proxy.heal()
    rule = proxy.lose(is_called(command), fault, skip=nth)
    jobs = live(rig, proxy)
    proxy.await_late()
    finish.rescue(rig)
    after = places.look(rig.raw)
    seen = (jobs.runs, jobs.overlaps, after.jobs, [lock.jid for lock in after.locks])
    expected: tuple[object, ...] = (Counter(NUMBERS), [], STAYS, [name(3)])
    assert (after.wrong(), seen) == ([], expected), f"{fault} at {command} {nth + 1}"
    return rule.hits


def enumerate_faults(rig: Rig, proxy: FaultProxy, fault: str) -> None:
    push(rig)
    proxy.calls.clear()
    live(rig, proxy)
    sent = proxy.seen()
    assert {"exchange", "assert", "beat", "leave", "BLPOP"} <= set(sent)
    met = Counter(
        {
            command: sum(fail_once(rig, proxy, fault, command, nth) for nth in range(min(count, 8)))
            for command, count in sent.items()
        }
    )
    assert set(sent) - set(met.keys()) == set()
    assert met["exchange"] >= 3


def test_a_worker_that_loses_any_one_reply_runs_every_job_once(rig: Rig, proxy: FaultProxy) -> None:
    enumerate_faults(rig, proxy, "cut")


@pytest.mark.slow
@pytest.mark.every_server
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "cut"])
def test_a_worker_that_meets_any_one_fault_runs_every_job_once(
    rig: Rig, proxy: FaultProxy, fault: str
) -> None:
    enumerate_faults(rig, proxy, fault)
