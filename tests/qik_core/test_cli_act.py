"""`qik cancel`, `deploy-mark`, `pause`, `resume`, `quiet` and `stop`, on a real server; processes are only listed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from qik_core import Enqueued, Job, cli, settings

Qik = Callable[..., Result]


class CancelledByHand(Job, unique_for=60):
    def perform(self, number: int) -> None: ...


@pytest.fixture
def qik(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Qik]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.use(None)
    yield lambda *arguments: CliRunner().invoke(cli.main, list(arguments))
    settings.use(None)


def listed(raw: redis.Redis, *identities: str, embedded: bool = False) -> None:
    """Put processes into the list that Sidekiq's pages read."""
    for identity in identities:
        raw.sadd("processes", identity)
        info = {
            "hostname": "h", "started_at": time.time(), "pid": 1, "tag": "", "concurrency": 5,
            "queues": ["default"], "labels": ["qik"], "identity": identity, "embedded": embedded,
        }  # fmt: skip
        raw.hset(identity, mapping={"info": json.dumps(info), "beat": time.time(), "busy": 0})


def signals(raw: redis.Redis, identity: str) -> list[str]:
    found: Any = raw.lrange(f"{identity}-signals", 0, -1)
    return [signal.decode() for signal in found]


def test_cancel_removes_a_waiting_job_with_its_lock(qik: Qik, raw: redis.Redis) -> None:
    pushed = CancelledByHand.perform_async(1)
    assert isinstance(pushed, Enqueued)
    told = qik("cancel", pushed.jid)
    assert (told.exit_code, told.output.partition(":")[0]) == (0, "removed")
    assert raw.llen("queue:default") == 0
    assert isinstance(CancelledByHand.perform_async(1), Enqueued)  # its lock was free


def test_cancel_of_a_job_that_is_not_there_is_exit_1(qik: Qik) -> None:
    told = qik("cancel", "0" * 24, "--json")
    assert told.exit_code == 1
    assert json.loads(told.output) == {"jid": "0" * 24, "result": "not_found"}


def test_cancel_of_what_is_no_jid_is_usage(qik: Qik) -> None:
    assert qik("cancel", "not a jid").exit_code == 2


def test_a_deploy_is_marked_once_and_a_label_that_cannot_be_is_refused(
    qik: Qik, raw: redis.Redis
) -> None:
    told = [
        qik("deploy-mark", "v42"),
        qik("deploy-mark", "v42", "--json"),
        qik("deploy-mark", "a\nb"),
    ]

    assert told[0].output == "marked: v42\n"
    assert json.loads(told[1].output) == {"label": "v42", "marked": False}
    assert (told[2].exit_code, "printable" in told[2].output) == (2, True)
    assert [raw.hvals(key) for key in raw.scan_iter("*-marks")] == [[b"v42"]]


def test_pause_and_resume_act_on_a_queue_and_say_whether_they_changed_it(
    qik: Qik, raw: redis.Redis
) -> None:
    assert json.loads(qik("pause", "billing", "--json").output)["changed"]
    assert raw.smembers("paused") == {b"billing"}
    assert "already" in qik("pause", "billing").output
    assert json.loads(qik("resume", "billing", "--json").output)["changed"]
    assert raw.smembers("paused") == set()
    assert "was not paused" in qik("resume", "billing").output


def test_a_name_that_no_queue_can_have_is_usage(qik: Qik) -> None:
    assert qik("pause", "a b").exit_code == 2


@pytest.mark.parametrize(("command", "signal"), [("quiet", "TSTP"), ("stop", "TERM")])
def test_one_process_is_asked_by_its_identity(
    qik: Qik, raw: redis.Redis, command: str, signal: str
) -> None:
    listed(raw, "host:1:aa", "host:2:bb")
    told = qik(command, "host:1:aa", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["asked"] == 1
    assert signals(raw, "host:1:aa") == [signal]
    assert signals(raw, "host:2:bb") == []


def test_an_identity_that_is_not_there_is_answered_with_the_nearest(
    qik: Qik, raw: redis.Redis
) -> None:
    listed(raw, "host:1:aa")
    told = qik("stop", "host:1:ab")
    assert told.exit_code == 1
    assert "host:1:aa" in told.output


def test_all_processes_are_only_asked_with_a_word_from_a_person(qik: Qik, raw: redis.Redis) -> None:
    listed(raw, "host:1:aa", "host:2:bb")
    told = qik("stop")
    assert told.exit_code == 3
    assert "all 2 processes" in told.output
    assert signals(raw, "host:1:aa") == []
    assert json.loads(qik("stop", "--yes", "--json").output)["asked"] == 2
    assert signals(raw, "host:2:bb") == ["TERM"]


def test_a_worker_inside_another_program_takes_no_signals(qik: Qik, raw: redis.Redis) -> None:
    listed(raw, "host:1:aa", embedded=True)
    assert qik("stop", "host:1:aa").exit_code == 1
    assert qik("quiet", "--yes").exit_code == 1
    assert signals(raw, "host:1:aa") == []


@pytest.mark.parametrize(
    "command", [["cancel", "0" * 24], ["pause", "q"], ["resume", "q"], ["quiet"], ["stop"]]
)
def test_without_redis_each_is_exit_4(qik: Qik, command: list[str]) -> None:
    assert qik(*command, "--redis-url", "redis://127.0.0.1:1/0").exit_code == 4
