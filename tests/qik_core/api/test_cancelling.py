from __future__ import annotations

import time

import pytest

from qik_core.api import Cancelled, cancel
from qik_core.errors import ArgumentError
from qik_core.results import Code
from qik_core.store.exchange import Kind
from qik_core.store.records import Records
from tests.qik_core.api.places import foreign, name, nothing_missing, put
from tests.qik_core.store.rig import Rig, done, other
from tests.qik_core.store.test_held import hold

WAITING = ["queue:default", "schedule", "qik:later:default", "retry"]


def marks(rig: Rig) -> dict[bytes, float]:
    return dict(rig.raw.zrange("qik:cancelled", 0, -1, withscores=True))


@pytest.mark.every_server
@pytest.mark.parametrize("key", WAITING)
def test_a_waiting_job_is_removed_with_its_lock(rig: Rig, key: str) -> None:
    put(rig, key, 1, 2)

    assert cancel(name(1), rig.store) is Cancelled.REMOVED

    assert rig.lock(1) is None
    assert rig.lock(2) is not None
    assert marks(rig) == {}
    assert rig.edge(3, keys=[1]) == [Code.ENQUEUED]
    assert nothing_missing(rig)


def test_a_suspect_is_removed_too(rig: Rig) -> None:
    rig.edge(1)
    raw = rig.raw.rpop("queue:default")
    assert isinstance(raw, bytes)
    rig.raw.lpush("qik:suspect:default", raw)
    rig.raw.sadd("qik:suspects", "default")

    assert cancel(name(1), rig.store) is Cancelled.REMOVED
    assert rig.locks() == 0


@pytest.mark.every_server
@pytest.mark.parametrize("pushed", [False, True])
def test_a_job_that_is_held_by_a_switch_is_removed_with_its_lock(rig: Rig, pushed: bool) -> None:
    if pushed:
        rig.edge(1, 2, held="Charge")
    else:
        rig.edge(1, 2)
        worker = rig.worker()
        hold(worker, worker.fetch())

    assert cancel(name(1), rig.store) is Cancelled.REMOVED

    assert rig.lock(1) is None
    assert rig.lock(2) is not None
    assert marks(rig) == {}
    (left,) = rig.raw.lrange("qik:held:Charge+" if pushed else "qik:held:Charge", 0, -1)
    assert rig.raw.hget("qik:held", "Charge") == b"%d" % len(left)
    assert rig.edge(3, keys=[1]) == [Code.ENQUEUED]
    assert nothing_missing(rig)


@pytest.mark.every_server
def test_a_job_that_is_cancelled_while_its_class_is_off_ends_and_is_not_held(rig: Rig) -> None:
    rig.edge(1, 2)
    worker = rig.worker()
    jobs = worker.fetch()

    assert cancel(name(1), rig.store) is Cancelled.ASKED
    assert rig.edge(11, keys=[1]) == [Code.DIRTIED]
    hold(worker, jobs)

    assert rig.lock(1) is None
    assert rig.lock(2) is not None
    assert (rig.queued(), rig.raw.llen("qik:held:Charge"), worker.held) == ([], 1, 0)
    assert rig.raw.hget("qik:counts", "cancelled") == b"1"
    assert cancel(name(1), rig.store) is Cancelled.NOT_FOUND


def test_a_mark_that_no_longer_counts_or_cannot_be_read_lets_a_job_be_held(rig: Rig) -> None:
    rig.edge(1, 2)
    worker = rig.worker()
    first, second = worker.fetch()
    rig.raw.zadd("qik:cancelled", {name(1): 5.0})
    hold(worker, [first])
    rig.raw.delete("qik:cancelled")
    rig.raw.set("qik:cancelled", "somebody's")
    hold(worker, [second])

    assert (rig.raw.llen("qik:held:Charge"), rig.locks()) == (2, 2)


@pytest.mark.every_server
def test_a_fetched_job_is_asked_to_stop_for_a_day(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    worker.fetch()
    lock = rig.lock(1)

    assert cancel(name(1), rig.store) is Cancelled.ASKED

    assert rig.lock(1) == lock
    [(jid, until)] = marks(rig).items()
    assert jid == name(1).encode()
    assert abs(until - time.time() - 86_400) < 10


def test_a_job_that_waits_for_recovery_is_asked_not_to_start(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    worker.fetch()
    rig.raw.rename(f"qik:working:{worker.identity}", f"qik:recovering:{worker.identity}")

    assert cancel(name(1), rig.store) is Cancelled.ASKED


@pytest.mark.parametrize("key", ["nowhere", "dead"])
def test_a_job_that_has_ended_leaves_no_mark(rig: Rig, key: str) -> None:
    if key == "dead":
        put(rig, "dead", 1)
    else:
        rig.edge(1)
        worker = rig.worker()
        worker.exchange(*map(done, worker.fetch()), want=0)

    assert cancel(name(1), rig.store) is Cancelled.NOT_FOUND
    assert marks(rig) == {}
    assert rig.raw.zcard("dead") == (key == "dead")


def test_a_job_of_ruby_is_removed_too(rig: Rig) -> None:
    rig.raw.sadd("queues", "rubys")
    rig.raw.lpush("queue:rubys", foreign(jid="abc"), foreign(jid="other", args=["abc"]))

    assert cancel("abc", rig.store) is Cancelled.REMOVED
    assert rig.raw.llen("queue:rubys") == 1


def test_marks_that_no_longer_count_are_removed_on_the_way(rig: Rig) -> None:
    rig.raw.zadd("qik:cancelled", {"old": 5.0, "new": time.time() + 50})

    cancel("nobody", rig.store)

    assert set(marks(rig)) == {b"new"}


@pytest.mark.parametrize("jid", ["", "a b", "x" * 65, None, 7])
def test_what_is_no_id_is_refused(rig: Rig, jid: str) -> None:
    with pytest.raises(ArgumentError, match="cannot be an id"):
        cancel(jid, rig.store)


def test_a_job_that_moves_on_while_it_is_looked_for_is_met(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails and goes to the retry set right after that was looked at, and before the process is asked."""
    put(rig, "queue:default", 1)
    worker = rig.worker()
    [job] = worker.fetch()
    look = Records.held

    def held(records: Records) -> object:
        if marks(rig) and rig.raw.hexists(f"qik:working:{worker.identity}", job.field):
            worker.exchange(other(job, Kind.RETRY, 100.0), want=0)
        return look(records)

    monkeypatch.setattr(Records, "held", held)

    assert cancel(name(1), rig.store) is Cancelled.REMOVED
    assert (rig.raw.zcard("retry"), rig.locks()) == (0, 0)


def test_a_job_that_ends_at_the_mark_was_asked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.edge(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    mark = Records.cancel

    def mark_and_end(self: Records, jid: str, *, on: bool) -> None:
        mark(self, jid, on=on)
        worker.exchange(done(job))

    monkeypatch.setattr(Records, "cancel", mark_and_end)

    assert cancel(name(1), rig.store) is Cancelled.ASKED
