from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, create_engine, event, select, update

from reconciler import audit
from reconciler.audit import Action
from reconciler.engines import make
from reconciler.ledger import Ledger
from reconciler.passes import Tools
from reconciler.report import Outcome, Report
from reconciler.tables import audit as acts
from reconciler.tables import passes
from reconciler.web.asking import KEPT as SHARED
from reconciler.web.overview import KEPT, MOST
from tests.reconciler import tables
from tests.reconciler.shop import Item, items
from tests.reconciler.web.conftest import Site
from tests.reconciler.web.test_reconcilers import led, passed
from tests.servers import Postgres
from tests.waiting import busy, eventually

TAB = "/reconcilers"


def cards(answer: Any) -> dict[str, tuple[str, str, str]]:
    """What the overview says beside the numbers of Redis: name → value, where it leads, tone."""
    assert answer.status_code == 200, answer.text
    found = answer.json()["cards"]
    return {each["name"]: (each["value"], each["path"], each["tone"]) for each in found}


def ended(home: Engine, measured: Mapping[str, dict[str, Any]]) -> None:
    """Write down a pass of each reconciler that has ended, and what it measured."""
    definition, ledger = items(select(Item.id)), Ledger(home, "host:1")
    for name, details in measured.items():
        number = ledger.begin(definition, 1)
        how: dict[str, Any] = {"pass_id": number, "details": details}
        ledger.end(Report(name, Outcome.COMPLETED, "", 1.0, 5, 1, 1000, {}, **how), "x")
        with home.begin() as connection:
            connection.execute(update(passes).where(passes.c.id == number).values(reconciler=name))


def lose(home: Engine, times: int) -> None:
    """Write down losses."""
    for _ in range(times):
        audit.record(home, Action.REDIS_LOST, "emptied", "host:1", "Redis is empty", {})


def test_the_overview_says_what_is_pending_adrift_untold_and_how_soon_all_is_whole(
    site: Site, home: Engine, tools: Tools
) -> None:
    passed(tools)
    led(home)
    lose(home, 2)
    browser = site()

    said, page = cards(browser.get("/api/")), browser.get("/").text

    assert said["Rows pending"] == ("3", TAB, "")
    assert said["Drift"] == ("none", TAB, "")
    assert said["Oldest untold"] == ("none", TAB, "")
    assert said["Time to whole"][0].endswith(" s")
    assert said["Losses in 7 days"] == ("2", "/incident?since=7d", "warn")
    assert '<dt><a href="/reconcilers">Rows pending</a></dt><dd>3</dd>' in page
    assert browser.get("/incident?since=7d").status_code == 200


def test_it_adds_up_all_reconcilers_and_says_what_is_not_known(site: Site, home: Engine) -> None:
    bills: dict[str, Any] = {
        "pending": 1_200,
        "drift": {"flush": 7, "crash": 1},
        "oldest_untold_age": 60.0,
    }
    rows: dict[str, Any] = {"pending": 34, "drift": {"flush": 2}, "oldest_untold_age": 7_200.0}
    ended(home, {"Bills": bills, "Items": rows, "Mails": {}})

    said = cards(site().get("/api/"))

    assert said["Rows pending"] == ("1,234 and more", TAB, "")
    assert said["Drift"] == ("10 (crash:1 flush:9)", TAB, "warn")
    assert said["Oldest untold"] == ("2.0 h", TAB, "")
    assert said["Time to whole"] == ("not known", TAB, "warn")
    assert said["Losses in 7 days"] == ("none", "/incident?since=7d", "")


def test_where_no_reconciler_has_run_it_says_that_alone(site: Site) -> None:
    said = cards(site().get("/api/"))

    assert said["Reconcilers"] == ("none has ever run", TAB, "")
    assert len(said) == 2


def test_old_losses_are_not_counted_and_many_not_to_their_end(site: Site, home: Engine) -> None:
    lose(home, MOST + 1)
    many = cards(site().get("/api/"))
    with home.begin() as connection:
        connection.execute(update(acts).values(at=acts.c.at - 8 * 86_400))
    old = cards(site().get("/api/"))

    assert many["Losses in 7 days"][0] == "more than 99"
    assert old["Losses in 7 days"][0] == "none"


def test_a_silent_database_is_said_at_once_and_the_rest_of_the_overview_stands(
    site: Site, silent: str
) -> None:
    browser = site({"default": silent})
    browser.get("/")  # the first one also opens the database
    before = time.monotonic()

    answer = browser.get("/api/")

    assert time.monotonic() - before < 1.0 * busy()
    value, path, tone = cards(answer)["Reconcilers"]
    assert (path, tone) == (TAB, "bad")
    assert value.startswith("SQL does not answer: no answer from SQL within")
    assert answer.json()["processed"] == 0


def test_a_database_without_our_tables_or_none_at_all_is_said_with_the_remedy(site: Site) -> None:
    bare, none = site({"default": create_engine("sqlite://")}), site({"other": "sqlite://"})

    assert "reconciler upgrade" in cards(bare.get("/api/"))["Reconcilers"][0]
    assert "set DATABASE_URL" in cards(none.get("/api/"))["Reconcilers"][0]


def test_a_database_that_is_gone_is_said_until_it_is_back(
    site: Site, postgres: Postgres, postgres_url: str
) -> None:
    home = make(postgres_url)
    tables.make(home)
    browser = site({"default": home})
    assert cards(browser.get("/api/"))["Reconcilers"][0] == "none has ever run"

    postgres.kill()
    try:
        eventually(lambda: cards(browser.get("/api/"))["Reconcilers"][2] == "bad", 3.0 * busy())
    finally:
        postgres.start()

    eventually(lambda: cards(browser.get("/api/"))["Reconcilers"][0] == "none has ever run")
    home.dispose()


def test_many_open_pages_ask_the_database_once_in_a_moment(site: Site, home: Engine) -> None:
    browser, asked = site(), []
    browser.get("/api/")
    event.listen(home, "before_cursor_execute", lambda *each: asked.append(each[2]))
    began = time.monotonic()

    for _ in range(30):
        cards(browser.get("/api/"))

    took = time.monotonic() - began
    assert len([each for each in asked if "reconciler_pass" in each]) <= took / KEPT + 1
    assert len([each for each in asked if "julianday" in each]) <= 3 * (took / SHARED + 1)
