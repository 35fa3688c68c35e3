from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from qik_core.passes import Passes, Told
from qik_core.switches import Condition, Field, Operator, Rule, Snapshot
from reconciler import audit
from reconciler.passes import Tools
from reconciler.rebuild import rebuild
from reconciler.rebuilt import Order, State
from tests.reconciler.rebuilds import FAST, PENDING, class_of, keys_on, with_seam
from tests.reconciler.shop import Item, fill, items


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: pages are tested on each."""
    return sqlite_url


def switch(seam: Passes, version: int, *flags: str, percent: float = 100.0) -> None:
    """Publish these switches, and no others."""
    rule = Rule(percent=percent, source="sql", reason="an incident")
    seam.publish(Snapshot(version, dict.fromkeys(flags, (rule,))))


def test_a_reconcilers_switch_is_obeyed_or_openly_overridden(
    home: Engine, tools: Tools, raw: Any
) -> None:
    """X9."""
    fill(home, range(1, 11))
    other = class_of("Mail", "pending")
    definitions = [items(PENDING), other]
    switch(tools.seam, 1, "disable_reconciler_mails")

    done = rebuild(definitions, tools, FAST)
    assert {each.unit: each.state for each in done.parts} == {
        "Items": State.COMPLETED,
        "Mails": State.SWITCHED_OFF,
    }
    assert "switched off by disable_reconciler_mails (sql): an incident" in done.parts[1].reason
    assert (raw.llen("queue:work"), raw.llen("queue:mail")) == (10, 0)
    assert rebuild([other], tools, FAST).state is State.SWITCHED_OFF

    forced = rebuild(definitions, tools, Order(rate=None, override=True))
    assert forced.state is State.COMPLETED
    assert forced.overridden == ("disable_reconciler_mails",)
    assert raw.llen("queue:mail") == 10
    last = audit.read(home, 0.0)[-1]
    assert last.details["overridden"] == ["disable_reconciler_mails"]


@pytest.mark.parametrize("flag", ["disable_mail", "disable_queue_mail"])
def test_what_workers_would_not_run_is_not_told_even_where_switches_are_overridden(
    home: Engine, tools: Tools, raw: Any, flag: str
) -> None:
    """X9."""
    fill(home, range(1, 11))
    switch(tools.seam, 1, flag, "disable_reconciler_mails")

    done = rebuild([class_of("Mail", "pending")], tools, Order(rate=None, override=True))

    assert done.state is State.SWITCHED_OFF
    assert f"enable {flag}: workers would not run what is told" in done.parts[0].reason
    assert raw.llen("queue:mail") == 0


def test_a_switch_of_a_share_of_the_keys_keeps_those_back_and_a_rebuild_after_it_tells_them(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 201))
    definition = items(PENDING)
    switch(tools.seam, 1, "disable_work", percent=50.0)

    done = rebuild([definition], tools, FAST)
    assert done.codes["refused"] == 200 - raw.llen("queue:work")
    assert 50 < raw.llen("queue:work") < 150

    switch(tools.seam, 2)
    assert rebuild([definition], tools, FAST).state is State.COMPLETED
    assert sorted(keys_on(raw)) == list(range(1, 201))


def test_rows_of_a_tenant_that_a_switch_keeps_back_are_counted_by_class_and_switch(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 11), note="one")
    fill(home, range(11, 31), note="two")
    definition = items(PENDING, tenant=Item.note, batch_size=10)
    of_one = Condition(Field.TENANT, Operator.IN, ("one",))
    rule = Rule(source="sql", reason="an incident", where=(of_one,))
    tools.seam.publish(Snapshot(1, {"disable_work": (rule,)}))

    cut = rebuild([definition], tools, FAST, stop=lambda: raw.llen("queue:work") >= 10)
    done = rebuild([definition], tools, FAST)

    assert (cut.state, done.state) == (State.STOPPED, State.COMPLETED)
    assert done.parts[0].reason == (
        "10 rows of Work stay in SQL: switched off by disable_work (sql): an incident"
    )
    assert done.codes == {"enqueued": 10, "refused": 10, "told": 10}
    assert sorted(keys_on(raw)) == list(range(11, 31))

    switch(tools.seam, 2)
    last = rebuild([definition], tools, FAST)
    assert (last.state, last.parts[0].reason) == (State.COMPLETED, "")
    assert sorted(keys_on(raw)) == list(range(1, 31))


def test_what_a_switch_kept_back_is_read_again_by_the_rebuild_that_goes_on(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 101))
    definition = items(PENDING, batch_size=10)
    switch(tools.seam, 1, "disable_work", percent=50.0)
    cut = rebuild([definition], tools, FAST, stop=lambda: raw.llen("queue:work") >= 20)
    assert cut.codes["refused"] > 0
    switch(tools.seam, 2)

    assert rebuild([definition], tools, FAST).state is State.COMPLETED
    assert sorted(keys_on(raw)) == list(range(1, 101))


def test_a_switch_that_goes_on_meanwhile_ends_the_rebuild_of_its_reconciler(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 101))

    class Switching(Passes):
        def push(self, *args: Any, **options: Any) -> Told:
            told = super().push(*args, **options)
            switch(self, 5, "disable_reconciler_items")
            return told

    made = with_seam(tools, Switching(tools.seam._store))
    done = rebuild([items(PENDING, batch_size=10)], made, FAST)

    assert done.state is State.SWITCHED_OFF
    assert raw.llen("queue:work") == 10
