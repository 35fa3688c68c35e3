"""The pages about the dashboard's own process and its Redis."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from click.testing import CliRunner

from qik_core import cli, settings
from qik_core.embedded import Embedded
from qik_core.web.about import short
from tests.qik_core.store.rig import Rig
from tests.qik_core.web.conftest import Site
from tests.waiting import busy

HOSTILE = "<script>document.title='owned'</script>"


@pytest.fixture(autouse=True)
def own_settings(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of each test alone."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("QIK_QUEUES", "high,5 default")
    monkeypatch.setenv("QIK_WEB_TOKEN", "S3CR3T-canary")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:S3CR3T-canary@h/b")
    settings.use(None)
    yield
    settings.use(None)


def test_the_settings_are_those_that_the_command_prints(site: Site) -> None:
    told = site().get("/api/settings").json()["settings"]

    printed = json.loads(CliRunner().invoke(cli.main, ["config", "--json"]).stdout)
    assert told == printed
    assert told["queues"]["origin"] == "environment QIK_QUEUES"


def test_no_setting_shows_a_secret_and_queues_are_written_as_people_do(site: Site) -> None:
    browser = site()

    page, data = browser.get("/settings").text, browser.get("/api/settings").text

    assert "S3CR3T" not in page + data
    assert "high,5 default,1" in page
    assert "***" in page


def test_the_doctor_finds_on_the_page_what_the_command_finds(rig: Rig, site: Site) -> None:
    rig.raw.sadd("qik:paused", "low")
    rig.raw.sadd("queues", "left")
    rig.raw.lpush("queue:left", "{}")
    browser = site()

    told = browser.get("/api/doctor").json()

    printed = json.loads(CliRunner().invoke(cli.main, ["doctor", "--json"]).stdout)
    assert told["findings"] == printed["findings"]
    assert {"unserved"} < {each["check"] for each in told["findings"]}
    assert told.keys() - {"examined_at"} == printed.keys()
    assert all(
        each["remedy"].split()[0] in browser.get("/doctor").text for each in told["findings"]
    )


def test_the_doctor_says_as_of_when_it_is(site: Site) -> None:
    page = site().get("/doctor").text

    said = re.search(r"examined at <time>(.*?)Z</time>", page)
    assert said is not None
    assert abs(time.time() - datetime.fromisoformat(f"{said[1]}+00:00").timestamp()) < 5 * busy()


def test_what_others_wrote_into_redis_is_escaped_and_cut(rig: Rig, site: Site) -> None:
    rig.raw.sadd("queues", HOSTILE, "long" * 10_000)
    for queue in (HOSTILE, "long" * 10_000):
        rig.raw.lpush(f"queue:{queue}", "{}")
    browser = site()

    page = browser.get("/doctor")

    assert page.status_code == 200
    assert HOSTILE not in page.text
    assert len(browser.get("/api/doctor").text) < 20_000


def test_a_redis_that_is_silent_is_told_of_within_3_seconds(
    rig: Rig, redis_server: Embedded, site: Site
) -> None:
    browser = site()
    assert browser.get("/doctor").status_code == 200
    os.kill(redis_server.pid or 0, signal.SIGSTOP)
    began = time.monotonic()
    try:
        page = browser.get("/doctor")
    finally:
        os.kill(redis_server.pid or 0, signal.SIGCONT)

    assert time.monotonic() - began < 3 * busy()
    assert page.status_code == 503
    assert "This cannot be shown" in page.text
    assert "Redis does not answer" in page.text
    assert browser.get("/doctor").status_code == 200


def test_tables_are_cut_as_texts_are() -> None:
    told = short({str(n): ["x" * 5_000] * 600 for n in range(600)})

    assert len(told) == 500
    assert {(len(each), len(each[0])) for each in told.values()} == {(500, 2_000)}
