from __future__ import annotations

from typing import Any

import pytest

from qik_core.embedded import Embedded
from qik_core.errors import StoreError
from qik_core.passes import Passes
from reconciler.keeper import Watcher
from reconciler.watch import EVERY, Watch


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_loss_id_changes_when_the_data_was_lost(seam: Passes, raw: Any) -> None:
    watch = Watch(seam)
    before = watch.look()
    raw.flushall()

    assert watch.look() != before


def test_a_recent_look_is_not_repeated(seam: Passes, raw: Any) -> None:
    clock = Clock()
    watch = Watch(seam, clock)
    before = watch.recent()
    raw.flushall()

    assert watch.recent() == before
    clock.now += EVERY
    assert watch.recent() != before


def test_the_watcher_calls_once_for_each_loss(seam: Passes, raw: Any) -> None:
    calls: list[str] = []
    watcher = Watcher(Watch(seam), lambda: calls.append("lost"), lambda: calls.append("back"))
    watcher.once()
    watcher.once()
    raw.flushall()
    watcher.once()
    watcher.once()

    assert calls == ["lost"]


def test_the_watcher_says_when_redis_answers_again(redis_server: Embedded, seam: Passes) -> None:
    calls: list[str] = []
    watcher = Watcher(Watch(seam), lambda: calls.append("lost"), lambda: calls.append("back"))
    watcher.once()
    redis_server.kill()
    with pytest.raises(StoreError):
        watcher.once()
    redis_server.restart()
    watcher.once()

    assert calls in (["lost"], ["back"])
