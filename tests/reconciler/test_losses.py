from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, select, text, update

from qik_core import Job
from qik_core.errors import StoreError
from qik_core.flushing import Flushing, Found
from qik_core.passes import Passes
from qik_core.store import Store
from reconciler import audit, lost
from reconciler.errors import NotMigrated
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


class Nothing:
    """Has a flush remove nothing."""

    def judge(self, jobs: Sequence[Found]) -> list[bool]:
        return [False] * len(jobs)

    def ended(self, jobs: Sequence[Found], removed: Sequence[bool]) -> None: ...


@pytest.fixture
def flush_all(home: Engine, redis_url: str) -> Callable[[], None]:
    """Flushes everything on purpose."""
    flushing = Flushing(Store(redis_url), who="ann")

    def flush() -> None:
        audit.record(home, audit.Action.FLUSHED, "all", "ann", "an incident", {"state": "begun"})
        flushing.run(Nothing(), (), whole=True)

    return flush


def test_the_new_epoch_of_a_flush_is_a_loss_for_no_process_however_often_it_is_flushed(
    home: Engine, seam: Passes, flush_all: Callable[[], None]
) -> None:
    watches = [Watch(seam, name=name) for name in ("one", "two")]
    for each in watches:
        each.witness()
    Losses(home, seam, "one").count()
    flush_all()
    flush_all()
    seam.witness("two")  # an answer that was lost: what it left is of the new epoch
    starting = [Losses(home, seam, name).missed() for name in ("three", "four")]

    noticed = [*(each.witness() for each in watches), *starting]
    assert all(noticed)  # passes run again
    told = [Losses(home, seam, "one").announce(each) for each in noticed if each]

    assert told == [None] * 4
    assert audit.read(home, 0.0, actions=["redis_lost"]) == []
    assert Notes(home).read(Kind.REDIS).keys() <= {"told"}  # nothing of before is counted any more


def test_what_waits_is_counted_behind_a_flush_without_waiting_for_anybody_to_tell_of_it(
    home: Engine, seam: Passes, flush_all: Callable[[], None]
) -> None:
    losses = Losses(home, seam, "one")
    losses.count()
    aged(home, EVERY)
    flush_all()

    assert losses.count()
    assert Losses(home, seam, "two").missed() is None


@pytest.mark.parametrize("what", ["the epoch", "everything"])
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_a_loss_right_behind_a_flush_is_told(
    home: Engine, seam: Passes, raw: Any, flush_all: Callable[[], None], what: str, seen: bool
) -> None:
    losses, watch = Losses(home, seam, "one"), Watch(seam, name="one")
    watch.witness()
    flush_all()
    if seen:
        flushed = watch.witness()
        assert flushed is not None
        assert losses.announce(flushed) is None
    raw.delete("qik:epoch") if what == "the epoch" else raw.flushall()
    noticed = watch.witness()

    assert noticed is not None
    told = losses.announce(noticed)
    assert told is not None
    assert told.kind is (LossKind.LOCKS if what == "the epoch" else LossKind.EMPTIED)


def test_a_loss_that_nobody_saw_before_a_flush_is_told(
    home: Engine, seam: Passes, raw: Any, flush_all: Callable[[], None]
) -> None:
    watch = Watch(seam, name="one")
    watch.witness()
    raw.flushall()
    flush_all()
    noticed = watch.witness()

    assert noticed is not None
    assert Losses(home, seam, "one").announce(noticed) is not None


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


def rename(home: Engine, name: str, other: str) -> None:
    """Take a table of ours away, or bring it back."""
    with home.begin() as connection:
        connection.execute(text(f"ALTER TABLE {name} RENAME TO {other}"))


def test_a_loss_that_could_not_be_written_down_is_told_once_when_it_is_tried_again(
    home: Engine, seam: Passes, raw: Any, heard: list[RedisLoss]
) -> None:
    losses, watch = Losses(home, seam, "one"), Watch(seam, name="one")
    watch.witness()
    raw.flushall()
    noticed = watch.witness()
    assert noticed is not None
    rename(home, "reconciler_audit", "reconciler_gone")
    with pytest.raises(NotMigrated):
        losses.announce(noticed)
    rename(home, "reconciler_gone", "reconciler_audit")

    told = [losses.announce(noticed) for _ in range(2)]

    assert [each is None for each in told] == [False, True]
    eventually(lambda: heard)
    assert len(audit.read(home, 0.0)) == len(heard) == 1


@pytest.mark.usefixtures("default_client")
def test_a_loss_is_told_though_redis_went_away_while_it_was_seen_what_is_gone(
    home: Engine, seam: Passes, raw: Any
) -> None:
    mails(3)
    losses, watch = Losses(home, seam, "one"), Watch(seam, name="one")
    watch.witness()
    losses.count()
    raw.flushall()
    noticed = watch.witness()
    assert noticed is not None
    away = Losses(home, Passes(Store("redis://127.0.0.1:1")), "one")
    with pytest.raises(StoreError):
        away.announce(noticed)

    told = losses.announce(noticed)

    assert told is not None
    assert told.gone == 3


@pytest.mark.parametrize(
    "seen",
    [{"loss": "a1", "number": 7}, {"loss": "a1", "birth_ms": "soon", "number": 7}, 7, None],
    ids=["fewer", "other", "a number", "nothing"],
)
def test_what_another_release_knew_of_redis_is_not_judged_where_this_one_cannot_read_it(
    home: Engine, seam: Passes, seen: object
) -> None:
    Notes(home).put(Kind.REDIS, {"counted": {"jobs": {}, "seen": seen}})
    aged(home, EVERY)
    losses = Losses(home, seam, "one")

    assert losses.missed() is None
    assert losses.count()  # and is replaced


def test_a_loss_is_found_by_what_a_newer_release_knew_as_well(
    home: Engine, seam: Passes, raw: Any
) -> None:
    Losses(home, seam, "newer").count()
    value = Notes(home).read(Kind.REDIS)["counted"].value
    Notes(home).put(Kind.REDIS, {"counted": {**value, "seen": {**value["seen"], "replica": "eu"}}})
    raw.flushall()

    noticed = Losses(home, seam, "one").missed()

    assert noticed is not None
    assert noticed.kind is LossKind.EMPTIED
