"""A real Chromium opens the pages of reconcilers and of the quarantine: nothing to complain of; SQL may go and come back."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, insert, select, update

from qik_core.passes import Passes
from reconciler.engines import make
from reconciler.ledger import Ledger
from reconciler.passes import Pass, Tools
from reconciler.quarantine import RowStates
from reconciler.report import Outcome, Report
from reconciler.sql import writing
from reconciler.tables import lease, passes, row_state
from tests.axe import complaints
from tests.chromium import Tab
from tests.qik_core.web.test_hostile import HOSTILE
from tests.reconciler import tables
from tests.reconciler.ends import push
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.web.conftest import Site
from tests.reconciler.web.test_overview import lose
from tests.servers import Postgres
from tests.waiting import busy, eventually

LONG = "a_name_without_any_place_to_break_it" * 5


def seeded(home: Engine, raw: Any, tools: Tools, seam: Passes) -> None:
    """Fill every field of SQL that pages show with texts that want to be scripts."""
    fill(home, [1, 2, 3])
    definition = items(select(Item.id))
    Pass(definition, tools, 1, lambda: None).run()
    texts = [*HOSTILE, LONG]
    for text in texts:
        number = Ledger(home, text[:200]).begin(definition, 1)
        report = Report("x", Outcome.FAILED, text * 9, 1.0, 5, 1, 9, {text: 1}, pass_id=number)
        Ledger(home, text).end(report, "x")
        with writing(home) as connection:
            hostile = {"reconciler": text[:100], "shard": text[:100], "job_class": text[:200]}
            connection.execute(update(passes).where(passes.c.id == number).values(**hostile))
            held = {
                "reconciler": text[:100],
                "holder": text[:200],
                "expires_at": 9e9,
                "term": 10**12,
            }
            connection.execute(insert(lease).values(shard=text[:100], **held))
    for number in range(len(texts)):
        push(raw, "Work", f"{number:022}", [number])
    RowStates(home, seam).drain()
    for number, text in enumerate(texts):
        with writing(home) as connection:
            mine = row_state.c.key_digest == f"{number:022}"
            fields = {"shard": text[:100], "key": text, "error": text * 3, "last_jid": text[:64]}
            job = {} if number else {"job_class": text}
            connection.execute(update(row_state).where(mine).values(**fields, **job))


def test_every_page_opens_without_a_complaint_and_fits_a_phone(
    site: Site, home: Engine, raw: Any, tools: Tools, seam: Passes, tab: Tab
) -> None:
    seeded(home, raw, tools, seam)
    browser = site()
    pages = [
        *("/reconcilers", "/reconcilers/Items", "/reconcilers/Items/plan", "/quarantine"),
        *("/quarantine?class=Work", f"/quarantine?class={quote(HOSTILE[0])}"),
        *(f"/reconcilers/{quote(text[:100], safe='')}" for text in (HOSTILE[3], LONG)),
    ]

    for width in (1280, 390):
        tab.size(width, 800)
        for page in pages:
            assert browser.get(page).status_code == 200, page
            tab.open(browser.url + page)
            assert tab.run("document.documentElement.scrollWidth") <= width, (page, width)
            assert tab.run("document.title") != "owned", page
            assert complaints(tab) == [], page

    assert tab.complaints == []


def test_buttons_run_a_pass_and_release_a_row_in_a_browser(
    site: Site, home: Engine, raw: Any, tools: Tools, seam: Passes, tab: Tab
) -> None:
    seeded(home, raw, tools, seam)
    url = site().url

    tab.open(f"{url}/reconcilers/Items")
    tab.run("document.querySelector('button[value=run]').click()")
    eventually(lambda: "Pass of Items: completed" in tab.text())
    tab.open(f"{url}/quarantine?class=Work")
    tab.run("document.querySelector('button[value=release]').click()")
    eventually(lambda: "Are you sure?" in tab.text())
    tab.run("document.querySelector('input[name=reason]').value = 'mended'")
    tab.run("document.querySelector('button[name=sure]').click()")

    eventually(lambda: "1 row is released" in tab.text())
    assert tab.complaints == []


def test_an_open_page_says_within_3_s_that_sql_is_gone_and_comes_back_by_itself(
    site: Site, postgres: Postgres, postgres_url: str, tab: Tab
) -> None:
    home = make(postgres_url)
    tables.make(home)
    url = site({"default": home}).url
    tab.open(f"{url}/reconcilers")
    eventually(lambda: "No reconciler has ever run here" in tab.text())

    postgres.kill()
    try:
        eventually(lambda: "SQL does not answer" in tab.text(), 3.0 * busy())
    finally:
        postgres.start()

    eventually(lambda: "No reconciler has ever run here" in tab.text(), 15.0 * busy())
    home.dispose()


def test_an_open_overview_counts_what_comes_and_says_within_3_s_that_sql_is_gone(
    site: Site, postgres: Postgres, postgres_url: str, tab: Tab
) -> None:
    home = make(postgres_url)
    tables.make(home)
    tab.size(390, 800)
    tab.open(f"{site({'default': home}).url}/")
    eventually(lambda: "none has ever run" in tab.text())
    lose(home, 3)
    eventually(lambda: tab.run("[...document.querySelectorAll('dd.warn')].pop()?.innerText") == "3")
    assert complaints(tab) == []

    postgres.kill()
    try:
        eventually(lambda: "SQL does not answer" in tab.text(), 3.0 * busy())
        assert tab.run("document.querySelectorAll('.cards div').length") == 11
        assert tab.run("document.documentElement.scrollWidth") <= 390
    finally:
        postgres.start()

    eventually(lambda: "none has ever run" in tab.text(), 15.0 * busy())
    assert tab.complaints == []
    home.dispose()
