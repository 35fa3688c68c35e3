from __future__ import annotations

from typing import Any

import pytest

from qik_core.store import Origin, Store
from qik_core.store.glance import glance
from qik_core.store.rolls import Roll
from tests.qik_core.store.rig import Rig, digest, done

pytestmark = pytest.mark.every_server

KEYS = [digest(number) for number in range(1, 4)]


def dump(raw: Any) -> dict[bytes, bytes]:
    return {key: raw.dump(key) for key in raw.scan_iter()}


def both(rig: Rig, versions: list[bytes] | None = None) -> tuple[list[bool], list[bool]]:
    """Return the answer that changes nothing, and the one of the script."""
    return glance(rig.store.links, KEYS, versions), rig.store.told(KEYS, versions)[0]


def test_a_glance_at_an_empty_redis_makes_no_epoch(redis_url: str, raw: Any) -> None:
    store = Store(redis_url)

    assert glance(store.links, KEYS) == [False, False, False]
    assert dump(raw) == {}
    store.close()


def test_a_glance_says_what_the_script_says_and_changes_nothing(rig: Rig) -> None:
    rig.push(1, 2)
    rig.worker().exchange(queues=("default",))
    before = dump(rig.raw)

    seen = glance(rig.store.links, KEYS)

    assert dump(rig.raw) == before
    assert seen == rig.store.told(KEYS)[0] == [True, True, False]


def test_a_running_job_of_an_older_row_version_is_not_told(rig: Rig) -> None:
    rig.push(1, 2, versions=[b"aaaaaa", b"aaaaaa"], origin=Origin.PASS)
    rig.worker().exchange(queues=("default",))

    seen, told = both(rig, [b"aaaaaa", b"bbbbbb", b"bbbbbb"])

    assert seen == told == [True, False, False]


def test_a_job_that_is_over_is_not_told(rig: Rig) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.exchange(queues=("default",)).jobs
    worker.exchange(done(job))

    assert both(rig) == ([False] * 3, [False] * 3)


def test_a_hash_of_locks_without_its_mark_is_no_truth(rig: Rig) -> None:
    rig.push(1)
    rig.raw.hdel(next(rig.raw.scan_iter("qik:unique:*")), "#")

    assert glance(rig.store.links, KEYS) == [False] * 3


def test_during_a_roll_locks_of_both_generations_count(rig: Rig) -> None:
    rig.push(1)
    assert Roll(rig.link, rig.store.candidate, "walker").begin()
    rig.push(2)

    assert both(rig) == ([True, True, False], [True, True, False])
