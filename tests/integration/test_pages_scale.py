"""Every page of the dashboard, Redis and SQL as full as they get: a second, a megabyte, and workers that go on."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import httpx
import pytest
import redis
from sqlalchemy import Engine, select

from qik_core import registry
from qik_core.store import Store
from qik_core.web import Secrets, app
from qik_core.web.acts import Acts, Errands
from qik_core.web.looks import Looks, Rates
from qik_core.web.ways import ways
from reconciler import registry as reconcilers
from reconciler.web import tabs
from tests.integration import crowd, crowd_sql
from tests.integration.shop import Shop
from tests.qik_core.web.site import served
from tests.reconciler.shop import Item, items
from tests.servers import Postgres
from tests.waiting import busy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SOME_JID = f"{crowd.QUEUED // 2:024x}"
"""Of a job in the middle of a queue, too far back to be found in time by its id alone."""
FOUND_OR_SAID = (SOME_JID, "f" * 24)
PATHS = {"queue": "q1", "jid": SOME_JID, "class": "Charge1"}
TABLE = [
    re.sub(r"{(\w+)}", lambda found: PATHS[found[1]], page.path)
    for page in ways(Looks(Rates()), Acts(Errands()), ())
    if page.show is not None
]
ASKED = (
    "/queues/q1?count=100", "/queues/q1?where=class:Nobody", "/scheduled?where=class:Nobody", "/retries?count=100",
    "/retries?where=class:Charge99+args:7", "/dead?count=100", "/dead?where=no+such+error", "/jobs?where=class:Nobody",
    "/jobs?where=class:Charge7&count=100", f"/jobs/{'f' * 24}", "/jobs?place=later:q1", "/jobs?place=held:Charge1",
    "/metrics/jobs?minutes=480", "/metrics/jobs/Charge1?minutes=480",
)  # fmt: skip
PAGES = [f"{base}{page}" for page in (*TABLE, *ASKED) for base in ("", "/api")]
OF_RECONCILERS = [
    page.path.replace("{reconciler}", "Items") for tab in tabs({}) for page in tab.pages
]
ASKED_OF_SQL = (
    "/quarantine?class=Work1", "/quarantine?class=Work&state=quarantined", "/quarantine?class=Work1&state=waiting",
    "/incident?since=7d", "/incident?since=3650d", "/", "/incident/rebuild?reconciler=Items",
)  # fmt: skip
SQL_PAGES = [f"{base}{page}" for page in (*OF_RECONCILERS, *ASKED_OF_SQL) for base in ("", "/api")]
APP = """
from qik_core import Job

class Nothing(Job, queue="work"):
    def perform(self, number: int) -> None: ...
"""
JOBS = 250_000
WINDOW, WINDOWS = 1.0, 12
"""Seconds, and how many of each kind."""
BETWEEN = 0.25
"""Seconds between two questions: five people with an open page each, which asks twice in five seconds."""


def test_every_page_takes_less_than_a_second_of_cpu_and_a_megabyte(
    full: redis.Redis, redis_url: str, large: Engine, postgres: Postgres
) -> None:
    def cpu() -> float:
        return crowd.cpu(full) + crowd_sql.cpu(postgres)

    slow, long = {}, {}
    dashboard = app(Store(redis_url), secrets=Secrets(), tabs=tabs({"default": large}))
    with (
        registry.scope(),
        reconcilers.scope(),
        served(dashboard) as url,
        httpx.Client(trust_env=False, timeout=30) as browser,
    ):
        items(select(Item.id))
        row = browser.get(f"{url}/api/queues/q1?after={crowd.QUEUED // 40}").json()["rows"][0]
        clicked = f"/jobs/{row['jid']}?place=queue:q1&mark={row['mark']}"
        for page in (*PAGES, *SQL_PAGES, clicked, f"/api{clicked}"):
            began = cpu()
            told = browser.get(f"{url}{page}")
            took = cpu() - began
            fine = (200, 404) if page.endswith(FOUND_OR_SAID) else (200,)
            assert told.status_code in fine, (page, told.text)
            slow.update({page: took} if took >= 1 else {})
            long.update({page: len(told.content)} if len(told.content) >= 1_000_000 else {})
    assert (slow, long) == ({}, {})


def top_up(raw: redis.Redis) -> int:
    """Give the worker more jobs than it can run in a window; says how many there are."""
    jobs = [
        f'{{"qik":"-","jid":"{number:024x}","queue":"work","class":"Nothing","args":[{number}],'
        '"retry":25,"created_at":1790000000.5,"enqueued_at":1790000000.5}'
        for number in range(crowd.CHUNK)
    ]
    raw.sadd("queues", "work")
    while (there := int(raw.llen("queue:work"))) < JOBS:
        raw.lpush("queue:work", *jobs)
    return there


@contextmanager
def dashboard_elsewhere(redis_url: str) -> Iterator[str]:
    """Serve it as another machine would: it takes only the time that workers and Redis leave here."""
    process = subprocess.Popen(
        ["nice", "-n", "10", sys.executable, "-m", "qik_core.cli", "web", "--port", "0"],
        env={**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1].rstrip("/")
    finally:
        process.terminate()
        process.communicate(timeout=20)


@contextmanager
def people(url: str) -> Iterator[Callable[[bool], int]]:
    """Give what lets people look at all pages in turn or not; says how many pages they have got."""
    looking, ended, got = threading.Event(), threading.Event(), [0]
    pages = cycle(each for page in PAGES for each in ("/pulse", page))

    def look() -> None:
        with httpx.Client(trust_env=False, timeout=30) as browser:
            while not ended.wait(BETWEEN):
                if looking.is_set():
                    got[0] += browser.get(f"{url}{next(pages)}").status_code in (200, 404)

    def let(they: bool) -> int:
        (looking.set if they else looking.clear)()
        return got[0]

    threads = [threading.Thread(target=look, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield let
    ended.set()
    for thread in threads:
        thread.join(60)


def test_workers_lose_less_than_a_tenth_while_people_look(
    full: redis.Redis, shop: Shop, redis_url: str
) -> None:
    top_up(full)
    shop.environment.update(
        QIK_HEARTBEAT="5", QIK_LEASE="600", QIK_LOG_LEVEL="warning"
    )  # the processes of the crowd do not beat, and are not to be given up
    shop.work("-q", "work")
    rates: dict[bool, list[float]] = {True: [], False: []}
    with dashboard_elsewhere(redis_url) as url, people(url) as let:
        for looking in [False, True] * WINDOWS:
            let(looking)
            before, began = top_up(full), time.monotonic()
            threading.Event().wait(WINDOW)
            after = full.llen("queue:work")
            assert after > 0, "there were too few jobs"
            rates[looking].append((before - after) / (time.monotonic() - began))
        got = let(False)
    assert got >= WINDOWS * WINDOW, "too few pages were looked at"
    kept = statistics.median(rates[True]) / statistics.median(rates[False])
    assert kept > 1 - 0.1 * busy(), rates
