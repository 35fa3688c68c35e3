from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core import Job, registry
from qik_core.embedded import Embedded
from qik_core.passes import Passes
from qik_core.store import Store
from qik_core.switches import Condition, Field, Operator, Rule
from qik_core.web import Access, Who
from reconciler import audit
from reconciler.engines import make
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.settling import By
from reconciler.switches.table import Health, Said, Table, Writer
from reconciler.web.switches import MOST
from tests.axe import complaints
from tests.chromium import Tab
from tests.qik_core.web.site import digest_of
from tests.qik_core.web.test_hostile import HOSTILE
from tests.reconciler import tables
from tests.reconciler.shop import Item, items
from tests.reconciler.test_cli_switch import alive
from tests.reconciler.web.conftest import Site
from tests.servers import Postgres
from tests.waiting import busy, eventually

OFF = {"switch": "Work", "reason": "double charging", "verb": "disable"}


@pytest.fixture(autouse=True)
def jobs(home: Engine) -> None:
    """Work, which Items tells, and Mail, which nothing tells."""
    items(select(Item.id).where(Item.state == "pending"))

    class Mail(Job, queue="mail"):
        def perform(self, to: str) -> None: ...


@pytest.fixture
def switcher(home: Engine, store: Store) -> Switcher:
    return Switcher(home, Passes(store))


def test_a_class_is_disabled_from_the_page_and_the_page_says_who_has_seen_it(
    site: Site, home: Engine, raw: Any
) -> None:
    browser = site()
    alive(raw, "host:1:beef", 9_999_999_999_999)
    alive(raw, "host:2:beef", 5)
    browser.get("/switches")

    done = browser.post("/switches", {**OFF, "expires": "2h"})
    raw.hset("qik:switched", "disable_work", 12)
    page, data = browser.get("/switches"), browser.get("/api/switches").json()

    assert done.status_code == 200
    assert "disable_work (class Work) is disabled" in done.text
    assert "Work is told by Items: what is dropped is told again" in done.text
    assert "1 of 2 worker processes go by the newest switches" in page.text
    (row,) = data["rows"]
    (rule,) = row["rules"]
    assert (row["switch"], row["of"], row["on"], row["dropped"]) == (
        "disable_work",
        "class Work",
        True,
        12,
    )
    assert (rule["source"], rule["who"], rule["reason"]) == ("sql", "dashboard", "double charging")
    assert rule["since"] < rule["expires_at"]
    (entry,) = audit.read(home, 0.0)
    assert (entry.who, entry.action, entry.subject, entry.reason) == (
        "dashboard",
        "disabled",
        "disable_work",
        "double charging",
    )


def test_it_is_enabled_again_from_the_page(site: Site, switcher: Switcher, home: Engine) -> None:
    switcher.disable(Order(flag="disable_work", by=By("ann", "double charging")))
    browser = site(authorize=lambda _: Who(Access.ADMIN, "<b>bob"))
    assert 'href="/switches?switch=disable_work#say"' in browser.get("/switches").text
    assert 'name="switch" value="disable_work"' in browser.get("/switches?switch=disable_work").text

    done = browser.post(
        "/switches", {"switch": "disable_work", "reason": "mended", "verb": "enable"}
    )

    assert "disable_work (class Work) is enabled" in done.text
    assert "before  sql, by ann: double charging" in done.text
    assert "Nothing is switched off" in browser.get("/switches").text
    entry = audit.read(home, 0.0)[-1]
    assert (entry.who, entry.action, entry.reason) == ("<b>bob (dashboard)", "enabled", "mended")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"switch": "Wrok"}, "did you mean &#39;Work&#39;?"),
        ({"switch": "queue:mial"}, "did you mean &#39;mail&#39;?"),
        ({"reason": "  "}, "say why, for the audit"),
        ({"reason": "x" * 1_001}, "reason has 1,001 characters: use up to 1,000"),
        ({"expires": "soon"}, "expires: &#39;soon&#39; is no span of time: write 90s"),
        ({"expires": "0s"}, "expires is 0: give a span of time, or leave it empty"),
        ({"verb": "stop"}, "use disable or enable"),
        *(
            ({"percent": each}, "use a number above 0, up to 100")
            for each in ("0", "101", "nan", "half")
        ),
        (
            {"verb": "enable", "percent": "50", "keys": "7"},
            "percent and keys: only disabling can be of a part",
        ),
    ],
)
def test_what_cannot_be_done_is_said_with_the_remedy_and_nothing_is_written(
    site: Site, home: Engine, raw: Any, form: dict[str, str], said: str
) -> None:
    browser = site()
    browser.get("/switches")
    before = digest_of(raw)

    answer = browser.post("/switches", {**OFF, **form})

    assert answer.status_code == 400
    assert said in answer.text
    assert Table(home).read().said == {}
    assert audit.read(home, 0.0) == []
    assert digest_of(raw) == before


def test_a_part_is_disabled_from_the_page(site: Site, home: Engine) -> None:
    browser = site()
    page = browser.get("/switches")
    assert all(f'name="{each}"' in page.text for each in ("percent", "tenants", "keys"))

    part = {"percent": " 12.5 ", "tenants": "acme\r\n\r\n  über & co \r\n", "keys": "7"}
    done = browser.post("/switches", {**OFF, **part})

    assert done.status_code == 200
    (rule,) = Table(home).read().said["disable_work", "sql"].rules
    assert (rule.percent, rule.where) == (
        12.5,
        (
            Condition(Field.TENANT, Operator.IN, ("acme", "über & co")),
            Condition(Field.KEY, Operator.IN, ("7",)),
        ),
    )
    assert "12.5 %" in browser.get("/switches").text


def test_jobs_that_run_are_asked_to_stop_only_where_somebody_says_so(site: Site) -> None:
    browser = site()
    browser.get("/switches")

    browser.post("/switches", OFF)
    browser.post("/switches", {**OFF, "switch": "Mail", "cancel": "yes"})
    rows = browser.get("/api/switches").json()["rows"]

    cancels = {row["switch"]: row["rules"][0]["cancel"] for row in rows}
    assert cancels == {"disable_work": False, "disable_mail": True}
    assert "runs are asked to stop" in browser.get("/switches").text


def test_jobs_that_nothing_tells_again_are_said_to_be_held(site: Site, raw: Any) -> None:
    browser = site()
    browser.get("/switches")

    done = browser.post("/switches", {**OFF, "switch": "queue:mail"})
    raw.hset("qik:held", "Mail", 10)
    raw.lpush("qik:held:Mail", "a", "b")
    (row,) = browser.get("/api/switches").json()["rows"]

    assert "nothing tells Mail again: its jobs are held" in done.text
    assert (row["switch"], row["of"], row["held"]) == ("disable_queue_mail", "queue mail", 2)
    assert '<a href="/jobs?place=held%3AMail">Mail</a>: 2' in browser.get("/switches").text


def test_it_says_how_each_provider_is_and_what_is_passed_over(site: Site, home: Engine) -> None:
    def note(writer: Writer) -> None:
        writer.note("unleash", Health("503 from Unleash", writer.before.now - 60.0))
        writer.note("file", Health("", writer.before.now - 12.0))
        rule = Rule(source="unleash", reason="a flag of others")
        writer.put(Said("disable_work", "unleash", (rule,), at=1.0))

    Table(home).change(note)
    browser = site()
    browser.get("/switches")
    browser.post("/switches", {**OFF, "verb": "enable"})

    page = browser.get("/switches").text

    assert "<bdi>unleash</bdi>: <bdi>for 1." in page
    assert "min: 503 from Unleash" in page
    assert "<bdi>file</bdi>: <bdi>answers, as of 1" in page
    assert "runs, by hand" in page
    assert "passed over: unleash" in page
    assert "published by nobody: start reconciler run" in page


def test_with_many_long_switches_the_page_stays_below_a_megabyte(site: Site, home: Engine) -> None:
    def fill(writer: Writer) -> None:
        rules = tuple(Rule(source="file", who=f"{n}", reason="<" * 4_000) for n in range(9))
        for number in range(MOST + 50):
            writer.put(Said(f"disable_{number:04}", "file", rules, at=1.0))

    Table(home).change(fill)
    browser = site()

    page, data = browser.get("/switches"), browser.get("/api/switches")

    assert max(len(page.content), len(data.content)) < 1_000_000
    assert "And 50 more" in page.text
    assert "and 6 more rules" in page.text


def test_without_the_application_names_are_those_that_redis_and_sql_have_seen(
    site: Site, switcher: Switcher, store: Store, raw: Any
) -> None:
    raw.hset("qik:held", "Gone", 10)
    raw.lpush("qik:held:Gone", "a")
    browser = site()
    browser.get("/switches")
    with registry.scope(empty=True):
        wrong = browser.post("/switches", {**OFF, "switch": "Work"})
        right = browser.post("/switches", {**OFF, "switch": "Gone"})

    assert wrong.status_code == 400
    assert "the application could not be asked" in wrong.text
    assert "disable_gone (class Gone) is disabled" in right.text


def test_without_sql_the_page_shows_what_redis_knows_and_takes_an_order(
    site: Site, switcher: Switcher
) -> None:
    switcher.disable(Order(flag="disable_work", by=By("ann", "double charging")))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        browser = site(
            {"default": f"postgresql+psycopg://u:p@127.0.0.1:{silent.getsockname()[1]}/x"}
        )
        began = time.monotonic()
        page = browser.get("/switches")
        took = time.monotonic() - began
        done = browser.post("/switches", {**OFF, "switch": "Mail"})

    assert took < 3.0 * busy()
    assert page.status_code == 200
    assert "SQL does not answer" in page.text
    assert "double charging" in page.text
    assert done.status_code == 200
    assert "not in SQL yet: it stands in Redis alone" in done.text


def test_without_redis_the_page_shows_what_sql_knows_and_takes_an_order(
    site: Site, switcher: Switcher, redis_server: Embedded
) -> None:
    switcher.disable(Order(flag="disable_work", by=By("ann", "double charging")))
    browser = site()
    browser.get("/switches")
    redis_server.kill()

    page, done = browser.get("/switches"), browser.post("/switches", {**OFF, "switch": "Mail"})
    redis_server.start()

    assert page.status_code == 200
    assert "Redis does not answer" in page.text
    assert "double charging" in page.text
    assert done.status_code == 200
    assert "not in Redis yet: processes learn of it" in done.text


def test_who_may_only_look_sees_no_form_and_changes_nothing(
    site: Site, switcher: Switcher, home: Engine
) -> None:
    switcher.disable(Order(flag="disable_work", by=By("ann", "double charging")))
    reader = site(read_only=True)

    page = reader.get("/switches").text

    assert "double charging" in page
    assert 'name="reason"' not in page
    assert "#say" not in page
    assert reader.post("/switches", OFF).status_code == 403


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_reasons_and_names_are_shown_as_texts(
    site: Site, switcher: Switcher, raw: Any, text: str
) -> None:
    switcher.disable(Order(flag="disable_work", by=By(text, text)))
    raw.hset("qik:held", text, 10)
    raw.zadd("qik:alive", {text: time.time()})
    browser = site()
    browser.get("/switches")

    named = browser.post("/switches", {**OFF, "switch": text})
    pages = [browser.get("/switches"), browser.get("/switches", params={"switch": text}), named]

    assert [each.status_code for each in pages] == [200, 200, 400]
    assert not [each for each in pages if "<script>" in each.text or "<img" in each.text]


def test_the_page_works_in_a_browser_on_a_phone(site: Site, switcher: Switcher, tab: Tab) -> None:
    for number, text in enumerate(HOSTILE):
        switcher.disable(Order(flag=f"disable_{'long_' * 30}{number}", by=By(text, text * 30)))
    url = site().url

    for width in (1280, 390):
        tab.size(width, 800)
        tab.open(f"{url}/switches?switch=Work")
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert complaints(tab) == []
        assert tab.run("document.title") != "owned"
    tab.run("document.querySelector('input[name=reason]').value = 'double charging'")
    tab.run("document.querySelector('button[value=disable]').click()")

    eventually(lambda: "disable_work (class Work) is disabled" in tab.text())
    assert tab.complaints == []


def test_an_open_page_says_that_sql_is_gone_and_comes_back_by_itself(
    site: Site, postgres: Postgres, postgres_url: str, tab: Tab
) -> None:
    home = make(postgres_url)
    tables.make(home)
    tab.open(f"{site({'default': home}).url}/switches")
    eventually(lambda: "published by nobody" in tab.text())

    postgres.kill()
    try:
        eventually(lambda: "SQL does not answer" in tab.text(), 3.0 * busy())
    finally:
        postgres.start()

    eventually(lambda: "published by nobody" in tab.text(), 15.0 * busy())
    home.dispose()
