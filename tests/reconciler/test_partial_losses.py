"""Parts of Redis deleted by hand, as a reconciler meets them: X1 to X6 of what may go wrong, with the passes they take.

Under running workers: `test_keys_deleted_by_hand_under_running_jobs_come_back_and_nothing_overlaps` (X2, X3, X4) and
`test_a_queue_deleted_under_its_locks_is_told_again` (X1) in the integration tests.
"""

from __future__ import annotations

import threading
from collections import Counter
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select

from qik_core.passes import Passes
from qik_core.payload import Payload
from qik_core.store.worker import Held
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.lease import Leases
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from reconciler.tables import lease
from tests.qik_core.store.rig import Rig, Worker
from tests.reconciler.ends import end
from tests.reconciler.shop import Item, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: Redis is what is broken."""
    return sqlite_url


@pytest.fixture
def rig(redis_url: str, raw: Any) -> Rig:
    return Rig(redis_url, raw)


@pytest.fixture
def tools(rig: Rig, engines: Engines, home: Engine) -> Tools:
    """What a pass works with; nothing is held back after a loss here."""
    return Tools.of(Passes(rig.store), engines, "test")


def run(tools: Tools, definition: Definition) -> Report:
    return Pass(definition, tools, 0, lambda: None).run()


def fetch(worker: Worker) -> Counter[int]:
    """Fetch from the queue until it is empty; returns how often each row was handed out."""
    rows: Counter[int] = Counter()
    while worker.rig.raw.llen("queue:work"):
        answer = worker.exchange(want=100, queues=["work"])
        rows.update(Payload.decode(job.raw).args[0] for job in answer.jobs)
    return rows


def test_a_queue_that_is_gone_under_its_locks_is_told_by_the_next_pass(
    home: Engine, tools: Tools, raw: Any
) -> None:
    """X1: one pass, since the counts prove it; `rebuild` does the same without waiting for one."""
    fill(home, range(1, 21))
    definition = items(PENDING)
    run(tools, definition)
    raw.delete("queue:work")

    report = run(tools, definition)

    assert (report.outcome, report.codes) == (Outcome.COMPLETED, {"enqueued": 20})
    assert "jobs were deleted by hand, their locks are collected" in report.reason


def test_locks_that_are_gone_make_one_more_copy_a_row_at_most_and_none_is_handed_out_twice(
    home: Engine, tools: Tools, rig: Rig, raw: Any
) -> None:
    """X2: one pass; the queue is at most twice as long as there are rows, and falls."""
    fill(home, range(1, 21))
    definition = items(PENDING)
    run(tools, definition)
    raw.delete(*raw.scan_iter("qik:unique:*"))

    for _ in range(3):
        run(tools, definition)

    assert raw.llen("queue:work") == 40
    assert fetch(rig.worker()) == Counter(range(1, 21))
    assert run(tools, definition).codes == {"told": 20}


@pytest.mark.parametrize("beats", [True, False], ids=["still alive", "dead"])
def test_what_processes_held_is_told_again_when_it_is_gone_unless_they_live(
    home: Engine, tools: Tools, rig: Rig, raw: Any, beats: bool
) -> None:
    """X3, X4: one pass behind a roll; a process that lives asserts what it runs, and no copy of that comes."""
    fill(home, range(1, 6))
    definition = items(PENDING)
    run(tools, definition)
    worker = rig.worker()
    held = worker.exchange(want=100, queues=["work"]).jobs
    assert len(held) == 5
    raw.delete("qik:alive", "processes", *raw.scan_iter("qik:working:*"))
    if beats:
        assert worker.exchange().status == "lost"
        claimed = [Held(job.field, settling=False, raw=job.raw) for job in held]
        assert worker.store.hold(rig.link, claimed, mark="1:0") == set()

    raw.set("qik:roll", "1")
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(worker, done)) if beats else None
    if beating is not None:
        beating.start()
    assert tools.seam.roll(monotonic() + 60.0)
    done.set()
    if beating is not None:
        beating.join()
    report = run(tools, definition)

    assert report.codes == ({"told": 5} if beats else {"enqueued": 5})
    assert raw.llen("queue:work") == (0 if beats else 5)


def _beat(worker: Worker, done: threading.Event) -> None:
    while not done.wait(0.05):
        worker.beat()


def test_waiting_jobs_that_are_gone_come_back_and_their_bad_ends_are_remembered(
    home: Engine, tools: Tools, raw: Any
) -> None:
    """X5: one pass; a row whose job died four times dies once more at most, since SQL has counted."""
    fill(home, range(1, 21))
    definition = items(PENDING, jitter=50)
    for _ in range(4):
        end(raw, definition, (7,))
    run(tools, definition)
    assert raw.zcard("qik:later:work") == 19
    raw.zadd("retry", {"a": 1})
    raw.delete("schedule", "retry", "dead", "qik:later:work")

    report = run(tools, definition)
    assert report.codes["enqueued"] == 19
    assert report.codes["waiting"] == 1

    end(raw, definition, (7,))
    assert run(tools, definition).codes == {"told": 19, "quarantined": 1}


def test_without_its_leases_each_process_may_lead_and_no_row_gets_two_jobs(
    home: Engine, tools: Tools, engines: Engines, raw: Any
) -> None:
    """X6: leases are in SQL; deleted there, both leaders refuse each other's duplicates, and one is left at once."""
    fill(home, range(1, 301))
    definition = items(PENDING, batch_size=20)
    leases = [Leases(home, ["Items"], 30.0, holder=name) for name in ("one", "two")]
    for each in leases:
        each.register()
        each.renew()
    with home.begin() as connection:
        connection.execute(delete(lease))

    both = [threading.Thread(target=run, args=(tools, definition)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert raw.llen("queue:work") == 300
    for _ in range(2):
        for each in leases:
            each.renew()
    assert sum(each.term("Items") is not None for each in leases) == 1
