"""A Ruby worker with its poller, and ours, on one Redis; Ruby is killed twice.

Sidekiq's poller takes a due job out of `schedule`, and only then pushes it: one that dies in between loses that job,
whoever's it was. `qik doctor` says so, and how many. Nothing else may be lost.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import Any

import pytest
import redis

from qik_core.doctor import LOST_PER_DEATH, Check, examine
from qik_core.settings import Settings
from qik_core.store.inspection import inspect
from qik_core.store.link import Link
from tests.interop.peers import Shop, jid_of
from tests.interop.shop import Echo, Once
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("jobs", "seconds"),
    [(1_000, 15.0), pytest.param(5_000, 60.0, marks=pytest.mark.slow)],
)
def test_a_ruby_poller_that_dies_twice_loses_no_more_than_doctor_warned_of(
    shop: Shop, raw: redis.Redis, jobs: int, seconds: float
) -> None:
    dice = random.Random(jobs)
    began = time.time()
    pushed: set[str] = set()
    for job in (Echo, Once):  # with locks, and without
        rows = [(number,) for number in range(jobs // 2)]
        due = [began + 1 + dice.random() * seconds for _ in rows]
        pushed |= {jid_of(job.perform_at(at, *row)) for at, row in zip(due, rows, strict=True)}
    theirs = {jid_of(Echo.set(queue="ruby").perform_async(number)) for number in range(200)}
    shop.python("-c", "5", QIK_POLL="1")
    for share in (1 / 3, 2 / 3):
        ruby = shop.ruby(SHOP_POLL="0.02")
        eventually(lambda: _warned(shop.url))
        at = began + 1 + share * seconds
        eventually(lambda at=at: time.time() >= at, seconds)  # type: ignore[misc]
        ruby.send_signal(signal.SIGKILL)
        ruby.wait()
    shop.ruby(SHOP_POLL="0.02")
    eventually(lambda: _moved_on(shop, raw, began + 1 + seconds), seconds + 30, every=0.2)
    ours = Counter({jid: n for jid, n in shop.ran().items() if jid in pushed})
    lost = pushed - set(ours)
    assert len(lost) <= 2 * LOST_PER_DEATH, lost
    assert len(shop.notes("moved")) > jobs / 20  # else this run proves nothing
    assert set(ours.values()) == {1}
    assert len(ours) == jobs - len(lost)
    assert set(shop.ran("python")) <= pushed
    assert set(shop.ran("ruby")) <= theirs  # separate queues: no language ran the other's jobs
    assert raw.zcard("retry") + raw.zcard("dead") == 0
    assert _locks(raw) <= len(lost)  # of a job that was lost; the next roll collects it


def _warned(url: str) -> bool:
    """Tell whether doctor warns of exactly this, while Ruby works here."""
    found = examine(inspect(Link(url)), Settings(redis=url))
    words = [each.what for each in found if each.check is Check.RUBY]
    return any(f"each death of one may lose {LOST_PER_DEATH} of them" in each for each in words)


def _moved_on(shop: Shop, raw: redis.Redis, until: float) -> bool:
    """Tell whether every due job has left its places: not in schedule, not queued, not in a working hash."""
    held = sum(
        field not in (b"#", b"@")
        for key in raw.scan_iter("qik:working:*")
        for field in _fields(raw, key)
    )
    return time.time() > until and not (raw.zcard("schedule") or raw.llen("queue:default") or held)


def _locks(raw: redis.Redis) -> int:
    return sum(
        field != b"#" for key in raw.scan_iter("qik:unique:*") for field in _fields(raw, key)
    )


def _fields(raw: redis.Redis, key: Any) -> list[Any]:
    found: Any = raw.hkeys(key)
    return list(found)
