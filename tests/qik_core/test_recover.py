from __future__ import annotations

import json
from dataclasses import replace

import pytest

from qik_core import recover
from qik_core.embedded import Embedded
from qik_core.settings import Settings
from tests.qik_core.store.rig import Rig, Worker, done, jid

pytestmark = pytest.mark.every_server


@pytest.fixture(autouse=True)
def _terms(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent gives its helper."""
    settings = json.loads(replace(Settings(), redis=redis_url).to_json())
    monkeypatch.setenv("QIK_CHILD", json.dumps({"settings": settings}))


@pytest.fixture
def lost(rig: Rig) -> Worker:
    """A process that has ended with three jobs."""
    rig.edge(1, 2, 3)
    worker = rig.worker("host:1:lost")
    worker.fetch()
    worker.beat()
    return worker


def test_every_job_of_a_process_that_has_ended_goes_back_at_once(rig: Rig, lost: Worker) -> None:
    before = set(rig.raw.hvals("qik:working:host:1:lost"))
    assert recover.main(["host:1:lost", "--started", "1.1,1.2", "--clean"]) == 0

    assert set(rig.raw.lrange("queue:default", 0, -1)) <= before
    assert sorted(rig.queued()) == [jid(n).decode() for n in (1, 2, 3)]
    assert not list(rig.raw.scan_iter("*host:1:lost*"))
    heir = rig.worker("host:2:heir")
    heir.exchange(*[done(job) for job in heir.fetch()])
    assert rig.locks() == 0


def test_the_jobs_that_were_running_and_only_they_are_charged_with_the_death(
    rig: Rig, lost: Worker
) -> None:
    recover.main(["host:1:lost", "--started", "1.1,1.2"])

    deaths = [json.loads(raw).get("deaths", 0) for raw in rig.raw.lrange("queue:default", 0, -1)]
    assert sorted(deaths) == [0, 1, 1]


def test_a_helper_that_is_run_again_charges_nobody_twice(rig: Rig, lost: Worker) -> None:
    for _ in range(2):
        recover.main(["host:1:lost", "--started", "1.1,1.2,1.3"])
    raws = rig.raw.lrange("queue:default", 0, -1)
    assert [json.loads(raw)["deaths"] for raw in raws] == [1, 1, 1]


def test_it_can_be_run_again(rig: Rig, lost: Worker) -> None:
    assert recover.main(["host:1:lost"]) == 0
    assert recover.main(["host:1:lost"]) == 0
    assert len(rig.queued()) == 3


def test_a_process_that_left_nothing_is_no_failure(rig: Rig) -> None:
    assert recover.main(["host:1:nobody", "--clean"]) == 0
    assert not list(rig.raw.scan_iter("*nobody*"))


def test_it_says_how_many_came_back_and_what_was_running(
    lost: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    recover.main(["host:1:lost", "--started", "1.1"])

    (record,) = [record for record in caplog.records if record.message == "jobs are back"]
    assert (vars(record)["count"], vars(record)["running"]) == (3, "1.1")


def test_a_redis_that_is_away_asks_the_parent_to_try_again(
    rig: Rig, lost: Worker, redis_server: Embedded, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill()

    assert recover.main(["host:1:lost"]) == 1
    assert "jobs are not back yet" in caplog.text


def test_a_process_that_lives_after_all_is_shut_out_and_starts_anew(rig: Rig, lost: Worker) -> None:
    recover.main(["host:1:lost"])

    assert lost.exchange().status == "lost"
