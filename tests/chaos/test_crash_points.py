"""A process dies before or after any of its calls to Redis: every job stays in exactly one place, under its lock."""

from __future__ import annotations

from itertools import count

import pytest
import redis

from tests.chaos import finish, places
from tests.chaos.broken import BROKEN
from tests.chaos.crasher import AFTER, BEFORE, Crasher
from tests.chaos.paths import PATHS, Path
from tests.faultproxy import load_scripts
from tests.qik_core.store.rig import Rig


def crash(crasher: Crasher, raw: redis.Redis, url: str, path: Path, nth: int, when: str) -> bool:
    """Walk a path up to its n-th call, look, let others finish, look again; False when the path has no such call."""
    raw.flushall()
    rig = Rig(url, raw)
    path.arrange(rig)
    there = set(places.look(raw).jobs) - path.ends
    died = crasher.walk(path.name, url, nth, when)

    after = places.look(raw)
    wrong = after.wrong(
        present=() if path.loses else there, orphans=path.leaves_orphans or path.loses
    )
    wrong += after.unrecorded(path.noted)
    finish.rescue(rig)
    wrong += places.look(raw).wrong(present=after.jobs, orphans=path.leaves_orphans or path.loses)
    if path.leaves_orphans or path.loses:
        finish.roll(rig)
        wrong += places.look(raw).wrong(present=after.jobs)
    waiting = {jid for jid, where in after.jobs.items() if where != ["dead"]}
    came = finish.drain(rig)
    wrong += [f"{jid} came {came[jid]} times" for jid in waiting | set(came) if came[jid] != 1]
    wrong += finish.leftovers(raw)
    rig.link.close()
    rig.store.close()
    assert not wrong, f"{path.name}, {when} call {nth}"
    return died


def enumerate_points(crasher: Crasher, raw: redis.Redis, url: str, path: Path) -> None:
    """Die before and after each call."""
    load_scripts(raw)
    for when in (BEFORE, AFTER):
        for nth in count(1):
            if not crash(crasher, raw, url, path, nth, when):
                break
        assert nth > 1


@pytest.mark.parametrize("name", PATHS)
def test_wherever_a_process_dies_each_job_is_in_one_place_and_others_finish(
    crasher: Crasher, raw: redis.Redis, redis_url: str, name: str
) -> None:
    enumerate_points(crasher, raw, redis_url, PATHS[name])


@pytest.mark.slow
@pytest.mark.every_server
@pytest.mark.parametrize("name", PATHS)
def test_on_every_server_each_job_is_in_one_place_wherever_a_process_dies(
    crasher: Crasher, raw: redis.Redis, redis_url: str, name: str
) -> None:
    enumerate_points(crasher, raw, redis_url, PATHS[name])


@pytest.mark.parametrize("name", ["pop then push", "lock then push"])
def test_the_enumeration_finds_a_step_that_was_split(
    crasher: Crasher, raw: redis.Redis, redis_url: str, name: str
) -> None:
    with pytest.raises(AssertionError, match=r"is nowhere|has no job"):
        enumerate_points(crasher, raw, redis_url, BROKEN[name])
