"""What the pages show, each also as JSON, on a real server with jobs in every place."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from qik_core.web.looks import MOST_BUSY, Rates
from tests.qik_core.api.places import foreign, put
from tests.qik_core.store.rig import Rig
from tests.qik_core.web.conftest import Site

PAGES = (
    "/", "/pulse", "/queues", "/queues/default", "/busy", "/scheduled", "/retries", "/dead", "/jobs",
    "/jobs?place=later:default", "/jobs?where=class:Charge", "/aside", "/doctor", "/settings", "/metrics/jobs",
    "/metrics/jobs/Charge?minutes=480",
)  # fmt: skip


def filled(rig: Rig) -> None:
    """Put jobs into every place, hostile ones and bytes that are no job among them."""
    for number, place in enumerate(
        ("retry", "dead", "schedule", "qik:later:default", "queue:default")
    ):
        put(rig, place, *range(10 * number + 1, 10 * number + 4))
    rig.raw.lpush("queue:default", b"no job at all", foreign(jid="ruby1"))


def rows(answer: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer.json()["rows"]
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_page_answers_as_html_and_as_json(rig: Rig, site: Site, page: str) -> None:
    filled(rig)
    browser = site()

    html, data = browser.get(page), browser.get(f"/api{page}")

    assert (html.status_code, data.status_code) == (200, 200), html.text + data.text
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert isinstance(json.loads(data.text), dict)


def test_the_overview_counts_what_there_is(rig: Rig, site: Site) -> None:
    filled(rig)

    seen = site().get("/api/").json()

    assert (seen["retries"], seen["dead"], seen["scheduled"], seen["enqueued"]) == (3, 3, 3, 5)
    assert seen["queues"][0]["name"] == "default"


def test_pages_of_a_place_lead_on_until_each_job_was_shown_once(rig: Rig, site: Site) -> None:
    put(rig, "retry", *range(1, 8))
    browser, met, after = site(), [], ""

    while True:
        page = browser.get("/api/retries", params={"count": 3, "after": after}).json()
        met += [row["jid"] for row in page["rows"]]
        after = page["after"]
        if not after:
            break

    assert len(met) == len(set(met)) == 7


def test_a_filter_leaves_the_jobs_that_it_means(rig: Rig, site: Site) -> None:
    put(rig, "dead", 1, 2, 3)

    found = rows(site().get("/api/dead", params={"where": "args:2"}))

    assert [row["args"] for row in found] == ["[2]"]


def test_jobs_of_all_places_are_shown_together_and_it_is_said_when_that_is_not_all(
    rig: Rig, site: Site
) -> None:
    filled(rig)
    browser = site()

    whole, part = browser.get("/api/jobs").json(), browser.get("/api/jobs?count=2").json()

    assert {row["state"] for row in whole["rows"]} == {
        "scheduled",
        "later",
        "retry",
        "queued",
        "dead",
    }
    assert (whole["cut"], part["cut"]) == (False, True)
    assert "choose a place" in browser.get("/jobs?count=2").text


def test_the_rate_is_that_of_the_last_minute_and_begins_anew_after_a_reset() -> None:
    moments = iter([0.0, 0.5, 2.0, 61.0, 62.5, 64.0])
    rates = Rates(lambda: next(moments))

    assert [rates.add(total) for total in (100, 150, 200, 700, 0, 30)] == [
        0,
        0,
        50,
        500 / 59,
        0,
        20,
    ]


def test_a_job_is_shown_by_its_mark_and_by_its_id_wherever_it_is(rig: Rig, site: Site) -> None:
    filled(rig)
    browser = site()

    for place in ("retries", "dead", "scheduled", "later:default", "queue:default"):
        row = rows(browser.get("/api/jobs", params={"place": place}))[-1]
        marked = browser.get(
            f"/api/jobs/{row['jid']}", params={"place": place, "mark": row["mark"]}
        )
        alone = browser.get(f"/api/jobs/{row['jid']}")
        assert marked.json()["job"]["row"] == row, place
        assert alone.json()["job"]["row"] == row, place


def test_bytes_that_are_no_job_are_shown_by_their_mark_alone(rig: Rig, site: Site) -> None:
    filled(rig)
    browser = site()
    row = next(row for row in rows(browser.get("/api/queues/default")) if row["malformed"])

    page = browser.get("/jobs/-", params={"place": "queue:default", "mark": row["mark"]})

    assert page.status_code == 200
    assert "no job at all" in page.text


def test_of_very_many_processes_a_part_is_shown_which_is_said_and_no_megabyte(
    rig: Rig, site: Site
) -> None:
    queues = [f"{number:060}" for number in range(20)]
    for number in range(MOST_BUSY + 1):
        identity, now = f"host:{number}:0123456789ab", time.time()
        info = json.dumps({"identity": identity, "hostname": "host", "queues": queues})
        payload = json.dumps({"class": "Charge", "jid": f"j{number}", "args": ['"' * 300]})
        work = json.dumps({"queue": queues[0], "payload": payload, "run_at": now})
        rig.raw.sadd("processes", identity)
        rig.raw.hset(identity, mapping={"info": info, "beat": now, "busy": 1})
        rig.raw.hset(f"{identity}:work", "t1", work)

    page, data = site().get("/busy"), site().get("/api/busy").json()

    assert page.text.count(f"{MOST_BUSY} of {MOST_BUSY + 1} are shown") == 2
    assert len(page.content) < 1_000_000
    assert (len(data["processes"]), len(data["works"])) == (MOST_BUSY, MOST_BUSY)
    assert data["of"] == {"processes": 201, "works": 201, "most": 200}


def test_a_job_that_is_not_there_is_a_page_that_says_so(site: Site) -> None:
    page = site().get("/jobs/nobody")

    assert page.status_code == 404
    assert "there is no job nobody here" in page.text


def test_a_key_that_holds_something_else_is_named_with_the_remedy(rig: Rig, site: Site) -> None:
    rig.raw.set("retry", "text")

    page = site().get("/retries")

    assert page.status_code == 409
    assert "Rename or delete that key" in page.text


def test_secrets_in_arguments_are_masked_on_every_page(rig: Rig, site: Site) -> None:
    secret = "S3CR3T-canary"
    job = foreign(
        jid="j1",
        args=[{"user": 7, "Api-Key": secret, "deep": [{"password": secret}]}],
        api_token=secret,
    )
    rig.raw.zadd("retry", {job: 5})
    browser = site()

    seen = (
        browser.get("/retries").text
        + browser.get("/jobs/j1").text
        + browser.get("/api/jobs/j1").text
    )

    assert "***" in seen
    assert secret not in seen


def test_the_document_describes_every_page_and_no_other(site: Site) -> None:
    browser = site()

    document = browser.get("/api/openapi.json").json()

    for path, operations in document["paths"].items():
        asked = f"/api{path}".format_map({"queue": "default", "jid": "nobody", "class": "A"})
        if "get" in operations:
            assert browser.get(asked).status_code in (200, 404), path
        else:
            assert browser.get(asked).status_code == 405, path


def test_a_million_jobs_are_shown_within_a_second_and_a_megabyte(rig: Rig, site: Site) -> None:
    rig.raw.eval(
        """for i = 1, 1000 do local t = {} for j = 1, 1000 do
        t[j] = '{"jid":"' .. i .. 'x' .. j .. '","class":"Charge","args":[' .. j .. '],"queue":"default"}' end
        redis.call("LPUSH", "queue:default", unpack(t)) end redis.call("SADD", "queues", "default")""",
        0,
    )
    browser = site()

    for path in (
        *PAGES,
        "/queues/default?where=args:nobody",
        "/queues/default?after=999970",
        "/jobs/nobody",
    ):
        page = browser.get(path)
        assert page.status_code in (200, 404), path
        assert page.elapsed.total_seconds() < 2.5, path  # a second, and what a loaded machine takes
        assert len(page.content) < 1_000_000, path
