"""What a real worker does with whatever somebody put into Redis: it sets aside, counts, says so, and goes on."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
import redis

from tests.integration.shop import NOTES, Shop
from tests.waiting import eventually

APP = (
    NOTES
    + """
from typing import Any

class Number(Job):
    def perform(self, n: int) -> None:
        note("start", n)

class Anything(Job):
    def perform(self, value: Any) -> None:
        note("start", 7000)

class Fails(Job, retry=3):
    def perform(self, n: int) -> None:
        raise ValueError("no \\x1b[31m \\ud800")

class Exits(Job, retry=3):
    def perform(self, n: int) -> None:
        raise SystemExit(9)
"""
)

LAST = 4711


def job(**fields: Any) -> bytes:
    whole = {"class": "Number", "args": [1], "jid": "j" * 24, "queue": "default", "retry": True}
    whole |= {"created_at": 1.5, "enqueued_at": 1.5}
    kept = {name: value for name, value in (whole | fields).items() if value is not ...}
    return json.dumps(kept).encode()


NO_JOBS = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "text": b'"x"',
    "number": b"5",
    "truncated": b'{"class":"Number","args":[1',
    "bom": b"\xef\xbb\xbf" + job(),
    "utf16": job().decode().encode("utf-16"),
    "gzip": gzip.compress(job(), mtime=0),
    "bytes": b"\xff\x00\xfe\n\r",
    "nan": b'{"class":"Number","args":[NaN]}',
    "deep": b"[" * 100_000,
    "deep args": b'{"class":"Anything","args":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    "digits": b'{"class":"Number","args":[' + b"9" * 5000 + b"]}",
    "surrogate": b'{"class":"Anything","args":["\\ud800"]}',
    "no class": job(**{"class": ...}),
    "class list": job(**{"class": ["Number"]}),
    "class null": job(**{"class": None}),
    "args object": job(args={"n": 1}),
    "args text": job(args="1"),
    "ours, cut": b'{"qik":"abcdefghijklmnopqrstuvS60","jid":"cut","queue":"default","class":"Nu',
}

UNKNOWN = {
    "os.system": job(**{"class": "os.system", "args": ["touch owned"]}),
    "eval": job(**{"class": "builtins.eval", "args": ["1"]}),
    "popen": job(**{"class": "subprocess:Popen", "args": [["touch", "owned"]]}),
    "import": job(**{"class": "__import__('os')"}),
    "dunder": job(**{"class": "shop.Number.__class__"}),
    "long": job(**{"class": "N" * 10_000}),
    "control": job(**{"class": "\x1b[31m\nx\x00"}),
    "empty": job(**{"class": ""}),
    "gone": job(**{"class": "Gone"}),
    "too many": job(args=[1, 2]),
    "too few": job(args=[]),
    "wrong type": job(args=["1"]),
    "none": job(args=[None]),
}

RUNS = {
    "plain": job(),
    "no jid": job(jid=...),
    "jid list": job(jid=["a"]),
    "jid odd": job(jid='a"b\\c\n'),
    "no queue": job(queue=...),
    "queue number": job(queue=5),
    "no retry": job(retry=...),
    "retry text": job(retry="x"),
    "no times": job(created_at=..., enqueued_at=...),
    "times text": job(created_at="today", enqueued_at=None),
    "milliseconds": job(created_at=1_800_000_000_000, enqueued_at=1_800_000_000_001),
    "retry_count text": job(retry_count="x"),
    "retry_count negative": job(retry_count=-1),
    "retry_count huge": job(retry_count=10**9),
    "expiry text": job(expiry="tomorrow"),
    "more fields": job(tags=["a"], cattr={"x": 1}, apartment="t", wrapped="X", version=99),
    "forged lock": job(qik="abcdefghijklmnopqrstuvS60"),
    "forged lock, odd": job(qik={"a": 1}),
    "spaces": b' \n{ "args" : [ 1 ] , "class" : "Number" } \n',
    "twice": b'{"class":"Gone","class":"Number","args":[2],"args":[1]}',
}


def put(raw: redis.Redis, payloads: list[bytes]) -> None:
    """Push each, and behind them a job that shows that nothing holds it up."""
    raw.sadd("queues", "default")
    raw.lpush("queue:default", *payloads)
    raw.lpush("queue:default", job(args=[LAST], jid="last"))


def settled(shop: Shop, raw: redis.Redis) -> None:
    """Wait until everything that was put is somewhere else, in the same process as at the start."""
    eventually(lambda: shop.runs("start")[LAST])
    eventually(lambda: not raw.llen("queue:default") and not held(raw))
    assert "parent: replaces" not in shop.log()
    assert len(shop.children(shop.workers[0])) == 1


def members(raw: Any, key: str) -> list[tuple[bytes, float]]:
    """The payloads of a sorted set with their scores."""
    return list(raw.zrange(key, 0, -1, withscores=True))


def read(raw: redis.Redis, key: str) -> list[dict[str, Any]]:
    """The payloads of a sorted set."""
    return [json.loads(each) for each, _ in members(raw, key)]


def held(raw: redis.Redis) -> int:
    return sum(
        len([field for field in raw.hkeys(key) if field not in (b"#", b"@")])
        for key in raw.scan_iter("qik:working:*")
    )


def locks(raw: redis.Redis) -> int:
    return sum(raw.hlen(key) - 1 for key in raw.scan_iter("qik:unique:*"))


@pytest.mark.every_server
def test_what_is_no_job_is_kept_in_the_dead_set_with_its_bytes_and_the_reason(
    shop: Shop, raw: redis.Redis
) -> None:
    put(raw, list(NO_JOBS.values()))
    shop.work()
    settled(shop, raw)

    dead = read(raw, "dead")
    assert sorted(base64.b64decode(each["raw"]) for each in dead) == sorted(NO_JOBS.values())
    assert all(each["error_message"] and each["jid"] for each in dead)
    assert {each["error_class"] for each in dead} == {"MalformedPayload"}
    assert shop.log().count("not a job: set aside in the dead set") == len(NO_JOBS)
    assert (raw.zcard("retry"), locks(raw)) == (0, 0)


@pytest.mark.every_server
def test_unknown_classes_and_arguments_that_do_not_fit_wait_in_the_retry_set(
    shop: Shop, raw: redis.Redis
) -> None:
    put(raw, list(UNKNOWN.values()))
    shop.work()
    settled(shop, raw)

    waits = members(raw, "retry")
    now = raw.time()[0]
    assert len(waits) == len(UNKNOWN)
    assert all(now + 15 < score <= now + 31 for _, score in waits)
    kept = [json.loads(each) for each, _ in waits]
    assert sorted((each["class"], str(each["args"])) for each in kept) == sorted(
        (each["class"], str(each["args"])) for each in map(json.loads, UNKNOWN.values())
    )
    assert {each["unknown_count"] for each in kept} == {1}
    assert not (shop.folder / "owned").exists()
    assert "\x1b" not in shop.log()


@pytest.mark.every_server
def test_jobs_of_ruby_run_whatever_they_lack_or_carry(shop: Shop, raw: redis.Redis) -> None:
    put(raw, list(RUNS.values()))
    shop.work()
    settled(shop, raw)

    assert shop.runs("start")[1] == len(RUNS)
    assert (raw.zcard("retry"), raw.zcard("dead"), locks(raw)) == (0, 0, 0)


def test_failures_of_foreign_jobs_come_back_from_the_retry_set_and_run_again(
    shop: Shop, raw: redis.Redis
) -> None:
    odd = [job(**{"class": name, "queue": queue, "jid": jid, "args": [n]})
           for n, (name, queue, jid) in enumerate([
               ("Fails", "default", "a"), ("Fails", ..., ...), ("Fails", 5, ["a"]),
               ("Exits", "a b", "b"), ("Exits", "", 7), ("Fails", "x" * 500, "")])]  # fmt: skip
    put(raw, odd)
    shop.work()
    settled(shop, raw)
    assert raw.zcard("retry") == len(odd)
    for each, _ in members(raw, "retry"):
        raw.zadd("retry", {each: 1.0})

    def twice() -> bool:
        counts = [each["retry_count"] for each in read(raw, "retry")]
        return counts == [1] * len(odd)

    eventually(twice)
    errors = {each["error_class"] for each in read(raw, "retry")}
    assert errors == {"ValueError", "SystemExit"}
    assert raw.zcard("dead") == 0


def test_the_same_jid_in_many_places_is_many_jobs_and_all_run(shop: Shop, raw: redis.Redis) -> None:
    put(raw, [job(), job(), job(args=[2])])
    raw.zadd("retry", {job(args=[3]): 1.0, job(args=[4]): 2.0})
    raw.zadd("schedule", {job(args=[5]): 1.0, job(args=[3]): 2.0})
    shop.work()
    settled(shop, raw)

    eventually(lambda: shop.runs("start") == {1: 2, 2: 1, 3: 2, 4: 1, 5: 1, LAST: 1})


def test_what_waits_in_a_zset_is_set_aside_or_runs_whatever_its_score(
    shop: Shop, raw: redis.Redis
) -> None:
    for n, score in enumerate((float("-inf"), -1e300, -5.0, 0.0, 1e-300)):
        raw.zadd("schedule" if n % 2 else "retry", {job(args=[n]): score})
    raw.zadd("schedule", {job(args=[100]): float("inf"), job(args=[101]): 1e300})
    garbage = [b"", b"null", b"\xff\xfe", b"[1]", b'{"class":"Number"}', b'{"queue":"a b"}']
    raw.zadd("retry", dict.fromkeys(garbage, 1.0))
    put(raw, [job(args=[4])])
    shop.work()
    settled(shop, raw)

    eventually(lambda: {n for n, _, _ in shop.notes("start")} == {0, 1, 2, 3, 4, LAST})
    assert set(raw.zrange("dead", 0, -1)) == set(garbage)
    assert raw.zcard("schedule") == 2  # their time will never come
    assert raw.zcard("retry") == 0


@pytest.mark.parametrize("key", ["retry", "dead", "schedule", "processes", "qik:alive"])
def test_a_key_that_somebody_made_another_type_loses_no_job(
    shop: Shop, raw: redis.Redis, key: str
) -> None:
    raw.lpush(key, "no such thing")
    raw.lpush("queue:default", job(**{"class": "Fails"}), b"no job", job(args=[LAST]))
    shop.work()
    eventually(lambda: shop.runs("start")[LAST])
    raw.delete(key)

    eventually(lambda: (raw.zcard("retry"), raw.zcard("dead")) == (1, 1))
    eventually(lambda: not held(raw))
    assert shop.runs("start") == {LAST: 1}
