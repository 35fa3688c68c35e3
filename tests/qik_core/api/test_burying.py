from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from qik_core import hooks
from qik_core.api import (
    Act,
    DeadSet,
    LaterSet,
    Queue,
    RetrySet,
    ScheduledSet,
    sets,
)
from qik_core.errors import ArgumentError
from qik_core.results import Code
from qik_core.settings import Settings
from tests.qik_core.api.places import (
    PLACES,
    TIMED,
    name,
    nothing_missing,
    place_of,
    put,
)
from tests.qik_core.store.rig import Rig


@pytest.mark.every_server
@pytest.mark.parametrize("key", [key for key in PLACES if key != "dead"])
def test_a_buried_job_is_dead_as_it_was_and_its_lock_free(rig: Rig, key: str) -> None:
    put(rig, key, 1)
    jobs = place_of(rig, key)
    assert isinstance(jobs, (Queue, ScheduledSet, LaterSet, RetrySet))
    [job] = jobs

    assert jobs.bury(job).act is Act.DONE
    assert jobs.bury(job).act is Act.GONE

    [dead] = DeadSet(rig.store)
    assert dead.raw == job.raw
    assert dead.at is not None
    assert abs(dead.at - datetime.now(UTC)) < timedelta(seconds=5)
    assert rig.locks() == 0
    assert nothing_missing(rig)


def test_death_handlers_are_told_of_what_is_buried(rig: Rig) -> None:
    told = []
    hooks.on_death(lambda job, error: told.append((job.jid, str(error))))
    put(rig, "queue:default", *range(1, 4))

    try:
        assert Queue(store=rig.store).bury_all("-args:2").done == 2
    finally:
        hooks.clear()

    assert sorted(told) == [(name(1), "a person made it dead"), (name(3), "a person made it dead")]


def test_the_dead_set_is_kept_short_when_jobs_are_buried(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "current_settings", lambda: Settings(dead_max=5))
    put(rig, "queue:default", *range(1, 21))

    assert Queue(store=rig.store).bury_all().done == 20
    assert rig.raw.zcard("dead") == 5


@pytest.mark.every_server
@pytest.mark.parametrize("key", TIMED)
def test_a_rescheduled_job_is_due_then_and_its_lock_knows(rig: Rig, key: str) -> None:
    put(rig, key, 1)
    jobs = place_of(rig, key)
    assert isinstance(jobs, (ScheduledSet, LaterSet, RetrySet))
    [job] = jobs
    when = datetime(2055, 5, 6, tzinfo=UTC)

    assert jobs.reschedule(job, when)

    [moved] = jobs
    assert (moved.raw, moved.at) == (job.raw, when)
    lock = rig.lock(1)
    assert lock is not None
    assert int(lock[8:18]) == when.timestamp() + 60
    assert lock[18:].startswith(f"{name(1)}|{when.timestamp():.6f}")
    assert lock.endswith("@default") == (key == "qik:later:default")
    assert nothing_missing(rig)


def test_an_edge_still_finds_the_job_that_was_rescheduled(rig: Rig) -> None:
    put(rig, "schedule", 1)
    [job] = ScheduledSet(rig.store)
    ScheduledSet(rig.store).reschedule(job, timedelta(hours=5))

    assert rig.edge(2, keys=[1]) == [Code.ADVANCED]
    assert rig.queued() == [name(1)]


def test_a_job_that_was_promoted_meanwhile_is_not_put_back(rig: Rig) -> None:
    put(rig, "schedule", 1)
    [job] = ScheduledSet(rig.store)
    ScheduledSet(rig.store).advance(job)

    assert ScheduledSet(rig.store).reschedule(job, timedelta(hours=1)).act is Act.GONE
    assert ScheduledSet(rig.store).size == 0
    lock = rig.lock(1)
    assert lock is not None
    assert lock[0] == "q"


def test_many_are_rescheduled_by_a_filter_and_each_is_moved_once(rig: Rig) -> None:
    for first in range(1, 1500, 500):
        rig.edge(
            *range(first, first + 500), delays=[float(n) for n in range(first + 60, first + 560)]
        )
    scheduled = ScheduledSet(rig.store)
    middle = datetime.now(UTC) + timedelta(seconds=810)

    assert scheduled.reschedule_all("-args:7", middle).done == 1499

    assert {job.at for job in scheduled if job.args != [7]} == {middle}
    assert (rig.lock(1400) or "").endswith(f"|{middle.timestamp():.6f}")
    assert nothing_missing(rig)


@pytest.mark.parametrize("when", [timedelta(days=10**6), -timedelta(days=36_500), "tomorrow"])
def test_a_time_that_cannot_be_is_refused(rig: Rig, when: timedelta) -> None:
    with pytest.raises(ArgumentError, match="reschedule: when is"):
        ScheduledSet(rig.store).reschedule_all("", when)


def test_a_delay_that_was_meant_as_a_moment_is_refused(rig: Rig) -> None:
    put(rig, "schedule", 1)
    [job] = ScheduledSet(rig.store)

    with pytest.raises(ArgumentError, match="outside of 2001 to 2255"):
        ScheduledSet(rig.store).reschedule(job, 60)
