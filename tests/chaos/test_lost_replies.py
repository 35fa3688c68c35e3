"""Every command of every path loses its reply, or itself, once: what is in Redis afterwards is as if nothing had been."""

from __future__ import annotations

from collections import Counter

import pytest
import redis

from qik_core.store.exchange import Done
from qik_core.store.worker import Held
from tests.chaos import finish, places
from tests.chaos.broken import BROKEN
from tests.chaos.paths import PATHS, Actor, Path
from tests.faultproxy import FAULTS, FaultProxy, is_called
from tests.qik_core.store.rig import Rig

SOON = 0.15  # seconds after which a call is given up


State = tuple[dict[str, list[str]] | Counter[str], list[str], list[str]]


def state(raw: redis.Redis, path: Path) -> State:
    """Return which job is where, and which locks and records there are; where jids are drawn by chance, how many are where."""
    seen = places.look(raw)
    if path.name == "bulk":
        return Counter(where for each in seen.jobs.values() for where in each), [], []
    locks = sorted(f"{lock.state} {lock.jid}" for lock in seen.locks)
    return seen.jobs, locks, sorted(seen.records)


def walk(rig: Rig, proxy: FaultProxy, path: Path) -> State:
    """Walk a path through the proxy and return what is there after it."""
    actor = Actor(proxy.url, SOON)
    try:
        path.act(actor)
    finally:
        actor.close()
    return state(rig.raw, path)


def prepare(rig: Rig, proxy: FaultProxy, path: Path) -> None:
    proxy.heal()
    proxy.calls.clear()
    rig.raw.flushall()
    rig.store.look()
    path.arrange(rig)


def fail_once(rig: Rig, proxy: FaultProxy, path: Path, fault: str, name: str, nth: int) -> None:
    """Walk with one fault and compare with a walk without."""
    prepare(rig, proxy, path)
    without = walk(rig, proxy, path)
    prepare(rig, proxy, path)
    rule = proxy.lose(is_called(name), fault, skip=nth)
    found = walk(rig, proxy, path)
    assert rule.hits == 1
    proxy.await_late()
    wrong = places.look(rig.raw).wrong(orphans=path.leaves_orphans)
    assert (wrong, found) == ([], without), f"{path.name}: {fault} at {name} {nth + 1}"
    assert state(rig.raw, path) == without


def commands(rig: Rig, proxy: FaultProxy, path: Path) -> list[tuple[str, int]]:
    """Return each command that the path sends, with its number among those of its name."""
    prepare(rig, proxy, path)
    walk(rig, proxy, path)
    return [(name, nth) for name, count in proxy.seen().items() for nth in range(count)]


def enumerate_losses(rig: Rig, proxy: FaultProxy, path: Path, faults: tuple[str, ...]) -> None:
    sent = commands(rig, proxy, path)
    assert sent
    for fault in faults:
        for name, nth in sent:
            fail_once(rig, proxy, path, fault, name, nth)


BY_HAND = [name for name in PATHS if name != "live"]  # a whole worker: test_worker_faults


@pytest.mark.parametrize("name", BY_HAND)
def test_a_reply_that_is_lost_changes_nothing(rig: Rig, proxy: FaultProxy, name: str) -> None:
    enumerate_losses(rig, proxy, PATHS[name], ("cut",))


@pytest.mark.slow
@pytest.mark.every_server
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", BY_HAND)
def test_no_fault_at_any_command_changes_what_is_there_afterwards(
    rig: Rig, proxy: FaultProxy, name: str, fault: str
) -> None:
    enumerate_losses(rig, proxy, PATHS[name], (fault,))


@pytest.mark.parametrize("fault", FAULTS)
def test_one_copy_of_a_push_is_there_after_any_fault(
    rig: Rig, proxy: FaultProxy, fault: str
) -> None:
    for name in ("push", "plain push", "scheduled push"):
        enumerate_losses(rig, proxy, PATHS[name], (fault,))


def test_an_assertion_that_comes_too_late_brings_nothing_back(rig: Rig) -> None:
    rig.push(1, 2)
    worker = rig.worker()
    jobs = worker.fetch(2)
    rig.raw.delete("qik:working:host:1:aaaa")
    held, mark = [Held(job.field, False, job.raw) for job in jobs], f"{worker.sequence}:0"
    worker.store.hold(rig.link, held, mark=mark)
    worker.exchange(*map(Done, jobs), want=0)

    worker.store.hold(rig.link, held, mark=mark)
    assert worker.held == rig.locks() == 0
    rig.push(3)
    assert len(worker.fetch(1)) == 1


def test_the_enumeration_finds_a_push_that_is_doubled_and_a_pop_that_is_lost(
    rig: Rig, proxy: FaultProxy
) -> None:
    for name in ("push without a number", "pop then push"):
        with pytest.raises((AssertionError, IndexError)):
            enumerate_losses(rig, proxy, BROKEN[name], ("cut",))
    finish.rescue(rig)
