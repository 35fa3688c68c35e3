"""`qik queues`, `scheduled`, `retries`, `dead` and `held`, on a real server."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
import redis
from click.testing import CliRunner, Result

from qik_core import Enqueued, Job, cli, registry, settings
from qik_core.embedded import Embedded
from qik_core.payload import MALFORMED

Qik = Callable[..., Result]

with registry.scope():

    class ListedByHand(Job, queue="billing", unique_for=3600):
        def perform(self, number: int) -> None: ...


@pytest.fixture
def qik(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Qik]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.use(None)
    yield lambda *arguments: CliRunner().invoke(cli.main, list(arguments))
    settings.use(None)


def payload(number: int, **fields: Any) -> bytes:
    body = {
        "jid": f"{number:024x}", "class": "Charge", "queue": "billing", "args": [number], "retry": 25,
        "created_at": time.time(), **fields,
    }  # fmt: skip
    return json.dumps(body).encode()


def fails(raw: redis.Redis, number: int, key: str = "retry", **fields: Any) -> None:
    error = {"error_class": "ValueError", "error_message": "no card", "retry_count": 1, **fields}
    raw.zadd(key, {payload(number, **error): time.time() + 60 + number})


def jids(told: Result) -> list[str]:
    return [each["jid"] for each in json.loads(told.stdout)["jobs"]]


# --- lists ---------------------------------------------------------------------------------------


def test_queues_are_listed_with_sizes_latency_and_memory(qik: Qik, raw: redis.Redis) -> None:
    for number in range(3):
        ListedByHand.perform_async(number)
    ListedByHand.perform_in(60, 9)
    qik("pause", "billing")
    (row,) = json.loads(qik("queues", "--bytes", "--json").stdout)["queues"]
    assert (row["queue"], row["queued"], row["paused"]) == ("billing", 3, True)
    assert 0 <= row["latency"] < 60
    assert row["bytes"] >= sum(map(len, raw.lrange("queue:billing", 0, -1)))
    text = qik("queues", "--bytes").stdout
    assert "billing" in text
    assert "paused" in text
    assert "KB" in text


def test_queues_by_class_count_what_waits_where(qik: Qik) -> None:
    ListedByHand.perform_async(1)
    ListedByHand.perform_async(2)
    ListedByHand.perform_in(60, 3)
    told = json.loads(qik("queues", "--by", "class", "--json").stdout)
    assert told["exact"]
    assert told["classes"] == [
        {"class": "ListedByHand", "queued": 2, "scheduled": 1, "retrying": 0, "held": 0}
    ]
    assert told["of"] == 1
    assert "ListedByHand" in qik("queues", "--by", "class").stdout


def test_of_many_classes_those_of_which_most_wait_are_shown_and_how_many_there_are(
    qik: Qik, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qik_core.cli.listing.MOST", 2)
    for number in range(6):
        ours = {"qik": "-", "jid": f"{number:024x}", "queue": "a", "class": f"C{min(number, 3)}"}
        raw.zadd("retry", {json.dumps(ours, separators=(",", ":")): number})
    told = json.loads(qik("queues", "--by", "class", "--json").stdout)
    assert [each["class"] for each in told["classes"]] == ["C3", "C0"]
    assert told["of"] == 4
    assert qik("queues", "--by", "class").stderr == "2 of 4 classes\n"


def test_jobs_of_queues_are_those_that_a_filter_means(qik: Qik) -> None:
    pushed = [ListedByHand.perform_async(number) for number in range(3)]
    (found,) = jids(qik("queues", "jobs", "args:1", "class:Listed*", "--json"))
    assert isinstance(pushed[1], Enqueued)
    assert found == pushed[1].jid
    assert jids(qik("queues", "jobs", "queue:low", "--json")) == []
    assert len(jids(qik("queues", "jobs", "queue:billing", "--json"))) == 3


def test_a_list_shows_as_many_as_its_limit_and_says_that_there_are_more(
    qik: Qik, raw: redis.Redis
) -> None:
    for number in range(5):
        fails(raw, number)
    told = qik("retries", "--limit", "2")
    assert told.stdout.count("ValueError: no card") == 2
    assert "2 shown, looked at 2 of 5" in told.stderr
    body = json.loads(qik("retries", "--limit", "2", "--json").stdout)
    assert (len(body["jobs"]), body["of"], body["whole"]) == (2, 5, False)


def test_a_search_that_takes_too_long_says_how_far_it_came(qik: Qik, raw: redis.Redis) -> None:
    for number in range(150):
        fails(raw, number)
    told = qik("retries", "class:Nobody", "--patience", "0", "--json")
    assert json.loads(told.stdout) == {"jobs": [], "looked_at": 100, "of": 150, "whole": False}
    assert "--patience searches longer" in qik("retries", "class:N", "--patience", "0").stderr


def test_a_jid_that_is_not_found_in_time_says_how_far_the_server_looked(
    qik: Qik, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qik_core.cli.listing.SEARCH", 0.0)
    raw.sadd("queues", "low")
    raw.lpush("queue:low", *map(payload, range(20_000)))
    jid = "f" * 24
    told = qik("queues", "jobs", f"jid:{jid}", "--patience", "0", "--json")
    assert json.loads(told.stdout) == {"jobs": [], "looked_at": 0, "of": 20_000, "whole": False}
    told = qik("queues", "jobs", f"jid:{jid}", "--patience", "0")
    assert told.exit_code == 0
    assert told.stderr == "0 shown, looked at 0 of 20,000: --patience searches longer\n"
    told = qik("queues", "show", jid, "--patience", "0")
    assert told.exit_code == 1
    assert "looked at 0 of 20,000 in time, --patience searches longer" in told.stderr
    assert "or never was here" in qik("queues", "show", jid, "--patience", "60").stderr
    assert jids(qik("queues", "jobs", f"jid:{5:024x}", "--patience", "60", "--json")) == [
        f"{5:024x}"
    ]


def test_the_dead_are_listed_the_newest_first_and_retries_the_next_due_first(
    qik: Qik, raw: redis.Redis
) -> None:
    for number in range(205):
        fails(raw, number)
        fails(raw, number, "dead")
    newest = [f"{number:024x}" for number in range(204, -1, -1)]
    assert jids(qik("dead", "--limit", "250", "--json")) == newest
    assert jids(qik("dead", "class:Charge", "--limit", "3", "--json")) == newest[:3]
    assert jids(qik("retries", "--limit", "150", "--json")) == newest[::-1][:150]


def test_what_stands_in_redis_commands_no_terminal(qik: Qik, raw: redis.Redis) -> None:
    fails(raw, 1, **{"class": "\x1b[2JEvil\u202e", "error_message": "\x07\x9b31m"})
    evil = "a\x1b]0;b\x07"
    raw.sadd("queues", evil)
    raw.sadd("qik:suspects", evil)
    raw.lpush(f"qik:suspect:{evil}", payload(2))
    raw.hset("qik:held", evil, 1)
    raw.lpush(f"qik:held:{evil}", payload(3))
    raw.set("qik:epoch", evil)
    raw.lpush(f"queue:{evil}", payload(4))
    for told in (qik("retries"), qik("retries", "show", f"{1:024x}"), qik("status"), qik("doctor")):
        assert told.exit_code == (1 if "found" in told.output.splitlines()[-1] else 0)
        assert not set("\x1b\x07\x9b\u202e") & set(told.output)
    assert "\\x1b[2JEvil" in qik("retries").stdout
    assert "a\\x1b]0;b\\x07: 1 suspects" in qik("status").stdout
    assert "a\\x1b]0;b\\x07" in qik("doctor").stdout


def test_bytes_that_are_no_job_are_listed_too(qik: Qik, raw: redis.Redis) -> None:
    raw.zadd("dead", {b"\xff{": 1})
    told = qik("dead")
    assert "no job" in told.stdout
    assert json.loads(qik("dead", "--json").stdout)["jobs"][0]["error_class"] == "MalformedPayload"


def test_one_job_is_shown_whole(qik: Qik, raw: redis.Redis) -> None:
    fails(raw, 7, error_backtrace=["a.py:1", "b.py:2"], tags=["import"])
    told = qik("retries", "show", f"{7:024x}")
    assert told.exit_code == 0
    (listed,) = json.loads(qik("retries", "--json").stdout)["jobs"]
    assert (listed["tags"], listed["tags_of"]) == (["import"], 1)
    for text in ("Charge", "ValueError: no card", "b.py:2", "import", "billing"):
        assert text in told.stdout
    assert json.loads(qik("retries", "show", f"{7:024x}", "--json").stdout)["args"] == [7]


def test_bytes_that_were_set_aside_are_shown_as_they_were(qik: Qik, raw: redis.Redis) -> None:
    aside = {"class": MALFORMED, "raw": base64.b64encode(b'{"jid":}\x1b').decode()}
    raw.zadd("dead", {payload(3, **aside): 1})
    assert '{"jid":}\\x1b' in qik("dead", "show", f"{3:024x}").stdout
    shown = json.loads(qik("dead", "show", f"{3:024x}", "--json").stdout)
    assert shown["raw"] == '{"jid":}\x1b'


def test_a_job_that_is_not_there_is_exit_1(qik: Qik) -> None:
    told = qik("dead", "show", "0" * 24)
    assert told.exit_code == 1
    assert "in dead" in told.stderr


def test_a_filter_that_cannot_be_read_is_usage_and_says_what_was_meant(qik: Qik) -> None:
    told = qik("retries", "clas:Charge")
    assert told.exit_code == 2
    assert "did you mean 'class'" in told.stderr


def test_a_misspelt_verb_is_no_search(qik: Qik) -> None:
    told = qik("retries", "delte", "class:Charge")
    assert told.exit_code == 2
    assert "did you mean 'delete'" in told.stderr
    assert "write: list delte" in told.stderr
    assert qik("retries", "list", "delte").exit_code == 0
    assert "write: jobs delte" in qik("queues", "delte").stderr
    assert qik("queues", "jobs", "delte").exit_code == 0


# --- verbs ---------------------------------------------------------------------------------------


def test_a_verb_changes_nothing_before_it_is_confirmed(qik: Qik, raw: redis.Redis) -> None:
    for number in range(3):
        fails(raw, number)
    told = qik("retries", "delete", "class:Charge")
    assert told.exit_code == 3
    assert "3 jobs" in told.stderr
    assert "--yes" in told.stderr
    assert raw.zcard("retry") == 3


def test_a_dry_run_counts_by_class_and_changes_nothing(qik: Qik, raw: redis.Redis) -> None:
    fails(raw, 1)
    fails(raw, 2, **{"class": "Mail"})
    before = raw.zrange("retry", 0, -1)
    told = qik("retries", "retry", "--all", "--dry-run", "--yes", "--json")
    assert json.loads(told.stdout) == {
        "would": "retry", "jobs": 2, "classes": {"Charge": 1, "Mail": 1}, "classes_of": 2,
    }  # fmt: skip
    assert raw.zrange("retry", 0, -1) == before


def test_retry_puts_exactly_those_on_their_queue_that_are_meant(qik: Qik, raw: redis.Redis) -> None:
    for number in range(4):
        fails(raw, number)
    told = qik("retries", "retry", "args:2", "--yes", "--json")
    assert json.loads(told.stdout)["done"] == 1
    assert raw.zcard("retry") == 3
    (job,) = raw.lrange("queue:billing", 0, -1)
    assert json.loads(job)["args"] == [2]


def test_delete_frees_the_lock(qik: Qik, raw: redis.Redis) -> None:
    pushed = ListedByHand.perform_in(60, 1)
    assert isinstance(pushed, Enqueued)
    told = qik("scheduled", "delete", f"jid:{pushed.jid}", "--yes")
    assert told.stdout == "1 deleted\n"
    assert isinstance(ListedByHand.perform_async(1), Enqueued)


def test_every_verb_of_every_place_does_what_it_says(qik: Qik, raw: redis.Redis) -> None:
    ListedByHand.perform_in(60, 1)
    assert qik("scheduled", "advance", "--all", "--yes").stdout == "1 advanced\n"
    assert qik("queues", "bury", "queue:billing", "--yes").stdout == "1 buried\n"
    assert qik("dead", "retry", "--all", "--yes").stdout == "1 retried\n"
    assert qik("queues", "delete", "class:ListedByHand", "--yes").stdout == "1 deleted\n"
    fails(raw, 1)
    assert qik("retries", "bury", "--all", "--yes").stdout == "1 buried\n"
    assert qik("dead", "delete", "--all", "--yes").stdout == "1 deleted\n"
    ListedByHand.perform_in(60, 1)
    assert qik("scheduled", "bury", "--all", "--yes").stdout == "1 buried\n"
    raw.lpush("qik:held:Mail", payload(5))
    raw.hset("qik:held", "Mail", 100)
    assert len(jids(qik("held", "--json"))) == 1
    assert qik("held", "delete", "--all", "--yes").stdout == "1 deleted\n"


@pytest.mark.parametrize("words", [(), ("class:Charge", "--all")])
def test_a_verb_wants_either_a_filter_or_all(qik: Qik, words: tuple[str, ...]) -> None:
    told = qik("retries", "delete", "--yes", *words)
    assert told.exit_code == 2
    assert "--all" in told.stderr


def test_a_verb_on_nothing_is_exit_1(qik: Qik) -> None:
    assert qik("dead", "retry", "class:Charge").exit_code == 1
    assert qik("dead", "retry", "class:Charge", "--yes").exit_code == 1


def test_a_job_whose_key_another_holds_stays_and_that_is_exit_1(qik: Qik) -> None:
    ListedByHand.perform_async(1)
    qik("queues", "bury", "--all", "--yes")
    assert isinstance(ListedByHand.perform_async(1), Enqueued)
    told = qik("dead", "retry", "--all", "--yes")
    assert told.stdout == "0 retried · 1 stay: another job holds their key\n"
    assert told.exit_code == 1


def test_a_verb_says_how_far_it_is(qik: Qik, raw: redis.Redis, monkeypatch: Any) -> None:
    monkeypatch.setattr("qik_core.cli.screen._SELDOM", 0.0)
    for number in range(3):
        fails(raw, number)
    told = qik("retries", "delete", "--all", "--yes")
    assert "3 of 3 (100%) deleted" in told.stderr
    assert told.stdout == "3 deleted\n"


def test_a_redis_that_goes_away_half_way_is_said_and_the_same_command_does_the_rest(
    qik: Qik, raw: redis.Redis, redis_server: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1_200):
        fails(raw, number)

    @contextmanager
    def stopping(*_: object) -> Iterator[Callable[[str, int], object]]:
        try:
            yield (
                lambda _, count: os.kill(redis_server.pid, signal.SIGSTOP) if count == 600 else None
            )
        finally:
            click.echo("the line is clear", err=True)

    monkeypatch.setattr("qik_core.cli.screen.progress", stopping)
    try:
        told = qik("retries", "delete", "--all", "--yes")
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    assert told.exit_code == 4
    assert told.stderr.startswith("the line is clear\nqik: ")
    assert "nothing is done twice" in told.stderr
    assert 0 < raw.zcard("retry") <= 700
    monkeypatch.undo()
    assert (
        qik("retries", "delete", "--all", "--yes", "--redis-url", redis_server.url).exit_code == 0
    )
    assert raw.zcard("retry") == 0


def test_a_redis_that_is_away_is_exit_4(qik: Qik) -> None:
    away = ("--redis-url", "redis://127.0.0.1:1/0")
    for words in (("retries",), ("queues",), ("dead", "delete", "--all", "--yes")):
        assert qik(*words, *away).exit_code == 4


def test_bury_says_how_many_of_the_dead_are_deleted_and_refuses_it_under_yes(
    qik: Qik, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QIK_DEAD_MAX", "3")
    for number in range(4):
        fails(raw, number)
    fails(raw, 9, "dead", **{"class": "Late"})
    planned = qik("retries", "bury", "--all", "--dry-run")
    assert planned.exit_code == 0
    assert "deletes its oldest 2 jobs for good: it keeps 3" in planned.stderr
    told = qik("retries", "bury", "--all", "--dry-run", "--json")
    assert json.loads(told.stdout)["dead_deleted"] == 2

    refused = qik("retries", "bury", "class:Charge", "--yes", "--json")
    assert refused.exit_code == 3
    assert "--lose" in json.loads(refused.stdout)["refused"]
    assert (raw.zcard("retry"), raw.zcard("dead")) == (4, 1)

    assert qik("retries", "bury", "args:1", "--yes").stdout == "1 buried\n"
    assert qik("retries", "bury", "--all", "--yes", "--lose").stdout == "3 buried\n"
    assert raw.zcard("dead") == 3
