"""`qik busy` and `qik processes`, with processes that are only listed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from qik_core import cli, settings

Qik = Callable[..., Result]


@pytest.fixture
def qik(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Qik]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.use(None)
    yield lambda *arguments: CliRunner().invoke(cli.main, list(arguments))
    settings.use(None)


def runs(raw: redis.Redis, identity: str, *numbers: int) -> None:
    """Let a process say that it runs these jobs, the first one longest."""
    info = {"hostname": "h", "pid": 1, "concurrency": 5, "queues": ["default"], "labels": ["qik"]}
    raw.sadd("processes", identity)
    raw.hset(
        identity,
        mapping={"info": json.dumps(info), "beat": time.time(), "busy": len(numbers), "rss": 2048},
    )
    for place, number in enumerate(numbers):
        job = {"jid": f"{number:024x}", "class": "Charge", "queue": "default", "args": [number]}
        work = {
            "queue": "default", "payload": json.dumps(job), "run_at": time.time() - 60 + place,
        }  # fmt: skip
        raw.hset(f"{identity}:work", f"t{number}", json.dumps(work))


def test_busy_lists_what_runs_the_longest_first(qik: Qik, raw: redis.Redis) -> None:
    runs(raw, "h:1:a", 1, 2)
    told = json.loads(qik("busy", "--json").stdout)
    assert [each["args"] for each in told["jobs"]] == [[1], [2]]
    assert told["jobs"][0]["process"] == "h:1:a"
    assert (told["meant"], told["of"]) == (2, 2)
    assert "1.0 min" in qik("busy").stdout


def test_busy_lists_those_that_a_filter_means(qik: Qik, raw: redis.Redis) -> None:
    runs(raw, "h:1:a", 1, 2)
    told = json.loads(qik("busy", "args:2", "--json").stdout)
    assert [each["args"] for each in told["jobs"]] == [[2]]
    assert (told["meant"], told["of"]) == (1, 2)


def test_processes_are_listed_the_busiest_first(qik: Qik, raw: redis.Redis) -> None:
    runs(raw, "h:1:a")
    runs(raw, "h:2:b", 1)
    raw.hset("h:1:a", "quiet", "true")
    told = json.loads(qik("processes", "--json").stdout)["processes"]
    assert [each["identity"] for each in told] == ["h:2:b", "h:1:a"]
    assert (told[0]["busy"], told[0]["concurrency"], told[0]["rss_kb"]) == (1, 5, 2048)
    text = qik("processes", "--limit", "1")
    assert "1 of 5" in text.stdout
    assert "1 of 2: --limit shows more" in text.stderr
    assert "quiet" in qik("processes").stdout


def test_a_process_of_many_queues_has_a_part_of_them_and_their_number(
    qik: Qik, raw: redis.Redis
) -> None:
    runs(raw, "h:1:a")
    info = {"hostname": "h", "pid": 1, "concurrency": 5, "labels": ["qik"]}
    queues = [f"q{number}" for number in range(30)]
    raw.hset("h:1:a", "info", json.dumps(info | {"queues": queues}))
    (told,) = json.loads(qik("processes", "--json").stdout)["processes"]
    assert (told["queues"], told["queues_of"]) == (queues[:20], 30)
    assert (told["labels"], told["labels_of"]) == (["qik"], 1)


def test_where_nothing_runs_nothing_is_listed(qik: Qik) -> None:
    assert qik("busy").output == "0 of 0\n"
    assert qik("processes").output == "0 of 0\n"
