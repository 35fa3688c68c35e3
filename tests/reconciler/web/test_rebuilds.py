from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core.web import Access, Who
from reconciler import audit
from reconciler import registry as reconcilers
from tests.axe import complaints
from tests.chromium import Tab
from tests.qik_core.web.site import Browser, digest_of
from tests.qik_core.web.test_hostile import HOSTILE
from tests.reconciler.rebuilds import keys_on
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.web.conftest import Site
from tests.waiting import eventually

PAGE, API = "/incident/rebuild", "/api/incident/rebuild"
ALL = {"verb": "rebuild", "reason": "after the flush", "rate": "max"}

pytestmark = pytest.mark.usefixtures("default_client")


@pytest.fixture
def rows(home: Engine) -> Any:
    """Three rows that are pending and have no job."""
    fill(home, [1, 2, 3])
    return items(select(Item.id).where(Item.state == "pending"))


def ended(browser: Browser) -> Any:
    """Wait until nothing goes on; returns what the page says then."""
    eventually(lambda: browser.get(API).json()["work"]["done"])
    return browser.get(API).json()["work"]


def test_a_rebuild_is_asked_for_twice_and_tells_what_has_no_job(
    rows: Any, site: Site, home: Engine, raw: Any
) -> None:
    browser = site(authorize=lambda _: Who(Access.ADMIN, "ann"))
    browser.get(PAGE)
    before = digest_of(raw)

    asked = browser.post(PAGE, ALL)
    untouched = digest_of(raw) == before
    browser.post(PAGE, {**ALL, "sure": "yes"})
    work = ended(browser)

    assert "tell every pending row without a job of Items, as fast as it goes" in asked.text
    assert untouched
    assert (work["error"], work["result"]["state"]) == ("", "completed")
    assert work["result"]["codes"]["enqueued"] == 3
    assert sorted(keys_on(raw)) == [1, 2, 3]
    assert "rebuild completed in" in browser.get(PAGE).text
    began, over = audit.read(home, 0.0)
    assert (began.who, began.reason, began.details["state"]) == (
        "ann (dashboard)",
        "after the flush",
        "began",
    )
    assert over.details["state"] == "completed"


def test_it_says_how_far_it_is_and_can_be_stopped(
    rows: Any, site: Site, home: Engine, raw: Any
) -> None:
    fill(home, range(10, 400))
    browser = site()
    browser.get(PAGE)
    page = browser.post(PAGE, {**ALL, "rate": "10/s", "sure": "yes", "reconciler": "Items"})
    eventually(lambda: " of 393 (" in browser.get(PAGE).text)
    again = browser.post(PAGE, {**ALL, "sure": "yes"})

    browser.post(PAGE, {"verb": "stop"})
    work = ended(browser)

    assert "the rebuild of Items goes on" in page.text
    assert again.status_code == 409
    assert work["result"]["state"] == "stopped"
    assert raw.llen("queue:work") < 393
    assert browser.post(PAGE, {"verb": "stop"}).status_code == 409


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"rate": "quick"}, 400, "rate: &#39;quick&#39; is no rate: write 500/s"),
        ({"reason": ""}, 400, "there is no reason: say why"),
        ({"reconciler": "Itmes"}, 404, "Itmes"),
        ({"verb": "build"}, 400, "use rebuild or stop"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    rows: Any, site: Site, home: Engine, form: dict[str, str], status: int, said: str
) -> None:
    browser = site()
    browser.get(PAGE)

    answer = browser.post(PAGE, {**ALL, "sure": "yes", **form})

    assert answer.status_code == status
    assert said in answer.text
    assert audit.read(home, 0.0) == []


def test_without_the_application_it_says_how_to_start_the_dashboard(site: Site) -> None:
    browser = site()
    assert reconcilers.everything() == []

    page = browser.get(PAGE)
    answer = browser.post(PAGE, ALL)

    assert "reconciler web APP" in page.text
    assert '<button name="verb" value="rebuild">' not in page.text
    assert answer.status_code in (403, 409)


def test_who_may_only_look_sees_no_form_and_starts_nothing(rows: Any, site: Site) -> None:
    reader = site(read_only=True)

    assert "<form" not in reader.get(PAGE).text.partition("<main")[2]
    assert reader.post(PAGE, {**ALL, "sure": "yes"}).status_code == 403


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_parameters_are_refused_or_shown_as_texts(rows: Any, site: Site, text: str) -> None:
    browser = site()
    browser.get(PAGE)

    pages = [
        browser.get(PAGE, params={"reconciler": text}),
        browser.post(PAGE, {**ALL, "reason": text}),
        browser.post(PAGE, {**ALL, "reconciler": text}),
        browser.post(PAGE, {**ALL, "rate": text[:20]}),
    ]

    assert [each.status_code for each in pages] == [200, 200, 404, 400]
    assert not [each for each in pages if "<script>" in each.text or "<img" in each.text]


def test_the_page_works_in_a_browser_on_a_phone(rows: Any, site: Site, tab: Tab) -> None:
    url = site().url
    for width in (1280, 390):
        tab.size(width, 800)
        tab.open(f"{url}{PAGE}")
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert complaints(tab) == []
    tab.run("document.querySelector('input[name=reason]').value = 'after the flush'")
    tab.run("document.querySelector('button[value=rebuild]').click()")
    eventually(lambda: "Are you sure?" in tab.text())
    tab.run("document.querySelector('button[name=sure]').click()")

    eventually(lambda: "rebuild completed in" in tab.text())
    assert tab.complaints == []
