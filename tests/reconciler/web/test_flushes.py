from __future__ import annotations

from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from qik_core.embedded import Embedded
from qik_core.flushing import Flushing
from qik_core.store import Store
from qik_core.web import Access, Who
from reconciler import audit
from reconciler.engines import Engines
from tests.axe import complaints
from tests.chromium import Tab
from tests.qik_core.api.places import foreign
from tests.qik_core.web.site import Browser
from tests.qik_core.web.test_hostile import HOSTILE
from tests.reconciler.flushes import RUBY, Shop, dumps
from tests.reconciler.web.conftest import Site
from tests.waiting import eventually

PAGE, API = "/incident/flush", "/api/incident/flush"


@pytest.fixture
def shop(home: Engine, engines: Engines, raw: Any, default_client: None) -> Shop:
    """Two jobs whose rows are pending, one whose row is gone, one that nothing brings back, one of Ruby."""
    shop = Shop(home, engines, raw)
    shop.rows(1, 2)
    shop.push(1, 2, 99)
    shop.mails("a")
    raw.lpush("queue:work", RUBY % (1, 1))
    return shop


def planned(browser: Browser, **form: str) -> Any:
    """Let a dry run be made on the page; returns what is shown then."""
    browser.get(PAGE)
    answer = browser.post(PAGE, {"verb": "plan", **(form or {"everything": "yes"})})
    assert answer.status_code == 200, answer.text
    return ended(browser)


def ended(browser: Browser) -> Any:
    """Wait until nothing goes on; returns what the page says then."""
    eventually(lambda: browser.get(API).json()["work"]["done"])
    return browser.get(API).json()


def test_a_dry_run_says_what_a_flush_would_do_and_changes_nothing(
    shop: Shop, site: Site, raw: redis.Redis
) -> None:
    browser, before = site(), dumps(raw)

    data = planned(browser)

    plan = data["plan"]
    assert (plan["jobs"], plan["rederivable"], plan["stale"], plan["lost"]) == (4, 2, 1, 1)
    assert {line["class"]: line["jobs"] for line in plan["lines"]} == {"Work": 3, "Mail": 1}
    assert plan["would_lose"] == {"Mail": 1}
    page = browser.get(PAGE).text
    assert "4 jobs: 2 re-derivable, 1 stale, 1 would be lost. Redis uses" in page
    assert "left alone: 0 other jobs of ours, 1 of others" in page
    assert "reconciler flush --all --export FILE --reason" in page
    assert dumps(raw) == before
    assert audit.read(shop.home, 0.0) == []


def test_the_document_of_the_api_says_that_several_classes_may_be_lost(site: Site) -> None:
    form = site().get("/api/openapi.json").json()["paths"][PAGE]["post"]["requestBody"]

    fields = form["content"]["application/json"]["schema"]["properties"]
    assert {"plan", "word", "reason", "lose"} <= set(fields)
    assert fields["lose"]["type"] == "array"


def test_a_flush_removes_what_was_planned_and_says_what_it_did(shop: Shop, site: Site) -> None:
    browser = site(authorize=lambda _: Who(Access.ADMIN, "ann"))
    number = planned(browser)["plan"]["number"]

    browser.post(
        PAGE,
        {"verb": "flush", "plan": number, "reason": "a storm", "word": "all", "lose": "Mail"},
    )
    data = ended(browser)

    assert data["work"]["error"] == ""
    assert data["work"]["result"]["classes"] == {
        "Mail": {"lost": 1},
        "Work": {"rederivable": 2, "stale": 1},
    }
    assert data["plan"] is None
    assert shop.jobs() == 1  # Ruby's
    assert "flushed 4 jobs in " in browser.get(PAGE).text
    begun, over = audit.read(shop.home, 0.0)
    assert (begun.who, begun.reason) == ("ann (dashboard)", "a storm")
    assert begun.details["state"] == "begun"
    assert (over.details["state"], over.details["lose"]) == ("ended", ["Mail"])


def test_what_would_be_lost_stays_until_its_class_is_named(shop: Shop, site: Site) -> None:
    browser = site()
    number = planned(browser)["plan"]["number"]
    form = {"verb": "flush", "plan": number, "reason": "a storm", "word": "all"}

    answer = browser.post(PAGE, form)

    assert answer.status_code == 409
    assert "nothing brings these jobs back: 1 of Mail. Choose each class" in answer.text
    assert "reconciler flush --all --export FILE" in answer.text
    assert shop.jobs() == 5
    assert audit.read(shop.home, 0.0) == []


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"word": "Work "}, 200, "the flush of class:Work took"),
        ({"word": "yes"}, 400, "write &#39;Work&#39; to go on: nothing was done"),
        ({"reason": " "}, 400, "there is no reason: say why"),
        ({"plan": "77"}, 409, "this plan is not the last one: make a dry run"),
        ({"verb": "wipe"}, 400, "use plan or flush"),
    ],
)
def test_a_flush_needs_the_word_a_reason_and_the_plan_that_was_shown(
    shop: Shop, site: Site, form: dict[str, str], status: int, said: str
) -> None:
    browser = site()
    number = planned(browser, **{"class": "Work"})["plan"]["number"]
    full = {"verb": "flush", "plan": number, "reason": "a storm", "word": "Work"}

    answer = browser.post(PAGE, {**full, **form})
    ended(browser)

    assert answer.status_code == status
    assert said in (answer.text if status != 200 else browser.get(PAGE).text)
    assert shop.jobs() == (2 if status == 200 else 5)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"tenant": ""}, "say which jobs: all, or some of class, queue, tenant and set"),
        ({"everything": "yes", "class": "Work"}, "say which jobs: all, or some of"),
        ({"set": "pending"}, "there is no set &#39;pending&#39;: use queued, schedule"),
    ],
)
def test_what_means_no_jobs_is_refused(
    shop: Shop, site: Site, form: dict[str, str], said: str
) -> None:
    browser = site()
    browser.get(PAGE)

    answer = browser.post(PAGE, {"verb": "plan", **form})

    assert answer.status_code == 400
    assert said in answer.text


def test_a_class_that_nobody_knows_is_said_with_the_one_that_was_meant(
    shop: Shop, site: Site
) -> None:
    data = planned(site(), **{"class": "Wrok"})

    assert "there is no job of class 'Wrok'; did you mean 'Work'?" in data["work"]["error"]
    assert data["plan"] is None


def test_where_no_job_is_meant_there_is_nothing_to_flush(shop: Shop, site: Site) -> None:
    browser = site()

    number = planned(browser, set="dead")["plan"]["number"]
    form = {"verb": "flush", "plan": number, "reason": "a storm", "word": "dead"}

    assert "no job is meant: there is nothing to flush" in browser.get(PAGE).text
    assert browser.post(PAGE, form).status_code == 409


def test_the_command_that_keeps_jobs_says_the_same_selection(shop: Shop, site: Site) -> None:
    data = planned(site(), **{"class": "Mail", "queue": "work", "set": "queued"})

    assert data["plan"]["command"] == (
        "reconciler flush --class Mail --queue work --set queued --export FILE --reason '…'"
    )


def test_a_page_does_not_wait_for_a_long_flush_and_says_how_far_it_is(
    shop: Shop, site: Site, store: Store
) -> None:
    browser, other = site(), Flushing(store, who="ann@host")
    number = planned(browser, **{"class": "Work"})["plan"]["number"]
    form = {"verb": "flush", "plan": number, "reason": "a storm", "word": "Work"}

    with other._turn(lambda _: None):
        page = browser.post(PAGE, form)
        again = browser.post(PAGE, {"verb": "plan", "everything": "yes"})
        eventually(lambda: "ann@host flushes now" in browser.get(PAGE).text)

    assert "the flush of class:Work goes on" in page.text
    assert 'data-hx-trigger="every 1s"' in page.text
    assert again.status_code == 409
    assert ended(browser)["work"]["result"]["removed"] == 3


def test_without_redis_a_dry_run_says_so(shop: Shop, site: Site, redis_server: Embedded) -> None:
    browser = site()
    browser.get(PAGE)
    redis_server.kill()

    browser.post(PAGE, {"verb": "plan", "everything": "yes"})
    said = ended(browser)["work"]["error"]
    redis_server.start()

    assert str(redis_server.url.rpartition(":")[2].partition("/")[0]) in said
    assert planned(browser)["work"]["error"] == ""


def test_with_jobs_of_many_long_classes_the_page_stays_below_a_megabyte(
    shop: Shop, site: Site, raw: Any
) -> None:
    (mail,) = [each for each in shop.raws("queue:work") if b'"Mail"' in each]
    for number in range(500):
        raw.lpush("queue:work", mail.replace(b'"Mail"', b'"%03d%s"' % (number, b"<" * 150)))
    browser = site()

    plan = planned(browser)["plan"]
    page, data = browser.get(PAGE), browser.get(API)

    assert (len(plan["lines"]), plan["more"], plan["jobs"]) == (300, 202, 504)
    assert "… and of " in page.text
    assert "left alone: 0 other jobs of ours, 1 of others" in page.text
    assert max(len(page.content), len(data.content)) < 1_000_000


def test_a_class_whose_name_is_too_long_is_left_to_the_command(
    shop: Shop, site: Site, raw: Any
) -> None:
    (mail,) = [each for each in shop.raws("queue:work") if b'"Mail"' in each]
    raw.lpush("queue:work", mail.replace(b'"Mail"', b'"%s"' % (b"M" * 300)))
    browser = site()

    plan = planned(browser)["plan"]

    assert (plan["would_lose"], plan["unnamed"]) == ({"Mail": 1}, 1)
    assert "1 jobs would be lost whose classes have names too long" in browser.get(PAGE).text


def test_who_may_only_look_sees_no_form_and_starts_nothing(shop: Shop, site: Site) -> None:
    reader = site(read_only=True)

    assert "<form" not in reader.get(PAGE).text.partition("<main")[2]
    assert reader.post(PAGE, {"verb": "plan", "everything": "yes"}).status_code == 403
    assert reader.get(API).json()["work"] is None


def test_the_page_works_in_a_browser_on_a_phone_whatever_stands_in_redis(
    shop: Shop, site: Site, raw: Any, tab: Tab
) -> None:
    (mail,) = [each for each in shop.raws("queue:work") if b'"Mail"' in each]
    for text in HOSTILE:
        name = foreign(jid="x", display_class=text * 3).split(b'"display_class":')[1]
        raw.lpush("queue:work", mail.replace(b'"Mail"', name.split(b",")[0].rstrip(b"}")))
    url = site().url
    tab.open(f"{url}{PAGE}")
    tab.run("document.querySelector('input[name=everything]').click()")
    tab.run("document.querySelector('button[value=plan]').click()")
    eventually(lambda: "What a flush of all would do" in tab.text())

    for width in (1280, 390):
        tab.size(width, 800)
        tab.open(f"{url}{PAGE}")
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert complaints(tab) == []
        assert tab.run("document.title") != "owned"
    tab.run("for (const each of document.querySelectorAll('input[name=lose]')) each.click()")
    tab.run("document.querySelector('input[name=reason]').value = 'a storm'")
    tab.run("document.querySelector('input[name=word]').value = 'all'")
    tab.run("document.querySelector('button[value=flush]').click()")

    eventually(lambda: "the flush of all took" in tab.text())
    assert shop.jobs() == 1
    assert tab.complaints == []
