"""A rebuild one of whose reconcilers fails: it is named, the others go on, and the next rebuild has all of its rows."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, literal_column, select

from qik_core import Job
from qik_core.passes import Passes, Told
from reconciler import Reconciler, derive
from reconciler.passes import Tools
from reconciler.rebuild import rebuild
from reconciler.rebuilt import State
from tests.reconciler.rebuilds import FAST, PENDING, class_of, keys_on, with_seam
from tests.reconciler.shop import Item, fill, items


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: pages are tested on each."""
    return sqlite_url


def test_a_broken_reconciler_does_not_stop_the_others(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 11))
    bad = class_of("Bad", "pending")
    broken = items(select(Item.id).where(literal_column("gone") == 1), name="Broken")

    done = rebuild([bad, broken], tools, FAST)

    states = {each.unit: each.state for each in done.parts}
    assert states == {"Bads": State.COMPLETED, "Broken": State.FAILED}
    assert done.state is State.FAILED
    assert "gone" in next(each.reason for each in done.parts if each.unit == "Broken")


def test_a_key_of_a_wrong_type_fails_the_reconciler_of_its_queue_alone(
    home: Engine, tools: Tools, raw: Any
) -> None:
    """P2."""
    fill(home, range(1, 31))
    definitions = [class_of("Mail", "pending"), items(PENDING, batch_size=10)]
    raw.set("queue:mail", "no list")

    done = rebuild(definitions, tools, FAST)

    states = {each.unit: each.state for each in done.parts}
    assert states == {"Mails": State.FAILED, "Items": State.COMPLETED}
    assert "queue:mail holds another type" in done.parts[0].reason
    assert any(each.startswith("Mails: WrongType: queue:mail") for each in done.notes)
    assert (done.state, done.error) == (State.FAILED, None)
    assert sorted(keys_on(raw)) == list(range(1, 31))

    raw.delete("queue:mail")
    assert rebuild(definitions, tools, FAST).state is State.COMPLETED
    assert sorted(keys_on(raw, "mail")) == list(range(1, 31))


def test_what_failed_before_a_loss_of_redis_is_rebuilt_with_all_the_rest(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 51))
    definitions = [class_of("Mail", "pending"), items(PENDING, batch_size=10)]
    raw.set("queue:mail", "no list")  # gone with the flush
    flushes = iter([True])

    class Flushing(Passes):
        def push(self, *args: Any, **options: Any) -> Told:
            told = super().push(*args, **options)
            if raw.llen("queue:work") == 30 and next(flushes, False):
                raw.flushall()
            return told

    done = rebuild(definitions, with_seam(tools, Flushing(tools.seam._store)), FAST)

    assert any(each.startswith("Mails: WrongType") for each in done.notes)
    assert [(each.state, each.reason) for each in done.parts] == [(State.COMPLETED, "")] * 2
    assert sorted(keys_on(raw, "mail")) == sorted(keys_on(raw)) == list(range(1, 51))


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut off"])
def test_rows_that_could_not_travel_are_read_again_when_a_rebuild_is_repeated(
    home: Engine, tools: Tools, raw: Any, cut: bool
) -> None:
    fill(home, range(1, 31))
    odd = {3}

    class Work(Job, queue="work", unique_for=3600):
        def perform(self, item_id: int) -> None: ...

    def made(row: Any) -> Any:
        return ("x" if row[0] in odd else row[0],)

    class Items(Reconciler, every=60, batch_size=10):
        pending = derive(Work, PENDING, args=made)

    first = rebuild(
        [Items.definition], tools, FAST, stop=lambda: cut and raw.llen("queue:work") >= 9
    )
    assert first.state is (State.STOPPED if cut else State.FAILED)
    assert first.codes["invalid"] == 1
    assert cut or "1 rows have arguments that cannot travel, as (3,)" in first.parts[0].reason
    odd.clear()

    again = rebuild([Items.definition], tools, FAST)

    assert again.state is State.COMPLETED
    assert sorted(keys_on(raw)) == list(range(1, 31))
