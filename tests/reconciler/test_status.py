from __future__ import annotations

from sqlalchemy import Engine, select

from reconciler.lease import Leases
from reconciler.ledger import Ledger
from reconciler.report import Outcome, Report
from reconciler.status import standings
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
