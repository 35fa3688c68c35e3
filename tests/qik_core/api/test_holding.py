from __future__ import annotations

import redis

from qik_core.api import HeldList, Stats
from qik_core.api.record import State
from qik_core.doctor import Check, examine
from qik_core.passes import LockState, Passes
from qik_core.settings import Settings
from qik_core.store.held import HeldJobs
from qik_core.store.inspection import inspect
from qik_core.store.link import Link
from tests.qik_core.store.rig import Rig, digest, jid
from tests.qik_core.store.test_held import hold


def fill(rig: Rig) -> None:
    """Hold two jobs that were found, and two that were pushed meanwhile."""
    rig.push(1, 2)
    worker = rig.worker()
    hold(worker, worker.fetch())
    rig.push(3, 4, held="Charge")


def test_held_jobs_are_shown_class_by_class(rig: Rig) -> None:
    fill(rig)
    found, pushed = HeldList.all(rig.store)

    assert [each.jid for each in found] == [jid(2).decode(), jid(1).decode()]
    assert [each.args for each in pushed.matching("class:Charge args:3")] == [[3]]
    assert found.find(jid(1).decode()) is not None
    assert {each.location.state for each in HeldList.matching_all("class:Charge", rig.store)} == {
        State.HELD
    }
    assert (found.size, pushed.size, HeldList("Other", rig.store).size) == (2, 2, 0)


def test_the_numbers_of_everything_say_what_is_held(rig: Rig, raw: redis.Redis) -> None:
    fill(rig)
    size = int(raw.hget("qik:held", "Charge") or 0)

    assert Stats.read(rig.store).held == {"Charge": HeldJobs("Charge", 4, size)}


def test_deleting_a_held_job_frees_its_lock_and_its_place_under_the_cap(
    rig: Rig, raw: redis.Redis
) -> None:
    fill(rig)
    found, pushed = HeldList.all(rig.store)

    assert found.delete(next(iter(found)))
    assert rig.locks() == 3
    assert int(raw.hget("qik:held", "Charge") or 0) == sum(
        len(each)
        for key in ("qik:held:Charge", "qik:held:Charge+")
        for each in raw.lrange(key, 0, -1)
    )
    assert (found.clear(), pushed.clear()) == (1, 2)
    assert (rig.locks(), raw.exists("qik:held")) == (0, 0)
    assert not raw.keys("qik:n:qik:held:*")


def test_a_held_job_is_found_by_its_key_and_by_its_id(rig: Rig) -> None:
    fill(rig)
    passes = Passes(rig.store)
    seen, spot = passes.trace(digest(2).decode()), passes.find(jid(3).decode())

    assert (seen.state, seen.orphan) == (LockState.QUEUED, False)
    assert seen.spot is not None
    assert (seen.spot.is_held, seen.spot.queue, seen.spot.position) == (True, "default", 2)
    assert spot is not None
    assert spot.key == "qik:held:Charge+"


def test_doctor_names_what_is_held_with_its_class(rig: Rig, raw: redis.Redis) -> None:
    fill(rig)
    link = Link(rig.url)
    found = examine(inspect(link), Settings())
    (finding,) = [each for each in found if each.check is Check.HELD]
    assert "Charge (4)" in finding.what
    assert finding.severity == "note"

    raw.delete("qik:held:Charge+")
    raw.set("qik:held:Charge+", "x")
    wrong = [each.what for each in examine(inspect(link), Settings())]
    assert any("qik:held:Charge is no list" in each for each in wrong)
    link.close()
