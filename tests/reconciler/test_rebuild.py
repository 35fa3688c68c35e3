from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core import Job
from qik_core.passes import Passes, Told
from reconciler import Backpressure, Fair, Occurrences, Reconciler, audit, derive
from reconciler.bookmarks import Bookmark, Bookmarks
from reconciler.engines import Engines
from reconciler.passes import Pass, Tools
from reconciler.rebuild import rebuild
from reconciler.rebuilt import Order, Progress, Rebuilt, State
from reconciler.source import write_position
from tests.reconciler.rebuilds import FAST, PENDING, class_of, keys_on, with_seam
from tests.reconciler.sharded import shard, sharded
from tests.reconciler.shop import Item, change, fill, items
from tests.waiting import eventually


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: pages are tested on each."""
    return sqlite_url


def test_everything_pending_that_has_no_job_is_told_once(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 121))
    definition = items(PENDING, batch_size=50)
    Pass(definition, tools, 0, lambda: None).run()
    fill(home, range(200, 231))
    raw.delete("queue:work")

    done = rebuild([definition], tools, FAST)

    assert done.state is State.COMPLETED
    assert sorted(keys_on(raw)) == [*range(1, 121), *range(200, 231)]
    again = rebuild([definition], tools, FAST)
    assert again.codes == {"told": 151}
    assert raw.llen("queue:work") == 151


def test_rows_that_are_held_back_or_done_are_left_out_as_by_a_pass(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 11))
    change(home, 3, 4, state="done")
    shadow = class_of("Ghost", "pending", shadow=True)

    done = rebuild([items(PENDING), shadow], tools, FAST)

    assert keys_on(raw) == [1, 2, 5, 6, 7, 8, 9, 10]
    assert raw.llen("queue:ghost") == 0
    assert "Ghosts is in shadow: it tells nothing" in done.notes


def test_the_rate_holds_over_all_reconcilers_together(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 121))
    other = class_of("Mail", "pending")

    done = rebuild([items(PENDING), other], tools, Order(rate=100.0))

    assert done.codes == {"enqueued": 240}
    assert (
        done.seconds >= 1.3
    )  # 240 rows: the last step of 100 begins when the 140 before are paid for


def test_each_class_has_its_turn_page_by_page_the_most_urgent_first(
    home: Engine, tools: Tools, raw: Any
) -> None:
    old, new = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    fill(home, range(1, 31), since=new)
    fill(home, range(101, 121), state="late", since=old)
    fill(home, range(201, 221), state="ageless")
    pushed: list[str] = []
    seam = _Spy(tools.seam._store, pushed)
    definitions = [
        class_of("Ageless", "ageless", batch_size=10),
        class_of("New", "pending", age=Item.since, batch_size=10),
        class_of("Old", "late", age=Item.since, batch_size=10),
    ]

    rebuild(definitions, with_seam(tools, seam), FAST)

    assert pushed == ["Old", "New", "Ageless", "Old", "New", "Ageless", "New"]


def test_reconcilers_of_one_class_share_its_turns_the_most_urgent_first(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 11), since=datetime(2026, 2, 1, tzinfo=UTC))
    fill(home, range(11, 21), state="late", since=datetime(2026, 1, 1, tzinfo=UTC))

    class Work(Job, queue="work", unique_for=3600):
        def perform(self, item_id: int) -> None: ...

    class Soon(Reconciler, every=60):
        pending = derive(Work, PENDING, age=Item.since)

    class Late(Reconciler, every=60):
        pending = derive(Work, select(Item.id).where(Item.state == "late"), age=Item.since)

    rebuild([Soon.definition, Late.definition], tools, FAST)

    assert keys_on(raw) == [*range(11, 21), *range(1, 11)]


class _Spy(Passes):
    """Notes which class each push is of."""

    def __init__(self, store: Any, pushed: list[str]) -> None:
        super().__init__(store)
        self.pushed = pushed

    def push(self, job: Any, rows: Any, **options: Any) -> Told:
        self.pushed.append(job.definition.name)
        return super().push(job, rows, **options)


def test_a_stop_is_heard_while_locks_without_a_job_are_collected(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 11))
    tools.watch.look()
    raw.set("qik:roller", "another", ex=60)  # who is waited for, half a minute
    began = time.monotonic()

    stopped = rebuild([items(PENDING)], tools, FAST, stop=lambda: time.monotonic() > began + 0.3)

    assert stopped.state is State.STOPPED
    assert time.monotonic() - began < 10
    assert raw.llen("queue:work") == 0


def test_a_rebuild_that_was_stopped_goes_on_where_it_stood(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 101))
    definition = items(PENDING, batch_size=10)
    stopped = rebuild([definition], tools, FAST, stop=lambda: raw.llen("queue:work") >= 30)
    assert stopped.state is State.STOPPED
    told = raw.llen("queue:work")
    assert 30 <= told < 100

    done = rebuild([definition], tools, FAST)

    assert done.parts[0].resumed
    assert done.scanned == 100 - stopped.scanned
    assert any("goes on where it was cut off" in each for each in done.notes)
    assert sorted(keys_on(raw)) == list(range(1, 101))


@pytest.mark.parametrize(
    "cursor", [write_position((5,)), None], ids=["further on", "at the first row"]
)
def test_a_rebuild_beside_another_says_who_that_is_wherever_it_stands(
    home: Engine, tools: Tools, cursor: str | None
) -> None:
    fill(home, range(1, 11))
    keep(home, tools.watch.look(), holder="box:7", scanned=5, cursor=cursor)

    done = rebuild([items(PENDING)], tools, FAST)

    assert "box:7 rebuilds Items too, or did until now: that does no harm" in done.notes
    assert not any("begins again" in each for each in done.notes)


def test_a_rebuild_behind_one_whose_rows_want_another_try_says_that_it_begins_again(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 11))
    keep(home, tools.watch.look(), holder="box:7", scanned=5, ended="stopped")

    done = rebuild([items(PENDING)], tools, FAST)

    assert not done.parts[0].resumed
    assert any("Items begins again with its first row" in each for each in done.notes)
    assert sorted(keys_on(raw)) == list(range(1, 11))


def keep(home: Engine, epoch: str, **mark: Any) -> None:
    """Leave a bookmark of another rebuild of the items."""
    Bookmarks(home).keep([("Items", Bookmark(epoch=epoch, began=0.0, **mark))], sure=True)


def test_after_a_loss_of_redis_nothing_is_gone_onwith_seam(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 51))
    definition = items(PENDING, batch_size=10)
    rebuild([definition], tools, FAST, stop=lambda: raw.llen("queue:work") >= 20)
    raw.flushall()

    done = rebuild([definition], tools, FAST)

    assert not done.parts[0].resumed
    assert sorted(keys_on(raw)) == list(range(1, 51))


def test_a_loss_of_redis_on_the_way_begins_it_again(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 51))
    flushes = iter([True])

    class Flushing(Passes):
        def push(self, *args: Any, **options: Any) -> Told:
            told = super().push(*args, **options)
            if raw.llen("queue:work") == 30 and next(flushes, False):
                raw.flushall()
            return told

    made = with_seam(tools, Flushing(tools.seam._store))
    done = rebuild([items(PENDING, batch_size=10)], made, FAST)

    assert done.state is State.COMPLETED
    assert "Redis lost its data: the rebuild begins again" in done.notes
    assert sorted(keys_on(raw)) == list(range(1, 51))


def test_jobs_deleted_by_hand_are_told_at_once_though_their_locks_stand(
    home: Engine, tools: Tools, raw: Any
) -> None:
    """X1 and X5: the locks are there, and no job; a rebuild collects them first."""
    fill(home, range(1, 21))
    fill(home, range(21, 41), state="later")
    definitions = [items(PENDING), class_of("Mail", "later", jitter=50)]
    for each in definitions:
        Pass(each, tools, 0, lambda: None).run()
    assert raw.zcard("qik:later:mail") == 20
    raw.delete("queue:work", "qik:later:mail")

    done = rebuild(definitions, tools, FAST)

    assert done.codes == {"enqueued": 40}
    assert (raw.llen("queue:work"), raw.zcard("qik:later:mail")) == (20, 20)


def test_a_queue_is_never_filled_beyond_its_mark_and_the_rest_is_told_as_it_drains(
    home: Engine, tools: Tools, raw: Any
) -> None:
    """X10: the queue never holds more than its cap."""
    fill(home, range(1, 61))
    definition = items(PENDING, batch_size=50, backpressure=Backpressure(high=20, low=10))
    other = class_of("Mail", "pending")
    seen: list[Progress] = []
    most: list[int] = []
    ended: list[Rebuilt] = []

    class Looking(Passes):
        def push(self, *args: Any, **options: Any) -> Told:
            told = super().push(*args, **options)
            most.append(raw.llen("queue:work"))
            return told

    made = with_seam(tools, Looking(tools.seam._store))
    thread = threading.Thread(
        target=lambda: ended.append(rebuild([definition, other], made, FAST, tell=seen.append))
    )
    thread.start()
    eventually(lambda: raw.llen("queue:mail") == 60, message="others go on meanwhile")
    eventually(lambda: any("jobs wait on work" in each.waits for each in seen))
    eventually(
        lambda: (
            not thread.is_alive()
            or (raw.llen("queue:work") > 15 and raw.delete("queue:work") and False)
        ),
        60.0,
    )
    thread.join()

    assert ended[0].state is State.COMPLETED
    assert ended[0].codes["enqueued"] >= 120
    assert max(most) == 20


def test_two_rebuilds_and_passes_at_the_same_time_make_one_job_a_row(
    home: Engine, engines: Engines, tools: Tools, raw: Any
) -> None:
    """X9: at most one live job a row."""
    fill(home, range(1, 501))
    definition = items(PENDING, batch_size=50)
    others = [with_seam(tools, Passes(tools.seam._store)) for _ in range(2)]
    acts: list[Callable[[], object]] = [
        lambda: rebuild([definition], others[0], FAST),
        lambda: rebuild([definition], others[1], FAST),
        lambda: [Pass(definition, tools, 0, lambda: None).run() for _ in range(5)],
    ]
    threads = [threading.Thread(target=each) for each in acts]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert sorted(keys_on(raw)) == list(range(1, 501))


def test_progress_says_how_much_how_fast_and_how_long(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 301))
    seen: list[Progress] = []

    rebuild([items(PENDING, batch_size=50)], tools, Order(rate=150.0), tell=seen.append)

    assert [each.scanned for each in seen] == sorted(each.scanned for each in seen)
    assert seen[-1].scanned == seen[-1].total == seen[-1].enqueued == 300
    assert seen[-1].eta == 0.0
    some = next(each for each in seen if 0 < each.scanned < 300 and each.rate)
    assert some.total == 300
    assert some.eta is not None
    assert some.eta == pytest.approx((300 - some.scanned) / some.rate)


def test_jitter_spreads_jobs_only_where_that_takes_longer_than_the_rebuild(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 31))
    jittered = class_of("Mail", "pending", jitter=30)

    rebuild([jittered], tools, Order(rate=1.0), stop=lambda: raw.llen("queue:mail") > 0)
    assert raw.zcard("qik:later:mail") == 0  # 30 rows at 1/s are spread over 30 s by that alone

    rebuild([jittered], tools, Order(rate=1000.0))
    assert raw.zcard("qik:later:mail") > 20

    raw.flushall()
    rebuild([items(PENDING)], tools, Order(rate=None, jitter=100.0))
    assert raw.zcard("qik:later:work") > 20


def test_beginning_and_end_are_in_the_audit(home: Engine, tools: Tools) -> None:
    fill(home, range(1, 4))

    rebuild([items(PENDING)], tools, Order(rate=None, who="ann@host", reason="after a flush"))

    entries = audit.read(home, 0.0, actions=["rebuilt"])
    assert [(each.who, each.reason, each.subject) for each in entries] == [
        ("ann@host", "after a flush", "Items")
    ] * 2
    assert [each.details["state"] for each in entries] == ["began", "completed"]
    assert entries[1].details["codes"] == {"enqueued": 3}


def test_shards_are_rebuilt_each_from_its_own_database(
    home: Engine, engines: Engines, tools: Tools, raw: Any, tmp_path: Path
) -> None:
    definition = sharded(lambda: {name: shard(tmp_path, name, 30) for name in ("eu", "us")})

    done = rebuild([definition], tools, FAST)

    assert {each.unit: each.codes for each in done.parts} == {
        "Items/eu": {"enqueued": 30},
        "Items/us": {"enqueued": 30},
    }
    assert raw.llen("queue:work") == 60
    assert set(Bookmarks(home).read()) == {"Items/eu", "Items/us"}


def test_slots_of_a_schedule_and_shares_of_tenants_are_rebuilt_as_passes_tell_them(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 11), note="one")
    fill(home, range(11, 16), note="two")

    class Report(Job, queue="reports", unique_for=3600):
        def perform(self, slot: int) -> None: ...

    class Hourly(Occurrences, schedule="0 * * * *", catchup=6 * 3600):
        done = derive(Report, select(Item.rank).where(Item.state == "reported"))

    shares = items(PENDING, tenant=Item.note, fair=Fair(per_tenant=3))
    done = rebuild([Hourly.definition, shares], tools, FAST)

    assert done.state is State.COMPLETED
    assert raw.llen("queue:reports") in (5, 6)
    assert raw.llen("queue:work") == 6
    assert [each.total for each in done.parts] == [raw.llen("queue:reports"), 6]
