"""A real Chromium opens every page: nothing to complain of, and Redis may go and come back while it looks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qik_core.embedded import Embedded
from qik_core.web import Secrets, app
from tests.chromium import Tab, chromium
from tests.qik_core.api.places import foreign
from tests.qik_core.store.rig import Rig
from tests.qik_core.test_cli_act import listed
from tests.qik_core.web.conftest import Site
from tests.qik_core.web.site import served
from tests.qik_core.web.test_hostile import HOSTILE
from tests.qik_core.web.test_looks import PAGES, filled
from tests.waiting import busy, eventually


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with chromium(tmp_path / "profile") as tab:
        yield tab


def seeded(rig: Rig) -> None:
    """Put jobs everywhere, with texts that want to be scripts in every field, a process and what it runs."""
    filled(rig)
    for number, text in enumerate(HOSTILE):
        job = foreign(
            jid=f"h{number}", args=[text, "long" * 100], queue=text, error_class=text, error_message=text * 20,
            tags=[text], error_backtrace=[text] * 5, display_class=text, retry_count=number,
        )  # fmt: skip
        for place in ("retry", "dead", "schedule"):
            rig.raw.zadd(place, {job: float(number)})
        rig.raw.lpush("queue:default", job)
        rig.raw.sadd("queues", text)
    listed(rig.raw, "a-host-with-a-long-name.example.com:12345:0123456789ab")
    work = {"queue": "default", "run_at": time.time(), "payload": foreign(jid="runs").decode()}
    rig.raw.hset(
        "a-host-with-a-long-name.example.com:12345:0123456789ab:work", "t1", json.dumps(work)
    )


def test_every_page_opens_without_a_complaint_and_fits_a_phone(
    rig: Rig, site: Site, tab: Tab
) -> None:
    seeded(rig)
    browser = site()
    row = browser.get("/api/retries").json()["rows"][1]
    job = f"/jobs/{row['jid']}?place=retries&mark={row['mark']}"

    for width in (1280, 390):
        tab.size(width, 800)
        for page in (*PAGES, job):
            tab.open(browser.url + page)
            assert tab.run("typeof htmx") == "object", page
            assert tab.run("document.documentElement.scrollWidth") <= width, (page, width)
            assert tab.run("document.title") != "owned", page

    assert tab.complaints == []


def test_an_open_page_says_within_3_s_that_redis_is_gone_and_comes_back_by_itself(
    rig: Rig, redis_server: Embedded, site: Site, tab: Tab
) -> None:
    rig.edge(1)
    browser = site()
    tab.open(f"{browser.url}/retries")
    eventually(lambda: "Redis answers" in tab.text())

    redis_server.kill()
    eventually(lambda: "Redis does not answer" in tab.text(), 3.0)
    redis_server.start()

    eventually(lambda: "Redis answers" in tab.text(), 10.0)


def test_an_open_page_asks_for_the_totals_every_2_s_and_no_oftener(
    rig: Rig, site: Site, tab: Tab
) -> None:
    tab.open(f"{site().url}/retries")
    asked = (
        "performance.getEntriesByType('resource').filter((each) => each.name.endsWith('/pulse'))"
    )

    eventually(lambda: tab.run(f"{asked}.length") >= 3, 30.0)

    assert tab.run(f"{asked}[2].startTime - {asked}[0].startTime") > 2_500


def test_a_page_that_was_opened_without_redis_comes_by_itself(
    rig: Rig, redis_server: Embedded, site: Site, tab: Tab
) -> None:
    browser = site()
    redis_server.kill()
    tab.open(f"{browser.url}/queues")
    assert "Redis does not answer" in tab.run("document.getElementById('main').innerText")

    redis_server.start()

    eventually(lambda: "Nothing was ever pushed" in tab.text(), 10.0)


def test_an_open_page_says_that_the_dashboard_itself_is_gone(rig: Rig, tab: Tab) -> None:
    with served(app(rig.store, secrets=Secrets())) as url:
        tab.open(f"{url}/queues")
        eventually(lambda: "Redis answers" in tab.text())

    eventually(lambda: "The dashboard does not answer" in tab.text(), 5.0)


def test_an_open_page_says_that_its_session_ended_and_goes_on_after_the_next_login(
    rig: Rig, site: Site, tab: Tab
) -> None:
    browser = site(secrets=Secrets(password="correct horse"))  # noqa: S106  of nobody
    browser.login("correct horse")
    name, cookie = browser.cookie
    tab.send("Network.setCookie", name=name, value=cookie, url=browser.url)
    tab.open(f"{browser.url}/queues")
    eventually(lambda: "Redis answers" in tab.text())

    tab.send("Network.deleteCookies", name=name, url=browser.url)
    eventually(lambda: "you are logged out: log in again" in tab.text())
    tab.send("Network.setCookie", name=name, value=cookie, url=browser.url)

    eventually(lambda: "Redis answers" in tab.text())


def test_an_open_overview_shows_what_comes(rig: Rig, site: Site, tab: Tab) -> None:
    rig.edge(1)
    tab.open(f"{site().url}/")

    rig.edge(2, 3, 4)

    eventually(lambda: tab.run("document.querySelector('#live td.n').innerText") == "4", 8.0)
    assert tab.complaints == []


def test_an_open_doctor_finds_what_comes_and_forgets_what_is_mended(
    rig: Rig, site: Site, tab: Tab
) -> None:
    tab.open(f"{site().url}/doctor")
    assert "paused: low" not in tab.text()

    rig.raw.sadd("paused", "low")

    eventually(lambda: "paused: low" in tab.text(), 15.0 * busy())
    rig.raw.delete("paused")
    eventually(lambda: "paused: low" not in tab.text(), 15.0 * busy())
    assert tab.complaints == []


def test_a_page_is_worked_by_keyboard(rig: Rig, site: Site, tab: Tab) -> None:
    seeded(rig)
    tab.open(f"{site().url}/retries")

    tab.press("/", 191, "/")
    focused = tab.run("document.activeElement.id")
    tab.run("document.activeElement.value = 'class:Charge'")
    tab.press("Enter", 13, "\r")

    assert focused == "where"
    eventually(lambda: "where=class%3ACharge" in tab.run("location.href"))


def test_a_button_retries_a_job_in_a_browser(rig: Rig, site: Site, tab: Tab) -> None:
    filled(rig)
    before = rig.raw.llen("queue:default")
    tab.open(f"{site().url}/retries")

    tab.run(
        "document.querySelector('input[name=job]').click(); document.querySelector('button[value=retry]').click()"
    )

    eventually(lambda: "1 retried" in tab.text())
    assert rig.raw.llen("queue:default") == before + 1
    assert tab.complaints == []
