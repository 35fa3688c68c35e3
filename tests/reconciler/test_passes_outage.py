"""Workers are away for longer than a job is unique, or Redis is: passes go on, and no row has a second job."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core import Job
from qik_core.embedded import Embedded
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome
from tests.reconciler.shop import Item, fill
from tests.waiting import eventually

ROWS = 40
PASSES = 60
SECONDS = 0.06


def brief(jitter: float) -> Definition:
    """A job that is unique for a second."""

    class Brief(Job, queue="work", unique_for=1):
        def perform(self, item_id: int) -> None: ...

    class Briefs(Reconciler, every=60, jitter=jitter, batch_size=15):
        pending = derive(Brief, select(Item.id).where(Item.state == "pending"))

    return Briefs.definition


@pytest.mark.parametrize(
    ("database_url", "jitter"),
    [
        ("sqlite", 0.0),
        ("postgres", 0.9),
        pytest.param("sqlite", 0.9, marks=pytest.mark.slow),
        pytest.param("postgres", 0.0, marks=pytest.mark.slow),
        pytest.param("mariadb", 0.0, marks=pytest.mark.slow),
        pytest.param("mariadb", 0.9, marks=pytest.mark.slow),
    ],
    indirect=["database_url"],
)
def test_sixty_passes_over_a_backlog_older_than_its_locks_make_no_second_copy(
    home: Engine, tools: Tools, raw: Any, jitter: float
) -> None:
    fill(home, range(1, ROWS + 1))
    definition = brief(jitter)
    began = time.monotonic()

    for number in range(PASSES):
        moment = began + number * SECONDS
        eventually(lambda moment=moment: time.monotonic() >= moment)  # type: ignore[misc]
        report = Pass(definition, tools, 1, lambda: None).run()
        assert report.outcome is Outcome.COMPLETED, report
        assert copies(raw) == Counter(range(1, ROWS + 1)), f"pass {number}: {report.codes}"

    assert time.monotonic() - began > 3.0  # three times as long as a job is unique


def copies(raw: Any) -> Counter[int]:
    """How many jobs each row has, wherever they are."""
    there = [*raw.lrange("queue:work", 0, -1), *raw.zrange("qik:later:work", 0, -1)]
    return Counter(int(job.partition(b'"args":[')[2].partition(b"]")[0]) for job in there)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_first_pass_after_a_restart_of_redis_completes(
    home: Engine, tools: Tools, raw: Any, redis_server: Embedded
) -> None:
    fill(home, range(1, ROWS + 1))
    definition = brief(0.0)
    Pass(definition, tools, 1, lambda: None).run()

    redis_server.kill()
    redis_server.start()
    report = Pass(definition, tools, 1, lambda: None).run()

    assert report.outcome is Outcome.COMPLETED, report
    assert report.codes["enqueued"] == ROWS
