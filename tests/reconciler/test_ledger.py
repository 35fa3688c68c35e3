from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, func, select, update

from reconciler.ledger import KEEP, Ledger, codes
from reconciler.report import Outcome, Report
from reconciler.sql import writing
from reconciler.tables import passes
from tests.reconciler.shop import Item, items


def report(number: int, outcome: Outcome = Outcome.COMPLETED, cursor: str | None = None) -> Report:
    return Report(
        reconciler="Items",
        outcome=outcome,
        reason="why",
        seconds=1.5,
        scanned=10,
        pages=2,
        page_size=1000,
        codes={"told": 9, "enqueued": 1},
        cursor=cursor,
        pass_id=number,
    )


@pytest.fixture
def ledger(home: Engine) -> Ledger:
    return Ledger(home, "me")


def test_a_pass_is_written_when_it_begins_and_when_it_ends(home: Engine, ledger: Ledger) -> None:
    number = ledger.begin(items(select(Item.id)), term=7)
    with home.connect() as connection:
        begun = connection.execute(select(passes)).one()
    ledger.end(report(number), "loss-1")
    with home.connect() as connection:
        ended = connection.execute(select(passes)).one()

    assert (begun.reconciler, begun.job_class, begun.holder, begun.term) == (
        "Items",
        "Work",
        "me",
        7,
    )
    assert (begun.outcome, begun.ended_at) == (None, None)
    assert (ended.outcome, ended.reason, ended.scanned, ended.epoch) == (
        "completed",
        "why",
        10,
        "loss-1",
    )
    assert codes(ended.codes) == {"told": 9, "enqueued": 1}
    assert ended.ended_at >= ended.started_at


def test_a_cursor_is_kept_after_a_pass_whose_time_was_up(ledger: Ledger) -> None:
    definition = items(select(Item.id))
    ledger.end(report(ledger.begin(definition, 1), Outcome.BUDGET, "[5]"), "loss-1")

    assert ledger.before(definition, "loss-1").cursor == "[5]"
    assert ledger.before(replace(definition, name="Others"), "loss-1").cursor is None


def test_each_shard_has_a_cursor_of_its_own(ledger: Ledger) -> None:
    one, two = (items(select(Item.id)).in_shard(shard) for shard in ("eu1", "us1"))
    ledger.end(report(ledger.begin(one, 1), Outcome.BUDGET, "[5]"), "loss-1")

    assert ledger.before(one, "loss-1").cursor == "[5]"
    assert ledger.before(two, "loss-1").cursor is None


def test_a_cursor_ends_with_the_life_of_redis(ledger: Ledger) -> None:
    definition = items(select(Item.id))
    ledger.end(report(ledger.begin(definition, 1), Outcome.BUDGET, "[5]"), "loss-1")

    assert ledger.before(definition, "loss-2").cursor is None


def test_a_cursor_ends_with_the_next_pass_that_ended(ledger: Ledger) -> None:
    definition = items(select(Item.id))
    ledger.end(report(ledger.begin(definition, 1), Outcome.BUDGET, "[5]"), "loss-1")
    ledger.end(report(ledger.begin(definition, 1)), "loss-1")
    ledger.begin(definition, 1)

    assert ledger.before(definition, "loss-1").cursor is None


def test_pruning_forgets_what_is_old_but_the_newest_of_each(home: Engine, ledger: Ledger) -> None:
    definition, other = items(select(Item.id)), items(select(Item.id), name="Others")
    for _ in range(3):
        ledger.end(report(ledger.begin(definition, 1)), "x")
    ledger.end(report(ledger.begin(other, 1)), "x")
    with writing(home) as connection:
        connection.execute(update(passes).values(started_at=passes.c.started_at - KEEP - 1))

    assert ledger.prune() == 2

    with home.connect() as connection:
        left = connection.execute(select(passes.c.reconciler)).scalars().all()
    assert sorted(left) == ["Items", "Others"]


def test_pruning_leaves_what_is_young(home: Engine, ledger: Ledger) -> None:
    for _ in range(3):
        ledger.begin(items(select(Item.id)), 1)

    assert ledger.prune() == 0
    with home.connect() as connection:
        assert connection.execute(select(func.count()).select_from(passes)).scalar_one() == 3
