from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, literal_column, select
from sqlalchemy.orm import aliased

from qik_core import Job
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from reconciler.rows import tag
from tests.reconciler.shop import Item, change, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


def run(definition: Definition, tools: Tools, standing: Callable[[], Any] = lambda: None) -> Report:
    return Pass(definition, tools, 1, standing).run()


def test_every_pending_row_is_told_and_the_rest_is_left_alone(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 2_501))
    change(home, *range(1, 501), state="done")

    report = run(items(PENDING), tools)

    assert report.outcome is Outcome.COMPLETED
    assert report.codes == {"enqueued": 2_000}
    assert (report.scanned, report.pages) == (2_000, 3)
    assert raw.llen("queue:work") == 2_000


def test_a_second_pass_finds_everything_told_and_pushes_nothing(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 1_501))
    definition = items(PENDING)
    run(definition, tools)

    report = run(definition, tools)

    assert report.codes == {"told": 1_500}
    assert raw.llen("queue:work") == 1_500


def test_an_applications_own_push_and_the_pass_meet_in_one_lock(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [7])
    definition = items(PENDING)
    tools.seam.push(definition.job, [(7,)])

    assert run(definition, tools).codes == {"told": 1}
    assert raw.llen("queue:work") == 1


def test_rows_told_within_one_page_more_than_once_are_one_job(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1, 2])
    other = aliased(Item)
    twice = select(Item.id).join(other, literal_column("1=1"))

    report = run(items(twice), tools)

    assert report.codes == {"enqueued": 2, "duplicate_queued": 2}
    assert raw.llen("queue:work") == 2


def test_jitter_spreads_jobs_over_its_window_in_our_own_set(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 501))

    report = run(items(PENDING, jitter=60), tools)

    scores = [score for _, score in raw.zrange("qik:later:work", 0, -1, withscores=True)]
    assert report.codes == {"enqueued": 500}
    assert len(scores) == 500
    assert max(scores) - min(scores) > 50
    assert raw.llen("queue:work") == 0


def test_after_a_flush_a_row_is_due_at_the_instant_it_had_before(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 51))
    definition = items(PENDING, jitter=60)

    def instants() -> dict[bytes, float]:
        run(definition, tools)
        found = raw.zrange("qik:later:work", 0, -1, withscores=True)
        return {
            payload.partition(b'"args":')[2].partition(b"]")[0]: score for payload, score in found
        }

    before = instants()
    raw.flushall()
    after = instants()

    for key, score in before.items():
        off = abs(score - after[key])
        assert min(off, abs(off - 60)) < 1.0


def test_a_pass_may_use_a_queue_of_its_own(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, [1, 2])

    run(items(PENDING, queue="low"), tools)

    assert raw.llen("queue:low") == 2
    assert raw.llen("queue:work") == 0


def test_the_arguments_may_be_made_from_a_row(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, [1], note="x")

    class Noted(Job, queue="work", unique_for=60, unique_args=["item_id"]):
        def perform(self, note: str, item_id: int) -> None: ...

    class Notes(Reconciler, every=60):
        pending = derive(
            Noted,
            select(Item.id, Item.note),
            args=lambda row: (row[1] or "", row[0]),
            order_by=Item.rank.desc(),
        )

    assert run(Notes.definition, tools).codes == {"enqueued": 1}
    assert b'"args":["x",1]' in raw.lrange("queue:work", 0, -1)[0]


def test_a_key_that_is_not_proven_is_looked_at_on_each_page(home: Engine, tools: Tools) -> None:
    fill(home, range(1, 11))

    class Bucket(Job, unique_for=60):
        def perform(self, bucket: int) -> None: ...

    class Buckets(Reconciler, every=60):
        pending = derive(Bucket, select(Item.id), args=lambda row: (row[0] % 3,))

    report = run(Buckets.definition, tools)

    assert report.outcome is Outcome.FAILED
    assert "one to one" in report.reason


def test_a_row_that_cannot_travel_is_named_and_does_not_stop_the_others(
    home: Engine, tools: Tools
) -> None:
    fill(home, range(1, 21))

    class Positive(Job, unique_for=60):
        def perform(self, item_id: int) -> None: ...

    def odd(row: Any) -> Any:
        return ("x" if row[0] == 7 else row[0],)

    class Positives(Reconciler, every=60):
        pending = derive(Positive, select(Item.id), args=odd)

    report = run(Positives.definition, tools)

    assert report.codes == {"enqueued": 19, "invalid": 1}
    assert report.outcome is Outcome.FAILED
    assert "1 rows have arguments that cannot travel, as (7,)" in report.reason


def test_a_newer_row_version_marks_a_running_job(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, [1])
    definition = items(PENDING, version=Item.version)
    run(definition, tools)
    generation = raw.get("qik:epoch").split()[1]
    locks = b"qik:unique:" + generation
    (digest,) = [field for field in raw.hkeys(locks) if field != b"#"]
    record = raw.hget(locks, digest)
    raw.hset(locks, digest, b"r" + record[1:] + b"|abcdef")

    same = run(definition, tools)
    change(home, 1, version=2)
    newer = run(definition, tools)

    assert same.codes == {"told": 1}
    assert newer.codes == {"dirtied": 1}


def test_versions_are_tags_of_six_characters_that_tell_values_and_types_apart() -> None:
    tags = {tag(each) for each in (1, 2, "1", None, 1.5, b"1")}

    assert len(tags) == 6
    assert {len(each) for each in tags} == {6}
