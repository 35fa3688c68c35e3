from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from reconciler.lease import Leases
from reconciler.ledger import Ledger
from reconciler.report import Outcome, Report
from reconciler.status import Last, Standing, doubt, standings, time_to_whole, turns
from tests.reconciler.shop import Item, items


def test_nothing_ran_yet(home: Engine) -> None:
    assert standings(home) == []


def test_a_reconciler_shows_its_holder_and_its_last_pass(home: Engine) -> None:
    leases = Leases(home, ["Items"], 30.0, holder="me")
    leases.register()
    leases.renew()
    ledger = Ledger(home, "me")
    number = ledger.begin(items(select(Item.id)), 1)
    ledger.end(
        Report("Items", Outcome.FAILED, "why", 1.0, 5, 1, 1000, {"told": 5}, pass_id=number), "x"
    )
    ledger.begin(items(select(Item.id)), 1)

    (found,) = standings(home)

    assert (found.reconciler, found.job, found.holder, found.term) == ("Items", "Work", "me", 1)
    assert found.expires_in is not None
    assert 25 < found.expires_in <= 30
    assert found.running_for is not None
    assert found.last is not None
    assert (found.last.outcome, found.last.reason, found.last.codes) == (
        "failed",
        "why",
        {"told": 5},
    )
    assert found.as_json()["last"]["scanned"] == 5


def test_the_last_passes_are_read_newest_first_with_those_that_have_not_ended(home: Engine) -> None:
    ledger, definition = Ledger(home, "me"), items(select(Item.id))
    for outcome in (Outcome.COMPLETED, Outcome.FAILED):
        number = ledger.begin(definition, 4)
        report = Report("Items", outcome, "", 1.0, 5, 1, 1000, {}, pass_id=number)
        ledger.end(report, "x")
    ledger.begin(definition, 0)
    ledger.begin(definition.in_shard("other"), 1)

    found = turns(home, "Items", "", 2)

    assert [each.end and each.end.outcome for each in found] == [None, "failed"]
    assert [(each.term, each.holder, each.scanned) for each in found] == [
        (0, "me", 0),
        (4, "me", 5),
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_question_reads_every_row_of_the_ledger(home: Engine) -> None:
    ledger, definition = Ledger(home, "me"), items(select(Item.id))
    number = ledger.begin(definition, 1)
    report = Report("Items", Outcome.COMPLETED, "", 1.0, 5, 1, 1000, {}, pass_id=number)
    ledger.end(report, "x")
    ledger.begin(definition, 1)
    asked: list[tuple[str, Any]] = []
    event.listen(home, "before_cursor_execute", lambda *said: asked.append((said[2], said[3])))

    (found,) = standings(home)

    plans = []
    with home.connect() as connection:
        for text, values in [each for each in asked if "FROM reconciler_pass" in each[0]]:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
            plans += [str(row.detail) for row in plan]
    assert found.last is not None
    assert found.last.outcome == "completed"
    assert plans
    assert [each for each in plans if each.startswith("SCAN") and "COVERING" not in each] == []


def test_a_pass_of_a_process_that_died_is_not_shown_as_running(home: Engine) -> None:
    Ledger(home, "dead").begin(items(select(Item.id)), 1)

    (found,) = standings(home)

    assert (found.running_for, found.last, found.holder) == (None, None, None)


def test_an_expired_lease_is_nobodys(home: Engine) -> None:
    leases = Leases(home, ["Items"], -1.0, holder="me")
    leases.register()
    leases.renew()

    (found,) = standings(home)

    assert (found.holder, found.expires_in) == (None, None)


def test_how_soon_all_rows_are_told_again_is_known_only_where_everyone_is_run_and_saw_all() -> None:
    last = Last("completed", "", 1.0, 1.0, 5, {}, {"time_to_whole": 2.0})
    run = Standing("A", "", "Work", "me", 1, 20.0, None, last)
    nobodys = replace(run, reconciler="B", holder=None, expires_in=None)
    short = replace(run, reconciler="C", last=replace(last, outcome="budget", details={}))
    fresh = replace(run, reconciler="D", last=None)
    shadow = replace(run, reconciler="E", last=replace(last, codes={"shadow": 3}))

    assert (time_to_whole([run]), doubt([run])) == (2.0, "")
    assert time_to_whole([]) is None
    for other in (nobodys, short, fresh, shadow):
        assert time_to_whole([run, other]) is None
    assert doubt([run, nobodys, short, fresh, shadow]) == (
        "B is run by nobody; C did not see all rows in its last pass (budget); "
        "D has not ended a pass yet; E is in shadow and tells nothing"
    )
