from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select, update

from qik_core.embedded import Embedded
from reconciler.lease import Leases
from reconciler.ledger import Ledger
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from reconciler.tables import passes
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.web.conftest import Site

HOSTILE = '<script>document.title="owned"</script>'


def led(home: Engine, name: str = "Items") -> None:
    """Let somebody hold the lease."""
    leases = Leases(home, [name], 60.0, holder="host:1")
    leases.register()
    leases.renew()


def passed(tools: Tools) -> None:
    """Run a pass over three rows that nobody has told."""
    fill(tools.engines.home(), [1, 2, 3])
    Pass(items(select(Item.id), min_age=0), tools, 1, lambda: None).run()


def ended(home: Engine, **values: Any) -> None:
    """Write down a pass that has ended."""
    number = Ledger(home, HOSTILE).begin(items(select(Item.id)), 1)
    report = Report("Items", Outcome.FAILED, HOSTILE * 20, 1.0, 5, 1, 1000, {}, pass_id=number)
    Ledger(home, HOSTILE).end(report, "x")
    if values:
        with home.begin() as connection:
            connection.execute(update(passes).values(**values))


def test_each_reconciler_is_shown_with_who_runs_it_and_its_last_pass(
    site: Site, home: Engine, tools: Tools
) -> None:
    passed(tools)
    led(home)
    browser = site()

    page, data = browser.get("/reconcilers"), browser.get("/api/reconcilers").json()

    (row,) = data["rows"]
    assert (row["unit"], row["job"], row["holder"], row["term"]) == ("Items", "Work", "host:1", 1)
    assert row["last"]["outcome"] == "completed"
    assert (row["last"]["scanned"], row["last"]["pending"]) == (3, 3)
    assert row["last"]["codes"] == "enqueued:3"
    assert row["next"].startswith("in ")
    assert data["whole"].startswith("if Redis lost its data now, every row would be told again")
    assert all(said in page.text for said in ("Items", "host:1", "enqueued:3", data["whole"][1:]))
    assert '<a href="/reconcilers">Reconcilers</a>' in browser.get("/").text


def test_without_any_pass_the_page_says_what_to_start(site: Site) -> None:
    assert "start <code>reconciler run</code>" in site().get("/reconcilers").text


def test_rows_that_were_lost_are_said_by_cause(site: Site, home: Engine) -> None:
    ended(home, details='{"drift": {"wiped": 7}, "waiting": 2, "quarantined": 3}')

    (row,) = site().get("/api/reconcilers").json()["rows"]

    assert row["last"]["drift"] == {"wiped": 7}
    assert row["last"]["held"] == 5
    assert row["last"]["remarks"][1] == "the last pass told rows whose job was lost: wiped:7"


def test_texts_of_sql_are_escaped_and_bounded(site: Site, home: Engine) -> None:
    ended(home, job_class=HOSTILE)
    browser = site()

    page = browser.get("/reconcilers").text
    (row,) = browser.get("/api/reconcilers").json()["rows"]

    assert "<script>document" not in page
    assert "&lt;script&gt;document" in page
    assert len(row["last"]["remarks"][0]) <= 500


def test_without_redis_the_page_says_that_no_row_is_told(
    site: Site, home: Engine, redis_server: Embedded
) -> None:
    ended(home)
    browser = site()
    redis_server.kill()

    data = browser.get("/api/reconcilers").json()
    redis_server.start()

    assert data["whole"].endswith("Redis does not answer, so no row is told")
