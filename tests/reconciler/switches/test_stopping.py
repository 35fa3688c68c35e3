from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core import Job, client, settings
from qik_core.passes import Passes
from qik_core.providers import SwitchSettings
from qik_core.settings import Settings
from qik_core.switches import Condition, Field, Operator, Rule, Snapshot
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from reconciler.switches.stopping import Stops
from tests.reconciler.shop import Item, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Switches are asked beside the database, not in it."""
    return sqlite_url


@pytest.fixture
def switch(seam: Passes) -> Callable[..., None]:
    """Publishes these switches, for this process and all others."""

    def publish(**flags: Rule) -> None:
        version = max(int(time.time() * 1000), seam.switches().version + 1)
        seam.publish(Snapshot(version, {flag: (rule,) for flag, rule in flags.items()}))

    return publish


def run(definition: Definition, tools: Tools) -> Report:
    return Pass(definition, tools, 1, lambda: None).run()


OFF = Rule(source="sql", reason="double charging")


@pytest.mark.parametrize("flag", ["disable_work", "disable_queue_work", "disable_reconciler_items"])
def test_what_is_switched_off_is_read_and_counted_and_nothing_of_it_is_told(
    home: Engine, tools: Tools, raw: Any, switch: Callable[..., None], flag: str
) -> None:
    fill(home, range(1, 26), since=None)
    definition = items(PENDING, batch_size=10)
    switch(**{flag: OFF})

    report = run(definition, tools)

    assert report.outcome is Outcome.GATED
    assert report.reason == f"switched off by {flag} (sql): double charging; 25 rows stay in SQL"
    assert (report.scanned, report.codes) == (25, {"refused": 25})
    assert report.details["pending"] == 25
    assert report.details["switched_off"] == {
        "flag": flag,
        "source": "sql",
        "reason": "double charging",
        "rows": 25,
    }
    assert "time_to_whole" not in report.details
    assert raw.llen("queue:work") == 0


def test_a_switch_of_others_keeps_nothing_back(
    home: Engine, tools: Tools, switch: Callable[..., None]
) -> None:
    fill(home, range(1, 26))
    switch(disable_other=OFF, disable_queue_slow=OFF)

    assert run(items(PENDING), tools).codes == {"enqueued": 25}


def test_a_switch_that_comes_on_in_the_middle_of_a_pass_stops_it_between_two_pages(
    home: Engine, tools: Tools, raw: Any, switch: Callable[..., None]
) -> None:
    """U5: ≤ refresh + 1 s, and no page after it is told."""
    fill(home, range(1, 101))
    pages = iter(range(100))

    def standing() -> None:
        if (
            next(pages) == 6
        ):  # before the fourth page: each is asked for before it is read, and before it is told
            switch(disable_work=OFF)

    report = Pass(items(PENDING, batch_size=10), tools, 1, standing).run()

    assert (report.outcome, report.scanned, report.pages) == (Outcome.GATED, 100, 11)
    assert report.codes == {"enqueued": 30, "refused": 70}
    assert raw.llen("queue:work") == 30


def test_a_percentage_keeps_the_same_rows_back_each_time_and_lets_more_of_them_go_as_it_falls(
    home: Engine, tools: Tools, raw: Any, switch: Callable[..., None]
) -> None:
    fill(home, range(1, 2_001))
    definition = items(PENDING)
    switch(disable_work=Rule(percent=90.0, source="unleash"))

    first = run(definition, tools)
    told = {payload.split(b'"args":')[1] for payload in raw.lrange("queue:work", 0, -1)}
    again = run(definition, tools)

    assert first.outcome is Outcome.GATED
    assert 160 <= first.codes["enqueued"] <= 240
    assert again.codes == {"told": len(told), "refused": 2_000 - len(told)}

    switch(disable_work=Rule(percent=50.0, source="unleash"))
    assert 740 <= run(definition, tools).codes["enqueued"] <= 860
    switch()
    assert run(definition, tools).outcome is Outcome.COMPLETED
    assert raw.llen("queue:work") == 2_000


def test_rows_of_one_tenant_or_key_are_kept_back_alone(
    home: Engine, tools: Tools, switch: Callable[..., None]
) -> None:
    for rank in (1, 2):
        fill(home, range(rank * 100, rank * 100 + 10), rank=rank)
    definition = items(PENDING, tenant=Item.rank)
    of_two = Condition(Field.TENANT, Operator.IN, ("2",))
    switch(disable_work=Rule(source="sql", where=(of_two,)))

    assert run(definition, tools).codes == {"enqueued": 10, "refused": 10}

    switch(disable_work=Rule(source="sql", where=(Condition(Field.KEY, Operator.IN, ("205",)),)))
    assert run(definition, tools).codes == {"told": 10, "enqueued": 9, "refused": 1}


def test_the_tenant_of_a_row_may_be_an_argument_of_its_job(
    home: Engine, tools: Tools, switch: Callable[..., None]
) -> None:
    for rank in (1, 2):
        fill(home, range(rank * 100, rank * 100 + 10), rank=rank)

    class Charge(Job, unique_for=3600, unique_args=["item_id"], tenant="rank"):
        def perform(self, item_id: int, rank: int) -> None: ...

    class Charges(Reconciler, every=60):
        pending = derive(Charge, select(Item.id, Item.rank).where(Item.state == "pending"))

    switch(disable_charge=Rule(source="sql", where=(Condition(Field.TENANT, Operator.IN, ("2",)),)))

    assert run(Charges.definition, tools).codes == {"enqueued": 10, "refused": 10}


def test_a_rule_whose_time_is_over_keeps_nothing_back(
    home: Engine, tools: Tools, switch: Callable[..., None]
) -> None:
    fill(home, [1])
    switch(disable_work=Rule(source="sql", expires_at=time.time() - 1))

    assert run(items(PENDING), tools).outcome is Outcome.COMPLETED


def test_nothing_pending_under_a_switch_is_said_to_be_switched_off(
    home: Engine, tools: Tools, switch: Callable[..., None]
) -> None:
    switch(disable_work=OFF)

    report = run(items(PENDING), tools)

    assert (report.outcome, report.reason) == (
        Outcome.GATED,
        "switched off by disable_work (sql): double charging",
    )


def test_a_switch_hides_neither_rows_that_cannot_travel_nor_what_the_pass_has_noted(
    home: Engine, tools: Tools, raw: Any, switch: Callable[..., None]
) -> None:
    fill(home, range(1, 11))
    odd: set[int] = set()

    class Work(Job, queue="work", unique_for=3600):
        def perform(self, item_id: int) -> None: ...

    def made(row: Any) -> Any:
        return ("x" if row[0] in odd else row[0],)

    class Items(Reconciler, every=60):
        pending = derive(Work, select(Item.id), args=made)

    run(Items.definition, tools)
    raw.delete("queue:work")
    switch(disable_work=OFF)

    noted = run(Items.definition, tools)
    odd.add(7)
    failed = run(Items.definition, tools)

    off = "switched off by disable_work (sql): double charging; {} rows stay in SQL"
    assert (noted.outcome, noted.codes) == (Outcome.GATED, {"refused": 10})
    assert noted.reason == f"{off.format(10)}; jobs were deleted by hand, their locks are collected"
    assert (failed.outcome, failed.codes) == (Outcome.FAILED, {"refused": 9, "invalid": 1})
    assert failed.reason.startswith("1 rows have arguments that cannot travel, as (7,)")
    assert failed.reason.endswith(f"; {off.format(9)}")


@pytest.mark.parametrize(("on_unknown", "outcome"), [("stop", "gated"), ("run", "completed")])
def test_what_counts_while_no_switch_was_ever_read_is_up_to_the_reconciler(
    home: Engine, engines: Any, redis_url: str, on_unknown: str, outcome: str
) -> None:
    fill(home, [1])
    settings.use(Settings(redis=redis_url, switches=SwitchSettings(file="/nowhere/off.toml")))
    try:
        seam = Passes()
        tools = Tools.of(seam, engines, "test")

        report = run(items(PENDING, on_unknown=on_unknown), tools)

        assert report.outcome == outcome
        assert ("never read" in report.reason) is (outcome == "gated")
        seam.publish(Snapshot(int(time.time() * 1000), {}))
        assert run(items(PENDING, on_unknown=on_unknown), tools).outcome is Outcome.COMPLETED
    finally:
        client.current().store.close()
        settings.use(None)


def test_a_row_without_a_tenant_fits_no_tenant(seam: Passes, home: Engine, tools: Tools) -> None:
    fill(home, [1])
    seam.publish(
        Snapshot(
            int(time.time() * 1000),
            {"disable_work": (Rule(where=(Condition(Field.TENANT, Operator.NOT_IN, ("a",)),)),)},
        )
    )
    definition = items(PENDING, tenant=Item.note)

    assert run(definition, tools).codes == {"enqueued": 1}
    assert Stops(seam).whole(definition) is None
