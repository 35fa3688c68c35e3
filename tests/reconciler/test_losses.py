from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from qik_core import Job
from qik_core.passes import Passes
from qik_core.store import Store
from reconciler import audit, lost
from reconciler.losses import EVERY, Losses, sentence
from reconciler.lost import LossKind, RedisLoss
from reconciler.notes import Kind, Notes
from reconciler.tables import note
from reconciler.watch import Watch
from tests.reconciler.shop import Item, fill, items
from tests.waiting import eventually

PENDING = select(Item.id).where(Item.state == "pending")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: notes are tested on each."""
    return sqlite_url


@pytest.fixture
def heard() -> Iterator[list[RedisLoss]]:
    """What the application hears."""
    found: list[RedisLoss] = []
    lost.on_redis_loss(found.append)
    yield found
    lost.clear()


def aged(home: Engine, seconds: float) -> None:
    """Make all notes older."""
    with home.begin() as connection:
        connection.execute(update(note).values(at=note.c.at - seconds))


def mails(count: int) -> None:
    """Push jobs of a class that no reconciler tells."""

    class Mail(Job, queue="mail"):
        def perform(self, to: int) -> None: ...

    Mail.perform_bulk([(each,) for each in range(count)])


@pytest.mark.usefixtures("default_client")
def test_an_emptied_redis_is_told_once_with_the_last_known_count_of_what_nobody_tells_again(
    home: Engine, seam: Passes, raw: Any, heard: list[RedisLoss]
) -> None:
    fill(home, range(1, 4))
    seam.push(items(PENDING).job, [(1,), (2,), (3,)])
    mails(5)
    one, two = Losses(home, seam, "one"), Losses(home, seam, "two")
    watches = [Watch(seam, name=name) for name in ("one", "two")]
    for each in watches:
        each.witness()
    assert one.count()
    raw.flushall()

    noticed = [each.witness() for each in watches]
    assert all(noticed)
    told = [each.announce(found) for each, found in zip((one, two), noticed, strict=True) if found]

    assert [each is None for each in told] == [False, True]
    eventually(lambda: heard)
    assert len(heard) == 1
    assert heard[0].kind is LossKind.EMPTIED
    assert heard[0].unreconciled == {"Mail": {"queued": 5}}
    assert "5 jobs that no reconciler tells again" in sentence(heard[0])
    assert "Mail 5 (queued 5)" in sentence(heard[0])
    entry = audit.read(home, 0.0, actions=["redis_lost"])
    assert [(each.subject, each.who) for each in entry] == [("emptied", "one")]
    assert entry[0].details["unreconciled"] == {"Mail": {"queued": 5}}


def test_what_waits_is_counted_by_one_process_now_and_then(
    home: Engine, seam: Passes, redis_url: str
) -> None:
    one, two = Losses(home, seam, "one"), Losses(home, Passes(Store(redis_url)), "two")

    assert (one.count(), two.count(), one.count()) == (True, False, False)
    aged(home, EVERY)
    assert (two.count(), one.count()) == (True, False)


@pytest.mark.usefixtures("default_client")
def test_right_after_a_loss_nobody_counts_what_is_not_there_any_more(
    home: Engine, seam: Passes, raw: Any
) -> None:
    mails(5)
    one, two = Losses(home, seam, "one"), Losses(home, seam, "two")
    watch = Watch(seam, name="one")
    watch.witness()
    one.count()
    aged(home, EVERY)
    raw.flushall()

    assert not two.count()  # two has not noticed yet, and one has not told
    noticed = watch.witness()
    assert noticed is not None
    told = one.announce(noticed)

    assert told is not None
    assert told.gone == 5


@pytest.mark.usefixtures("default_client")
def test_a_loss_while_no_process_of_reconcilers_ran_is_found_by_the_next(
    home: Engine, seam: Passes, raw: Any, heard: list[RedisLoss]
) -> None:
    mails(2)
    Losses(home, seam, "before").count()
    raw.flushall()
    after = [Losses(home, seam, name) for name in ("one", "two")]

    found = [each.missed() for each in after]
    told = [each.announce(noticed) for each, noticed in zip(after, found, strict=True) if noticed]

    assert [each.kind for each in told if each is not None] == [LossKind.EMPTIED]
    eventually(lambda: heard)
    assert heard[0].gone == 2


def test_nothing_is_missed_where_nothing_was_lost(home: Engine, seam: Passes) -> None:
    assert Losses(home, seam, "one").missed() is None
    Losses(home, seam, "one").count()

    assert Losses(home, seam, "two").missed() is None


@pytest.mark.parametrize("of", ["all", "class:Mail"])
def test_the_new_epoch_of_a_flush_is_no_loss_and_only_a_flush_of_all_makes_one(
    home: Engine, seam: Passes, raw: Any, of: str
) -> None:
    watch = Watch(seam, name="one")
    watch.witness()
    Losses(home, seam, "one").count()
    audit.record(home, audit.Action.FLUSHED, of, "ann", "an incident", {})
    raw.delete("qik:epoch")
    noticed = watch.witness()

    assert noticed is not None
    assert noticed.kind is LossKind.LOCKS
    assert (Losses(home, seam, "one").announce(noticed) is None) is (of == "all")
    assert Notes(home).read(Kind.REDIS).keys() <= {"told"}  # nothing of before is counted any more


def test_a_second_loss_is_told_as_well(home: Engine, seam: Passes, raw: Any) -> None:
    losses, watch, told = Losses(home, seam, "one"), Watch(seam, name="one"), []
    watch.witness()
    for _ in range(2):
        raw.flushall()
        noticed = watch.witness()
        assert noticed is not None
        told.append(losses.announce(noticed))

    assert all(told)


def test_of_an_old_copy_what_is_missing_now_is_told(
    home: Engine, seam: Passes, raw: Any, heard: list[RedisLoss]
) -> None:
    Notes(home).put(
        Kind.REDIS,
        {"counted": {"jobs": {"Mail": {"queued": 9}, "Ping": {"queued": 0}}, "exact": False}},
    )
    losses = Losses(home, seam, "one")
    watch = Watch(seam, name="one")
    watch.witness()
    watch.witness()
    raw.hset("qik:witness", "one", 1)
    noticed = watch.witness()
    assert noticed is not None

    told = losses.announce(noticed)

    assert told is not None
    assert told.kind is LossKind.WENT_BACK
    assert told.unreconciled == {"Mail": {"queued": 9}}
    assert "about 9 jobs" in sentence(told)


def test_processes_that_notice_at_once_tell_once(
    home: Engine, seam: Passes, raw: Any, heard: list[RedisLoss]
) -> None:
    watches = [Watch(seam, name=str(each)) for each in range(6)]
    for each in watches:
        each.witness()
    raw.flushall()
    ready = threading.Barrier(6)

    def announce(watch: Watch, name: str) -> None:
        noticed = watch.witness()
        ready.wait()
        assert noticed is not None
        Losses(home, seam, name).announce(noticed)

    threads = [
        threading.Thread(target=announce, args=(watch, str(at))) for at, watch in enumerate(watches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    eventually(lambda: heard)
    assert len(audit.read(home, 0.0)) == len(heard) == 1


def test_where_nothing_was_lost_for_good_it_says_so_and_how_long_ago_it_was_counted(
    home: Engine, seam: Passes, raw: Any
) -> None:
    losses, watch = Losses(home, seam, "one"), Watch(seam, name="one")
    watch.witness()
    losses.count()
    raw.flushall()
    noticed = watch.witness()
    assert noticed is not None

    loss = losses.announce(noticed)

    assert loss is not None
    assert "no job of a class without reconciler waited there when they were counted" in sentence(
        loss
    )
