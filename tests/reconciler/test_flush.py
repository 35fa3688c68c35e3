from __future__ import annotations

from typing import Any

import pytest
import redis
from sqlalchemy import Engine, select

from qik_core import Job
from qik_core.flushing import Place
from qik_core.passes import EndedKind
from qik_core.results import Duplicate
from reconciler import Reconciler, derive
from reconciler.audit import read
from reconciler.derivable import Fate
from reconciler.engines import Engines
from reconciler.errors import ReconcilerError
from reconciler.flush import WouldLose, flush
from reconciler.memory import Memory
from reconciler.registry import find
from reconciler.survey import Selection
from tests.reconciler.ends import end
from tests.reconciler.flushes import RUBY, WORK, Shop, by, dumps, watching
from tests.reconciler.shop import Item, change, fill


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: the question about rows is tested on each."""
    return sqlite_url


@pytest.fixture
def shop(
    home: Engine, engines: Engines, raw: redis.Redis, default_client: None, redis_url: str
) -> Shop:
    return Shop(home, engines, raw)


# --- what it would do ----------------------------------------------------------------------------


def test_a_survey_says_where_jobs_wait_and_what_their_removal_would_mean(shop: Shop) -> None:
    shop.one_of_each()
    shop.raw.lpush("queue:work", RUBY % (1, 1))

    found = shop.plan()

    work, mail = found.lines["Work", "work"], found.lines["Mail", "work"]
    assert work.places == {Place.QUEUED: 5, Place.SCHEDULED: 3, Place.RETRYING: 1}
    assert work.fates == {Fate.REDERIVABLE: 7, Fate.STALE: 2}
    assert mail.places == {Place.QUEUED: 2, Place.SCHEDULED: 1, Place.DEAD: 1}
    assert mail.fates == {Fate.LOST: 4}
    assert found.lost == {"Mail": 4}
    assert found.why == {"Mail": "no reconciler tells it"}
    assert found.foreign == 1
    assert mail.bytes == sum(len(raw) for raw in shop.everywhere() if b'"Mail"' in raw)
    assert found.used > 0


def test_a_survey_writes_nothing(shop: Shop) -> None:
    shop.one_of_each()
    before = dumps(shop.raw)

    shop.plan()

    assert dumps(shop.raw) == before


def test_jobs_that_processes_hold_are_said_and_not_counted(shop: Shop) -> None:
    shop.rows(1)
    shop.push(1)
    (raw,) = shop.raws("queue:work")
    shop.raw.hset("qik:working:host:1:a", mapping={"#": "1:1", "1.1": raw})
    shop.raw.delete("queue:work", "qik:n:queue:work")

    line = shop.plan().lines["Work", "work"]

    assert (line.running, line.jobs) == (1, 0)


def test_a_class_queue_and_set_must_all_fit(shop: Shop) -> None:
    shop.one_of_each()

    def count(**words: Any) -> int:
        return shop.plan(Selection(**words)).jobs

    assert count(classes=frozenset({"Mail"})) == 4
    assert count(queues=frozenset({"work"})) == 13
    assert count(queues=frozenset({"other"})) == 0
    assert count(places=frozenset({Place.DEAD})) == 1
    assert count(classes=frozenset({"Work"}), places=frozenset({Place.SCHEDULED})) == 3


# --- what it refuses -----------------------------------------------------------------------------


def test_jobs_that_nothing_brings_back_are_not_removed_unless_their_class_is_named(
    shop: Shop,
) -> None:
    shop.one_of_each()
    before = dumps(shop.raw)

    with pytest.raises(
        WouldLose,
        match=r"nothing brings back 4 of these jobs.*\n  Mail: 4 \(no reconciler tells it\)",
    ) as e:
        shop.flush()

    assert "--lose Mail" in str(e.value)
    assert dumps(shop.raw) == before
    assert read(shop.home, 0.0) == []
    assert shop.flush(lose=["Mail"]).jobs == 13
    assert shop.jobs() == 0


def test_a_class_that_may_be_lost_and_is_not_there_is_asked_about(shop: Shop) -> None:
    shop.mails("a")

    with pytest.raises(ReconcilerError, match="did you mean 'Mail'"):
        shop.flush(lose=["Mial"])


def test_jobs_that_came_since_the_plan_and_that_nothing_brings_back_stay(shop: Shop) -> None:
    shop.rows(1, 2)
    shop.push(1, 2)
    made = shop.plan()
    shop.mails("late")

    done = flush(made, shop.means(), by())

    assert done.jobs == 2
    assert shop.args() == {'["late"]': 1}
    assert shop.unsound() == []


def test_what_stays_while_all_goes_keeps_its_key(shop: Shop) -> None:
    class Note(Job, queue="notes", unique_for=3600):
        def perform(self, n: int) -> None: ...

    shop.rows(1)
    shop.push(1)
    made = shop.plan()
    Note.perform_async(1)
    Note.perform_in(60, 2)
    locks = {key: _held(value) for key, value in shop.locks().items() if key not in shop.keys(1)}

    flush(made, shop.means(), by())

    assert {key: _held(value) for key, value in shop.locks().items()} == locks
    assert shop.unsound() == []
    assert isinstance(Note.perform_async(1), Duplicate)


def _held(record: bytes) -> tuple[bytes, bytes]:
    """Return state and job of a lock, without its expiry."""
    return record[:1], record[18:]


def test_rows_that_cannot_be_asked_for_count_as_lost(shop: Shop, home: Engine) -> None:
    shop.rows(1)
    shop.push(1)
    Item.__table__.drop(home)  # type: ignore[attr-defined]

    found = shop.plan()

    assert found.lost == {"Work": 1}
    assert "cannot be asked for" in found.why["Work"]


def test_nothing_is_done_where_the_audit_cannot_be_written(shop: Shop, home: Engine) -> None:
    shop.rows(1)
    shop.push(1)
    made = shop.plan()
    with home.begin() as connection:
        connection.exec_driver_sql("DROP TABLE reconciler_audit")
    before = dumps(shop.raw)

    with pytest.raises(ReconcilerError, match="reconciler upgrade"):
        flush(made, shop.means(), by())

    assert dumps(shop.raw) == before


# --- what it does --------------------------------------------------------------------------------


def test_all_is_a_new_loss_id_and_what_was_flushed_is_told_again(shop: Shop) -> None:
    shop.one_of_each()
    before = shop.raw.get("qik:epoch").split()[0]

    done = shop.flush(lose=["Mail"])

    assert done.removed == {
        ("Work", Fate.REDERIVABLE): 7, ("Work", Fate.STALE): 2, ("Mail", Fate.LOST): 4,
    }  # fmt: skip
    assert shop.raw.get("qik:epoch").split()[0] != before
    assert shop.jobs() == 0
    assert shop.unsound() == []
    assert not shop.raw.exists("qik:flusher", "qik:suspects")
    told = shop.means().passes.push(shop.work, [(1,), (4,), (5,), (6,), (20,)])
    assert {code.value for code in told.codes} == {"enqueued"}


def test_a_class_goes_and_all_others_stay_as_they_are_with_locks_order_and_counts(
    shop: Shop,
) -> None:
    class Other(Job, queue="work", unique_for=60):
        def perform(self, n: int) -> None: ...

    class Others(Reconciler, every=60):
        pending = derive(Other, select(Item.id).where(Item.state == "pending"))

    shop.one_of_each()
    for n in range(5):
        Other.perform_async(n)
        shop.mails(f"more {n}")
    shop.raw.lpush("queue:else", RUBY % (1, 1))
    kept = [raw for raw in shop.raws("queue:work") if b'"class":"Work"' not in raw]
    locks = shop.locks()
    before = dumps(shop.raw, but=[b"queue:work"])
    epoch = shop.raw.get("qik:epoch")

    done = shop.flush(WORK)

    assert done.jobs == 9
    assert shop.raws("queue:work") == kept
    assert shop.raw.get("qik:epoch") == epoch
    assert shop.unsound() == []
    mine = {raw[8:30] for raw in kept if b'"class":"Other"' in raw}
    assert shop.locks() == {key: value for key, value in locks.items() if key in mine}
    assert dumps(shop.raw)[b"queue:else"] == before[b"queue:else"]
    assert dumps(shop.raw)[b"dead"] == before[b"dead"]


def test_a_queue_without_a_job_that_is_meant_is_not_touched(shop: Shop) -> None:
    shop.one_of_each()
    shop.mail.set(queue="mails").perform_async("x")
    before = dumps(shop.raw)[b"queue:mails"]
    seen: list[str] = []
    with watching(shop.raw, seen):
        shop.flush(WORK)

    assert dumps(shop.raw)[b"queue:mails"] == before
    renamed = [each for each in seen if each.startswith("lua RENAME")]
    assert len(renamed) == 2
    assert not [each for each in renamed if "mails" in each]


def test_a_set_goes_and_the_same_class_stays_elsewhere(shop: Shop) -> None:
    shop.one_of_each()

    shop.flush(Selection(places=frozenset({Place.SCHEDULED})), lose=["Mail"])

    assert shop.args("schedule", "qik:later:work") == {}
    assert shop.args("retry") == {"[5]": 1}
    assert shop.args("queue:work")["[1]"] == 1
    assert shop.unsound() == []


def test_dead_jobs_go_and_what_is_remembered_of_their_rows_stays(shop: Shop) -> None:
    shop.rows(1)
    shop.push(1)
    end(shop.raw, find("Items"), (1,), EndedKind.DIED)
    shop.move("queue:work", "dead", 1)

    done = shop.flush(Selection(places=frozenset({Place.DEAD})))

    assert shop.raws("dead") == []
    assert shop.raws("qik:ended") == []
    (state,) = Memory(shop.home).page("Work")
    assert state.failures == 1
    assert done.jobs == 1


def test_held_jobs_of_both_lists_go_and_what_is_held_of_another_class_stays(shop: Shop) -> None:
    shop.mail.perform_bulk([(str(n),) for n in range(1200)])
    shop.push(1)
    for n, raw in enumerate(shop.raws("queue:work")):
        name = "Work" if b"Work" in raw else "Mail" if n % 3 else "Mail+"
        shop.raw.rpush(f"qik:held:{name}", raw)
        shop.raw.hincrby("qik:held", name.strip("+"), len(raw))
    shop.raw.delete("queue:work", "qik:n:queue:work")
    selection = Selection(classes=frozenset({"Mail"}), places=frozenset({Place.HELD}))

    assert shop.plan(selection).lines["Mail", "work"].places == {Place.HELD: 1200}
    assert shop.flush(selection, lose=["Mail"]).jobs == 1200

    assert not shop.raw.exists("qik:held:Mail", "qik:held:Mail+")
    assert set(shop.raw.hkeys("qik:held")) == {b"Work"}
    assert len(shop.locks()) == 1


def test_a_tenant_is_whose_row_is_pending_and_nobody_else_is_touched(shop: Shop) -> None:
    shop.rows(1, 2, note="acme")
    shop.rows(3, note="other")
    shop.rows(4, note="acme", state="done")
    shop.push(1, 2, 3, 4)
    shop.mails("acme")
    found = Selection(tenant="acme")

    assert shop.plan(found).lines["Work", "work"].fates == {Fate.REDERIVABLE: 2}
    assert shop.flush(found).jobs == 2
    assert shop.args() == {"[3]": 1, "[4]": 1, '["acme"]': 1}


def test_the_audit_says_who_flushed_what_and_why(shop: Shop) -> None:
    shop.one_of_each()

    shop.flush(WORK, who="alice@desk")

    begun, ended = read(shop.home, 0.0)
    assert (begun.action, begun.subject, begun.who, begun.reason) == (
        "flushed", "class:Work", "alice@desk", "a test",
    )  # fmt: skip
    assert (begun.details["state"], begun.details["rederivable"]) == ("begun", 7)
    assert (ended.details["state"], ended.details["removed"], ended.details["stale"]) == (
        "ended",
        9,
        2,
    )


def test_many_jobs_go_in_chunks_and_the_order_of_the_others_stays(shop: Shop) -> None:
    fill(shop.home, range(1, 1201))
    shop.work.perform_bulk([(n,) for n in range(1, 1201)])
    shop.mail.perform_bulk([(str(n),) for n in range(700)])
    kept = [raw for raw in shop.raws("queue:work") if b"Mail" in raw]
    said: list[int] = []

    flush(shop.plan(WORK), shop.means(), by(), say=lambda _, count: said.append(count))

    assert shop.raws("queue:work") == kept
    assert said == sorted(said)
    assert said[-1] == 1200
    assert shop.unsound() == []


def test_a_row_that_is_done_in_the_meantime_is_stale_and_goes(shop: Shop) -> None:
    shop.rows(1, 2)
    shop.push(1, 2)
    made = shop.plan()
    change(shop.home, 2, state="done")

    done = flush(made, shop.means(), by())

    assert done.removed == {("Work", Fate.REDERIVABLE): 1, ("Work", Fate.STALE): 1}
