from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from qik_core import Job, registry
from qik_core.errors import QikError, StoreError
from qik_core.passes import Passes
from qik_core.results import Code
from qik_core.store import Store
from tests.qik_core.jobs_of_tests import UniqueByName, UniqueInt, stored
from tests.qik_core.store.rig import Rig, done

pytestmark = pytest.mark.every_server


@pytest.fixture
def passes(rig: Rig) -> Passes:
    return Passes(rig.store)


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    with registry.scope():
        yield


def test_a_key_is_told_from_its_push_until_its_job_is_over(rig: Rig, passes: Passes) -> None:
    digests = passes.digests(UniqueInt, [(1,), (2,)])
    assert passes.told(digests) == [False, False]

    told = passes.push(UniqueInt, [(1,)])
    assert (told.codes, told.epoch) == ([Code.ENQUEUED], passes.look())
    assert passes.told(digests) == [True, False]

    worker = rig.worker()
    (job,) = worker.exchange(queues=("unique",)).jobs
    assert passes.told(digests) == [True, False]
    worker.exchange(done(job))
    assert passes.told(digests) == [False, False]


def test_a_key_is_the_same_however_its_row_is_written(passes: Passes, rig: Rig) -> None:
    (digest,) = passes.digests(UniqueInt, [(7,)])
    passes.push(UniqueInt, [(7,)])

    assert digest.decode() in stored(rig.raw, "queue:unique")[0]["qik"]
    assert passes.push(UniqueInt, [(7, False)]).codes == [Code.DUPLICATE_QUEUED]


def test_the_key_follows_the_unique_arguments_and_not_the_others(passes: Passes) -> None:
    one, two, three = passes.digests(UniqueByName, [(1, "a"), (2, "a"), (1, "b")])

    assert (one == two, one == three) == (True, False)


def test_a_second_pass_adds_nothing_whatever_the_state(rig: Rig, passes: Passes) -> None:
    passes.push(UniqueInt, [(1,), (2,)])
    passes.push(UniqueInt, [(3,)], delays=[60.0])
    worker = rig.worker()
    worker.exchange(want=1, queues=("unique",))

    codes = passes.push(UniqueInt, [(1,), (2,), (3,)]).codes
    assert codes == [Code.DUPLICATE_RUNNING, Code.DUPLICATE_QUEUED, Code.DUPLICATE_SCHEDULED]
    assert passes.told(passes.digests(UniqueInt, [(1,), (2,), (3,)])) == [True, True, True]


def test_a_newer_row_of_a_running_job_counts_as_not_told_and_marks_it(
    rig: Rig, passes: Passes
) -> None:
    passes.push(UniqueInt, [(1,)], versions=["aaaaaa"])
    rig.worker().exchange(queues=("unique",))
    digests = passes.digests(UniqueInt, [(1,)])

    assert passes.told(digests, ["aaaaaa"]) == [True]
    assert passes.told(digests, ["bbbbbb"]) == [False]
    assert passes.push(UniqueInt, [(1,)], versions=["bbbbbb"]).codes == [Code.DIRTIED]
    assert passes.told(digests, ["bbbbbb"]) == [True]


def test_jittered_jobs_wait_where_ruby_does_not_look(rig: Rig, passes: Passes) -> None:
    passes.push(UniqueInt, [(n,) for n in range(3)], delays=[30.0, 60.0, 0.0])

    due = [score for _, score in rig.raw.zrange("qik:later:unique", 0, -1, withscores=True)]
    assert due == pytest.approx([time.time() + 30, time.time() + 60], abs=5)
    assert (rig.raw.zcard("schedule"), rig.raw.llen("queue:unique")) == (0, 1)


def test_a_pass_may_use_a_queue_of_its_own(rig: Rig, passes: Passes) -> None:
    passes.push(UniqueInt, [(1,)], queue="backfill")
    passes.push(UniqueInt, [(2,)], queue="backfill", delays=[60.0])

    assert stored(rig.raw, "queue:backfill")[0]["queue"] == "backfill"
    assert rig.raw.zcard("qik:later:backfill") == 1
    assert passes.push(UniqueInt, [(1,)]).codes == [Code.DUPLICATE_QUEUED]


def test_a_thousand_rows_have_a_code_each_in_their_order(passes: Passes) -> None:
    passes.push(UniqueInt, [(n,) for n in range(0, 1000, 2)])
    codes = passes.push(UniqueInt, [(n,) for n in range(1000)]).codes

    assert codes == [Code.DUPLICATE_QUEUED, Code.ENQUEUED] * 500


def test_a_row_that_does_not_fit_names_its_place_and_nothing_is_written(
    rig: Rig, passes: Passes
) -> None:
    rows: list[tuple[Any, ...]] = [(n,) for n in range(700)]
    rows[650] = ("x",)

    with pytest.raises(QikError, match="650"):
        passes.push(UniqueInt, rows)
    assert rig.raw.llen("queue:unique") == 0


def test_no_rows_are_no_push(passes: Passes) -> None:
    told = passes.push(UniqueInt, [])

    assert (told.codes, told.epoch) == ([], passes.look())
    assert passes.told([]) == []


def test_a_loss_shows_in_the_epoch_and_everything_is_to_be_told_again(
    rig: Rig, passes: Passes
) -> None:
    before = passes.push(UniqueInt, [(1,)]).epoch
    rig.raw.flushall()

    assert passes.told(passes.digests(UniqueInt, [(1,)])) == [False]
    after = passes.push(UniqueInt, [(1,)])
    assert (after.codes, after.epoch.loss != before.loss) == ([Code.ENQUEUED], True)


@pytest.mark.parametrize("key", ["queue:unique", "schedule", "qik:later:unique"])
def test_a_list_deleted_under_its_locks_is_proven_and_a_roll_lets_its_rows_be_told(
    rig: Rig, passes: Passes, key: str
) -> None:
    if key == "schedule":  # where only edges go
        rig.edge(1, delays=[60.0])
    else:
        passes.push(UniqueInt, [(1,)], delays=[60.0] if "later" in key else None)
    assert passes.audit(["unique"]) is False
    rig.raw.delete(key)

    assert passes.audit(["unique"]) is True
    assert passes.roll(time.monotonic() + 5)
    assert rig.locks() == 0
    assert passes.push(UniqueInt, [(1,)]).codes == [Code.ENQUEUED]


def test_a_roll_waits_for_who_walks_and_says_when_it_did_not_end(rig: Rig, passes: Passes) -> None:
    rig.raw.set("qik:roller", "another", ex=60)
    assert not passes.roll(time.monotonic() + 0.2)
    rig.raw.delete("qik:roller")
    assert passes.roll(time.monotonic() + 5)


def test_a_server_that_is_gone_is_an_error_of_ours_within_its_deadline(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qik_core.store.store.PATIENCE", 0.5)
    passes = Passes(Store("unix:///nowhere/redis.sock"))
    at = time.monotonic()

    for ask in (
        passes.look,
        lambda: passes.told([b"x" * 22]),
        lambda: passes.push(UniqueInt, [(1,)]),
        lambda: passes.audit(["unique"]),
        lambda: passes.roll(time.monotonic() + 0.1),
    ):
        with pytest.raises(StoreError):
            ask()
    assert time.monotonic() - at < 2.5


def test_a_job_that_is_not_unique_has_no_key_to_ask_for(passes: Passes) -> None:
    class NotUnique(Job):
        def perform(self, n: int) -> None: ...

    assert passes.push(NotUnique, [(1,), (1,)]).codes == [Code.ENQUEUED, Code.ENQUEUED]
