from __future__ import annotations

from typing import Any

import pytest

from qik_core.embedded import Embedded
from qik_core.errors import StoreError
from qik_core.passes import Passes
from qik_core.store import Store
from qik_core.store.flush import FlushStore
from reconciler.keeper import Watcher
from reconciler.lost import LossKind
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
    watcher = Watcher(
        Watch(seam), lambda each: calls.append(each.kind), lambda _: calls.append("back")
    )
    watcher.once()
    watcher.once()
    raw.flushall()
    watcher.once()
    watcher.once()

    assert calls == ["emptied"]


def test_the_watcher_says_when_redis_answers_again(redis_server: Embedded, seam: Passes) -> None:
    calls: list[str] = []
    watcher = Watcher(
        Watch(seam),
        lambda each: calls.append(each.kind),
        lambda moved: calls.append(f"back {moved}"),
    )
    watcher.once()
    redis_server.kill()
    with pytest.raises(StoreError):
        watcher.once()
    redis_server.restart()
    watcher.once()

    assert calls in (["came_empty"], ["went_back"], ["back True"])


def test_a_server_that_took_over_is_told_from_one_that_was_away(seam: Passes, raw: Any) -> None:
    """It may lack what was written since the last mark, and nothing else would show that."""
    watch = Watch(seam, name="me")
    moved: list[bool] = []
    for failed, life in ((False, None), (True, None), (True, "of another"), (False, None)):
        watch._failed, watch._life = failed, life or watch._life
        assert watch.witness() is None
        moved.append(watch.moved)

    assert moved == [False, False, True, False]


def test_an_old_copy_of_the_data_is_noticed_by_what_a_process_left_there(
    seam: Passes, raw: Any
) -> None:
    """A snapshot, or a replica that lagged: the epoch is the same, and no exchange needs to be under way."""
    watch = Watch(seam, name="me")
    watch.witness()
    old = {key: raw.dump(key) for key in raw.scan_iter()}
    for _ in range(3):
        assert watch.witness() is None
    raw.flushall()
    for key, value in old.items():
        raw.restore(key, 0, value)

    noticed = watch.witness()

    assert noticed is not None
    assert noticed.kind is LossKind.WENT_BACK
    assert noticed.back is not None
    assert 0 < noticed.back < 60
    assert watch.witness() is None


def test_jobs_deleted_by_hand_and_lost_exchanges_are_noticed_by_their_counts(
    seam: Passes, raw: Any
) -> None:
    watch = Watch(seam, name="me")
    watch.witness()
    raw.hincrby("qik:counts", "deleted_by_hand", 7)
    jobs = watch.witness()
    raw.hincrby("qik:counts", "lost_exchanges", 2)
    held = watch.witness()

    assert jobs is not None
    assert held is not None
    assert (jobs.kind, jobs.jobs) == (LossKind.JOBS, 7)
    assert (held.kind, held.jobs) == (LossKind.HELD, 2)
    assert watch.witness() is None


def test_what_workers_find_gone_after_a_loss_of_everything_is_part_of_it(
    seam: Passes, raw: Any
) -> None:
    clock = Clock()
    watch = Watch(seam, clock, name="me")
    watch.witness()
    raw.flushall()
    assert watch.witness() is not None
    raw.hincrby("qik:counts", "lost_exchanges", 2)

    assert watch.witness() is None
    clock.now += 3600.0
    raw.hincrby("qik:counts", "lost_exchanges", 1)
    assert watch.witness() is not None


def test_what_workers_find_gone_behind_a_flush_on_purpose_is_a_loss(
    seam: Passes, raw: Any, redis_url: str
) -> None:
    watch = Watch(seam, name="me")
    watch.witness()
    flush = FlushStore(Store(redis_url), "ann")
    flush.turn()
    flush.renew(seam.look().loss)
    flushed = watch.witness()
    raw.hincrby("qik:counts", "lost_exchanges", 2)
    held = watch.witness()

    assert flushed is not None
    assert held is not None
    assert (flushed.on_purpose, flushed.text) == (True, "everything was flushed on purpose")
    assert (held.kind, held.on_purpose) == (LossKind.HELD, False)


def test_locks_deleted_by_hand_are_not_taken_for_an_empty_redis(seam: Passes, raw: Any) -> None:
    watch = Watch(seam, name="me")
    watch.witness()
    raw.delete(*raw.scan_iter("qik:unique:*"))

    noticed = watch.witness()

    assert noticed is not None
    assert noticed.kind is LossKind.LOCKS


def test_a_process_that_ends_takes_its_mark_away(seam: Passes, raw: Any) -> None:
    watch = Watch(seam, name="me")
    watch.witness()
    assert raw.hkeys("qik:witness") == [b"me"]

    watch.leave()

    assert not raw.exists("qik:witness")
