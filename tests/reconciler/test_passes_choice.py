"""Which rows a pass leaves out, what it counts of them, and what it measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, insert, select

from qik_core import Job
from qik_core.passes import Passes
from reconciler import Fair, Reconciler, derive
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from reconciler.status import standings
from reconciler.tables import passes
from tests.reconciler.ends import end
from tests.reconciler.shop import Item, Member, change, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


def run(definition: Any, tools: Tools) -> Report:
    return Pass(definition, tools, 1, lambda: None).run()


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def test_a_pass_in_shadow_counts_what_it_would_tell_and_tells_nothing(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1, 2, 3])
    definition = items(PENDING, shadow=True)
    tools.seam.push(definition.job, [(2,)])

    report = run(definition, tools)

    assert (report.outcome, report.codes) == (Outcome.COMPLETED, {"told": 1, "shadow": 2})
    assert raw.llen("queue:work") == 1


def test_rows_are_told_for_the_moment_they_are_due_and_late_ones_may_be_skipped(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1], since=now() - timedelta(hours=5))
    fill(home, [2], since=now() + timedelta(seconds=40))
    fill(home, [3], since=now() + timedelta(hours=1))
    definition = items(
        PENDING, run_at=Item.since, horizon=timedelta(minutes=2), late="skip", jitter=5
    )

    report = run(definition, tools)

    assert report.codes == {"enqueued": 1, "late": 1}
    ((_, due),) = raw.zrange("qik:later:work", 0, -1, withscores=True)
    assert 39 <= due - datetime.now(UTC).timestamp() <= 46


def test_every_tenant_has_its_turn_and_nobody_more_than_its_share(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1])
    with home.begin() as connection:
        rows = [
            {
                "org_id": org,
                "user_id": user,
                "email": f"{org}-{user}",
                "token": UUID(int=org * 1_000 + user),
            }
            for org, users in ((1, 40), (2, 3), (3, 1))
            for user in range(1, users + 1)
        ]
        connection.execute(insert(Member), rows)

    class Sync(Job, queue="work", unique_for=3600):
        def perform(self, org_id: int, user_id: int) -> None: ...

    class Syncs(Reconciler, every=60, fair=Fair(per_tenant=2), batch_size=3):
        pending = derive(Sync, select(Member.org_id, Member.user_id), tenant=Member.org_id)

    report = run(Syncs.definition, tools)

    assert report.codes == {"enqueued": 5}
    assert "time_to_whole" not in report.details  # most rows wait for the passes after it
    pushed = [json.loads(each)["args"] for each in reversed(raw.lrange("queue:work", 0, -1))]
    assert [org for org, _ in pushed] == [1, 2, 3, 1, 2]


def test_what_a_pass_measured_is_kept_in_the_ledger_and_shown(home: Engine, tools: Tools) -> None:
    fill(home, range(1, 41), since=now() - timedelta(hours=2))
    fill(home, range(41, 51), since=now() - timedelta(hours=1))
    definition = items(PENDING, age=Item.since, batch_size=20, jitter=7)
    tools.seam.push(definition.job, [(each,) for each in range(1, 41)])

    details = run(definition, tools).details

    assert details["pending"] == 50
    assert 7_195 < details["oldest_pending_age"] < 7_300
    assert 3_595 < details["oldest_untold_age"] < 3_700
    assert (details["pushed"], details["waiting"], details["quarantined"]) == (10, 0, 0)
    assert 8 < details["time_to_whole"] < 12
    with home.connect() as connection:
        written = connection.execute(select(passes.c.details)).scalar_one()
    assert json.loads(written) == details
    (standing,) = standings(home)
    assert standing.last is not None
    assert standing.last.details == details


def test_a_pass_that_did_not_see_all_rows_does_not_say_how_many_there_are(
    home: Engine, tools: Tools
) -> None:
    fill(home, range(1, 51))
    definition = items(PENDING, batch_size=10)
    stops = iter([None, None, None, (Outcome.DEPOSED, "the lease is gone")])

    details = Pass(definition, tools, 1, lambda: next(stops)).run().details

    assert "pending" not in details
    assert "time_to_whole" not in details


def test_rows_that_had_been_lost_are_counted_by_cause(home: Engine, tools: Tools, raw: Any) -> None:
    """137 losses: 60 by a flush, 50 whose jobs were deleted by hand, 27 that nobody had told."""
    definition = items(PENDING, edges=True, age=Item.since, min_age=0)
    before = now() - timedelta(hours=1)
    fill(home, range(1, 61), since=before)
    assert run(definition, tools).details["drift"] == {"untold": 60}
    raw.flushall()
    tools.watch.look()
    report = run(definition, tools)
    assert (report.outcome, report.details["drift"]) == (Outcome.COMPLETED, {"flush": 60})

    fill(home, range(101, 151), since=now())
    tools.seam.push(definition.job, [(each,) for each in range(101, 151)])
    for payload in raw.lrange("queue:work", 0, -1):
        if json.loads(payload)["args"][0] > 100:
            raw.lrem("queue:work", 1, payload)
    fill(home, range(201, 228), since=now())
    drift = run(definition, tools).details["drift"]

    assert drift == {"lock_without_job": 50, "untold": 27}
    assert run(definition, tools).details["drift"] == {}


def test_rows_that_a_pass_under_way_tells_after_a_flush_are_lost_by_it(
    home: Engine, tools: Tools, raw: Any
) -> None:
    definition = items(PENDING, edges=True, age=Item.since, min_age=0)
    fill(home, range(1, 61), since=now() - timedelta(hours=1))
    run(definition, tools)
    asked = iter(range(100))

    def standing() -> None:
        if next(asked) == 0:  # behind the look at the epoch, before the first page
            raw.flushall()

    report = Pass(definition, tools, 1, standing).run()

    assert (report.outcome, report.codes) == (Outcome.RESTARTED, {"enqueued": 60})
    assert report.details["drift"] == {"flush": 60}


def test_without_edges_of_its_own_nothing_is_counted_as_lost(home: Engine, tools: Tools) -> None:
    fill(home, [1])

    assert run(items(PENDING), tools).details["drift"] == {}


def test_rows_told_after_the_last_whole_pass_are_no_loss_of_a_flush(
    home: Engine, tools: Tools, raw: Any
) -> None:
    definition = items(PENDING, edges=True, age=Item.since, min_age=0)
    fill(home, [1, 2], since=now() - timedelta(hours=1))
    run(definition, tools)
    raw.flushall()
    tools.watch.look()
    fill(home, [3], since=now() + timedelta(seconds=1))  # MariaDB keeps whole seconds
    change(home, 2, state="done")

    assert run(definition, tools).details["drift"] == {"flush": 1, "untold": 1}


class Racing(Passes):
    """The real seam; `do` is called when it is asked which rows are told: jobs end while a pass is under way."""

    def __init__(self, seam: Passes, do: Callable[[], object]) -> None:
        super().__init__(seam._store)
        self.do = do

    def told(self, *args: Any, **options: Any) -> list[bool]:
        self.do()
        return super().told(*args, **options)


def test_a_row_whose_job_has_ended_since_its_page_was_read_is_neither_told_nor_counted_as_lost(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1, 2, 3])
    definition = items(PENDING, edges=True)
    racing = Racing(tools.seam, lambda: change(home, 2, state="done"))

    report = run(definition, replace(tools, seam=racing))

    assert report.codes == {"enqueued": 2, "gone": 1}
    assert report.details["drift"] == {"untold": 2}


def test_a_row_whose_job_has_died_since_its_page_was_read_is_held_back(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1, 2])
    definition = items(PENDING)
    racing = Racing(tools.seam, lambda: end(raw, definition, (2,)))

    report = run(definition, replace(tools, seam=racing))

    assert report.codes == {"enqueued": 1, "waiting": 1}


def test_a_row_that_is_told_ahead_of_its_time_is_not_taken_for_one_that_matches_no_more(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1], since=now() + timedelta(seconds=40))
    definition = items(PENDING, run_at=Item.since, horizon=60, edges=True)

    assert run(definition, tools).codes == {"enqueued": 1}
