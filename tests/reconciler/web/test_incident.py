from __future__ import annotations

import re
import socket
import time
from typing import Any

import pytest
from sqlalchemy import Engine, select

from reconciler import audit
from reconciler.audit import Action
from reconciler.web.incident import MOST
from tests.axe import complaints
from tests.chromium import Tab
from tests.qik_core.web.site import digest_of
from tests.qik_core.web.test_hostile import HOSTILE
from tests.reconciler.shop import Item, items
from tests.reconciler.test_timeline import a_pass
from tests.reconciler.web.conftest import Site
from tests.waiting import busy, eventually


def test_what_happened_is_shown_the_newest_first(site: Site, home: Engine) -> None:
    a_pass(home, 9_000, "failed", "long ago")
    a_pass(home, 100, "failed", "the database was away")
    audit.record(home, Action.DISABLED, "disable_work", "ann@host", "double charging", {})
    browser = site()

    events = browser.get("/api/incident").json()["events"]
    older = browser.get("/api/incident?since=1d").json()["events"]

    assert [(each["what"], each["subject"], each["who"]) for each in events] == [
        ("switch", "disable_work", "ann@host"),
        ("pass", "Items", "host:1"),
    ]
    assert [each["text"] for each in older[1:]] == [
        "pass failed: the database was away",
        "pass failed: long ago",
    ]
    assert "disabled: double charging" in browser.get("/incident").text


def test_it_says_what_it_leaves_out_and_how_to_see_that(site: Site, home: Engine) -> None:
    for number in range(MOST + 3):
        audit.record(home, Action.DEPLOYED, f"r{number}", "host:1", "a release", {})

    page = site().get("/incident")

    assert "3 older events are left out" in page.text
    assert f"reconciler timeline --limit {MOST + 3}" in page.text
    assert "The last 2.0 h" in page.text


@pytest.mark.parametrize("page", ["/switches", "/incident/flush", "/incident/rebuild"])
def test_the_document_of_the_api_describes_every_field_of_a_form(site: Site, page: str) -> None:
    items(select(Item.id))
    browser = site()
    shown = browser.get(page).text.partition("<main")[2]

    form = browser.get("/api/openapi.json").json()["paths"][page]["post"]["requestBody"]

    fields = form["content"]["application/json"]["schema"]["properties"]
    assert set(re.findall(r' name="(\w+)"', shown)) - {"csrf"} <= set(fields)


def test_no_span_of_time_is_refused_with_how_to_write_one(site: Site) -> None:
    answer = site().get("/incident?since=yesterday")

    assert answer.status_code == 400
    assert (
        "since: &#39;yesterday&#39; is no span of time: write 90s, 15min, 2h or 3d" in answer.text
    )


def test_looking_at_it_changes_nothing(site: Site, home: Engine, raw: Any) -> None:
    browser = site()
    before = digest_of(raw)

    assert "Nothing happened" in browser.get("/incident").text

    assert digest_of(raw) == before
    assert audit.read(home, 0.0) == []


def test_a_silent_database_is_said_within_3_seconds(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://u:p@127.0.0.1:{silent.getsockname()[1]}/x"
        browser = site({"default": url})
        began = time.monotonic()
        page = browser.get("/incident")

    assert time.monotonic() - began < 3.0 * busy()
    assert page.status_code == 503
    assert "SQL does not answer" in page.text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_reasons_are_shown_as_texts(site: Site, home: Engine, text: str) -> None:
    audit.record(home, Action.DISABLED, text, text, text, {})
    browser = site()

    pages = [browser.get("/incident"), browser.get("/incident", params={"since": text[:20]})]

    assert [each.status_code for each in pages] == [200, 400]
    assert not [each for each in pages if "<script>" in each.text or "<img" in each.text]


def test_the_page_works_in_a_browser_on_a_phone(site: Site, home: Engine, tab: Tab) -> None:
    for text in HOSTILE:
        audit.record(home, Action.DISABLED, text * 5, text * 5, text * 60, {})
    url = site().url

    for width in (1280, 390):
        tab.size(width, 800)
        tab.open(f"{url}/incident")
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert complaints(tab) == []
        assert tab.run("document.title") != "owned"
    audit.record(home, Action.DEPLOYED, "r8", "host:1", "a release", {})

    eventually(lambda: "deployed: a release" in tab.text())
    assert tab.complaints == []
