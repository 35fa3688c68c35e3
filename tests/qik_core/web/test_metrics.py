"""What each class ran lately, as pages show it: in a table, by time, and drawn in a real Chromium."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from markupsafe import escape

from qik_core.api import mark_deploy
from qik_core.embedded import Embedded
from qik_core.store import keys
from tests.chromium import Tab, chromium
from tests.qik_core.store.rig import Rig
from tests.qik_core.store.test_minutes import add, ran
from tests.qik_core.web.conftest import Site
from tests.qik_core.web.test_hostile import HOSTILE
from tests.waiting import busy, eventually

CHARTS = "document.querySelectorAll('#charts .chart canvas').length"
NAME = "Billing::Charge"
PAGE = f"/metrics/jobs/{NAME}"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with chromium(tmp_path / "profile") as tab:
        yield tab


def filled(rig: Rig) -> None:
    """Let classes have run lately, one of them long ago, with two deploys."""
    now = time.time()
    for back in range(0, 50, 2):
        add(rig, ran(NAME, 10 + back, 2, 900, b0=5, b8=3 + back), at=now - 60 * back)
    add(rig, ran("Report", 1, 1, 0), at=now)
    add(rig, ran("Old", 7), at=now - 3 * 3_600)
    for back, label in ((40, "v1"), (2, "<script>v2</script>")):
        mark_deploy(label, at=datetime.now(UTC) - timedelta(minutes=back), store=rig.store)


def test_classes_of_the_last_hour_are_listed_with_their_mean_time(rig: Rig, site: Site) -> None:
    filled(rig)
    browser = site()

    page, data = browser.get("/metrics/jobs").text, browser.get("/api/metrics/jobs").json()

    total = sum(10 + back for back in range(0, 50, 2))
    mean = 25 * 0.9 / (total - 50)
    assert data["classes"] == [
        {
            "class": NAME,
            "has_page": True,
            "processed": total,
            "failed": 50,
            "mean": pytest.approx(mean),
        },
        {"class": "Report", "has_page": True, "processed": 1, "failed": 1, "mean": None},
    ]
    assert (data["minutes"], data["step"], data["whole"], data["more"]) == (60, 1, True, 0)
    assert [each["label"] for each in data["deploys"]] == ["v1", "<script>v2</script>"]
    assert f'<a href="/metrics/jobs/{NAME.replace(":", "%3A")}?minutes=60">{NAME}</a>' in page
    assert f"{mean * 1000:.0f} ms" in page
    assert "<script>v2" not in page


def test_eight_hours_show_what_an_hour_does_not(rig: Rig, site: Site) -> None:
    filled(rig)
    browser = site()

    names = [
        each["class"] for each in browser.get("/api/metrics/jobs?minutes=480").json()["classes"]
    ]

    assert names == [NAME, "Old", "Report"]
    assert len(browser.get("/api/metrics/jobs/Old?minutes=480").json()["points"]) == 48


def test_one_class_is_shown_by_time_and_by_how_long_its_runs_took(rig: Rig, site: Site) -> None:
    filled(rig)
    browser = site()

    page, data = browser.get(PAGE).text, browser.get(f"/api{PAGE}").json()

    assert (data["class"], len(data["points"]), len(data["histogram"])) == (NAME, 60, 26)
    assert data["points"][-1]["processed"] in (0, 10)  # the minute may be over
    assert [each for each in data["histogram"] if each["runs"]] == [
        {"upto": 0.02, "label": "20 ms", "runs": 125},
        {"upto": 0.5, "label": "500 ms", "runs": 675},
    ]
    assert data["histogram"][-1]["label"] == "longer"
    assert page.count("<tr>") == 1 + 25 + 1 + 2


def test_where_nothing_ran_pages_say_so(rig: Rig, site: Site) -> None:
    browser = site()

    assert "Nothing was run in this time" in browser.get("/metrics/jobs").text
    assert "This class ran nothing" in browser.get("/metrics/jobs/Nobody").text


@pytest.mark.parametrize("minutes", ["0", "481", "-1", "1e3", "x", "9" * 30])
def test_other_numbers_of_minutes_are_refused(rig: Rig, site: Site, minutes: str) -> None:
    browser = site()

    for page in ("/metrics/jobs", PAGE):
        assert browser.get(page, params={"minutes": minutes}).status_code == 400


def test_hostile_names_of_classes_and_labels_are_shown_as_texts_without_a_link(
    rig: Rig, site: Site
) -> None:
    minute = keys.minute(time.time(), eight=True)
    for text in (*HOSTILE, "x" * 5_000):
        rig.raw.hset(minute, mapping={f"{text}|p": 5, f"{text}|ms": "<b>"})
        rig.raw.hset(
            keys.marks(time.time()), time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime()), text
        )
    browser = site()

    page, long = browser.get("/metrics/jobs"), browser.get("/metrics/jobs/" + "x" * 201)

    assert page.status_code == 200
    assert "<script>document" not in page.text
    assert "<img" not in page.text
    assert all(str(escape(text)) in page.text for text in HOSTILE)
    assert "x" * 300 not in page.text
    assert 'href="/metrics/jobs/' not in page.text
    assert long.status_code == 400


def test_a_thousand_classes_of_every_minute_are_shown_within_a_second_and_a_megabyte(
    rig: Rig, site: Site
) -> None:
    now = time.time()
    rows = [ran(f"Job{n:04}", n + 1, 0, 5 * n, b0=n + 1) for n in range(1_000)]
    for back in range(60):
        add(rig, *rows, at=now - 60 * back)
    browser = site()

    for path in (
        "/metrics/jobs",
        "/api/metrics/jobs?minutes=480",
        "/metrics/jobs/Job0999?minutes=480",
    ):
        began = time.monotonic()
        answer = browser.get(path)
        assert time.monotonic() - began < 1.5 * busy(), path
        assert answer.status_code == 200
        assert len(answer.content) < 1_000_000
    assert "Job0999" in browser.get("/metrics/jobs").text
    assert "500 more classes ran less" in browser.get("/metrics/jobs").text


def test_charts_are_drawn_without_a_complaint_and_fit_a_phone(
    rig: Rig, site: Site, tab: Tab
) -> None:
    filled(rig)
    browser = site()

    for width in (1280, 390):
        tab.size(width, 800)
        for query in ("", "?minutes=480"):
            tab.open(f"{browser.url}{PAGE}{query}")
            eventually(lambda: tab.run(CHARTS) == 3)
            assert tab.run("document.querySelector('.chart .uplot').clientWidth") > width / 2
            assert tab.run("document.documentElement.scrollWidth") <= width
    drawn = (
        "[...document.querySelectorAll('#charts canvas')].map(each => "
        "each.getContext('2d').getImageData(0, 0, each.width, each.height).data.some(value => value))"
    )
    assert tab.run(drawn) == [True, True, True]
    assert tab.complaints == []


def test_a_page_that_is_open_draws_what_comes_and_what_is_pointed_at_is_read_out(
    rig: Rig, site: Site, tab: Tab
) -> None:
    filled(rig)
    tab.open(f"{site().url}{PAGE}")
    eventually(lambda: tab.run(CHARTS) == 3)

    add(rig, ran(NAME, 1_000, 0, 5), at=time.time() - 60)

    eventually(lambda: "1,000" in tab.run("document.getElementById('live').innerText"), 20 * busy())
    box = tab.run("JSON.stringify(document.querySelector('.u-over').getBoundingClientRect())")
    at = {
        "type": "mouseMoved",
        "x": int(box.split('"x":')[1].split(",")[0].split(".")[0]) + 200,
        "y": 0,
    }
    tab.run("document.querySelector('.u-over').scrollIntoView()")
    at["y"] = int(tab.run("document.querySelector('.u-over').getBoundingClientRect().y")) + 20
    tab.send("Input.dispatchMouseEvent", **at)
    eventually(lambda: " UTC: " in tab.run("document.getElementById('reading').innerText"))
    assert tab.complaints == []


def test_a_page_says_that_redis_is_gone_keeps_its_charts_and_comes_back(
    rig: Rig, redis_server: Embedded, site: Site, tab: Tab
) -> None:
    filled(rig)
    tab.open(f"{site().url}{PAGE}")
    eventually(lambda: tab.run(CHARTS) == 3)
    eventually(lambda: "Redis answers" in tab.text())

    redis_server.kill()
    eventually(lambda: "Redis does not answer" in tab.text(), 3.0 * busy())
    redis_server.start()

    eventually(lambda: "Redis answers" in tab.text(), 10.0)
    assert tab.run(CHARTS) == 3
