from __future__ import annotations

import pytest

from qik_core.store import recovery
from qik_core.store.exchange import Status
from tests.qik_core.store.rig import Rig, done, jid
from tests.waiting import eventually

pytestmark = pytest.mark.every_server


def test_a_fenced_process_can_neither_settle_fetch_beat_nor_assert(rig: Rig) -> None:
    rig.edge(1, 2)
    frozen = rig.worker()
    job = frozen.fetch(want=1)[0]
    frozen.beat()

    assert recovery.fence(
        rig.link, frozen.identity, recovery.Census().look(rig.link)[frozen.identity]
    )
    assert frozen.exchange(done(job)).status is Status.FENCED
    assert frozen.beat() is None
    assert frozen.store.hold(rig.link, (), mark="1:0") is None
    assert rig.locks() == 2


def test_a_process_that_has_beaten_since_is_not_fenced(rig: Rig) -> None:
    worker = rig.worker()
    worker.beat()
    seen = recovery.Census().look(rig.link)[worker.identity]
    worker.beat()

    assert not recovery.fence(rig.link, worker.identity, seen)
    assert worker.exchange().status is Status.IDLE


def test_recovery_returns_every_job_under_its_own_lock(rig: Rig) -> None:
    rig.edge(1, 2, 3)
    lost = rig.worker("host:1:lost")
    lost.fetch()
    recovery.fence(rig.link, lost.identity, recovery.NO_BEAT)

    assert recovery.recover(rig.link, lost.identity, rig.store.candidate) == 3
    assert recovery.recover(rig.link, lost.identity, rig.store.candidate) == 0
    assert not recovery.holds_something(rig.link, lost.identity)
    heir = rig.worker("host:2:heir")
    heir.exchange(*[done(job) for job in heir.fetch()])
    assert rig.locks() == 0


def test_recovery_killed_half_way_is_taken_up_where_it_stopped(rig: Rig) -> None:
    rig.edge(*range(1, 251))
    lost = rig.worker("host:1:lost")
    lost.fetch(want=250)
    recovery.fence(rig.link, lost.identity, recovery.SURE)

    class Killed(Exception):
        pass

    def dies(total: int) -> None:
        if total >= 100:
            raise Killed

    with pytest.raises(Killed):
        recovery.recover(rig.link, lost.identity, rig.store.candidate, progress=dies)
    assert rig.raw.llen("queue:default") == 100
    assert recovery.fence(rig.link, lost.identity, recovery.SURE)
    assert recovery.recover(rig.link, lost.identity, rig.store.candidate) == 150
    assert sorted(int(name, 16) for name in rig.queued()) == list(range(1, 251))
    assert not rig.raw.keys("qik:recovering:*")


def test_a_job_whose_key_another_runs_is_not_brought_back(rig: Rig) -> None:
    rig.edge(1)
    lost = rig.worker("host:1:lost")
    lost.fetch()
    generation = rig.store.look().generation
    rig.raw.hdel(
        f"qik:unique:{generation}",
        *[k for k in rig.raw.hkeys(f"qik:unique:{generation}") if k != b"#"],
    )
    rig.edge(2, keys=[1])
    rig.worker("host:2:heir").fetch()
    recovery.fence(rig.link, lost.identity, recovery.SURE)

    assert recovery.recover(rig.link, lost.identity, rig.store.candidate) == 0
    assert recovery.tally(rig.link)["superseded"] == 1


def test_a_witnessed_end_leaves_nothing_behind(rig: Rig) -> None:
    rig.edge(1)
    lost = rig.worker("host:1:lost")
    lost.beat()
    lost.fetch()
    recovery.fence(rig.link, lost.identity, recovery.SURE)
    recovery.recover(rig.link, lost.identity, rig.store.candidate)

    assert not rig.raw.keys("*host:1:lost*")


def test_giving_back_twice_returns_a_job_once(rig: Rig) -> None:
    rig.edge(1, 2)
    worker = rig.worker()
    jobs = worker.fetch()

    assert worker.store.give_back(rig.link, list(reversed(jobs))) == 2
    assert worker.store.give_back(rig.link, jobs) == 0
    assert rig.queued() == [jid(1).decode(), jid(2).decode()]


def test_a_process_leaves_only_with_empty_hands(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    worker.beat()
    job = worker.fetch()[0]

    assert not worker.store.leave(rig.link, ["default"])
    worker.exchange(done(job), want=0)
    assert worker.store.leave(rig.link, ["default"])
    assert worker.identity.encode() not in rig.raw.smembers("processes")


def test_the_census_finds_whom_alive_has_lost_a_page_at_a_time(rig: Rig) -> None:
    for number in range(3000):
        rig.raw.set(f"other:{number}", 1)
    rig.edge(1)
    lost = rig.worker("host:1:lost")
    lost.fetch()
    lively = rig.worker("host:2:lively")
    lively.beat()

    census = recovery.Census()
    seen = eventually(lambda: "host:1:lost" in (seen := census.look(rig.link)) and seen)
    assert isinstance(seen, dict)
    assert seen["host:1:lost"] == recovery.NO_BEAT
    assert seen["host:2:lively"] != recovery.NO_BEAT
    assert recovery.holds_something(rig.link, "host:1:lost")
    assert not recovery.holds_something(rig.link, "host:3:never")


def test_recovery_ends_also_when_a_payload_is_empty(rig: Rig) -> None:
    rig.raw.lpush("queue:default", b"", b"\xff")
    lost = rig.worker("host:1:lost")
    lost.fetch()
    recovery.fence(rig.link, lost.identity, recovery.SURE)

    assert recovery.recover(rig.link, lost.identity, rig.store.candidate) == 2
    assert set(rig.raw.lrange("queue:default", 0, -1)) == {b"\xff", b""}
