"""What a job may cost in Redis: commands and bytes. A budget that is exceeded shows here before it shows as speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from benchmarks import passes
from benchmarks.bench import Bench
from benchmarks.pushes import used
from benchmarks.workers import Qik, Site, worker

CHUNKS = 20
N = CHUNKS * 500


@pytest.fixture
def bench(own_raw: redis.Redis, tmp_path: Path) -> Bench:
    path = own_raw.connection_pool.connection_kwargs["path"]
    return Bench(f"unix://{path}", tmp_path, own_raw)


def _calls(bench: Bench) -> dict[str, int]:
    """Return how often each command ran since the last reset, also inside scripts."""
    stats = cast("dict[str, dict[str, Any]]", bench.redis.info("commandstats"))
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}


def _pushed(bench: Bench, kind: str, n: int) -> dict[str, int]:
    bench.redis.config_resetstat()
    bench.side(kind, n)
    return _calls(bench)


def test_one_push_is_one_script_and_a_dozen_commands_in_it(bench: Bench) -> None:
    calls = _pushed(bench, "push_unique", 200)
    assert calls["evalsha"] <= 200 + 3  # the first of a process is sent with its text
    assert calls["hmget"] <= 200 + 1
    assert calls["hset"] <= 200 + 3
    assert sum(calls.values()) <= 13 * 200


@pytest.mark.parametrize("kind", ["bulk", "bulk_unique"])
def test_five_hundred_pushes_are_one_script(bench: Bench, kind: str) -> None:
    calls = _pushed(bench, kind, N)
    assert calls["evalsha"] <= CHUNKS + 3
    assert calls["lpush"] <= CHUNKS + 3
    assert calls.get("hmget", 0) <= CHUNKS + 1
    assert calls["hset"] <= CHUNKS + 3
    assert sum(calls.values()) <= 13 * CHUNKS + 40


def _weight(bench: Bench, kind: str) -> float:
    """Return the bytes of a job in Redis, all that belongs to it included."""
    before = used(bench.redis)
    bench.side(kind, 2 * N)
    return (used(bench.redis) - before) / (2 * N)


@pytest.mark.every_server
@pytest.mark.parametrize(("kind", "most"), [("bulk", 215), ("bulk_unique", 340)])
def test_a_job_takes_no_more_bytes_than_its_budget(bench: Bench, kind: str, most: int) -> None:
    assert min(_weight(bench, kind) for _ in range(3)) <= most  # tables grow by leaps


def _of_sidekiq(number: int) -> str:
    """Return the same job as Sidekiq 6.4 writes it."""
    moment = 1763816000.1234567 + number / 10_000
    job = {"retry": 25, "queue": "bench", "class": "Noop", "args": [number]}
    job |= {"jid": f"{number:024x}", "created_at": moment, "enqueued_at": moment}
    return json.dumps(job, separators=(",", ":"))


@pytest.mark.every_server
def test_a_job_takes_little_more_than_that_of_sidekiq(bench: Bench) -> None:
    before = used(bench.redis)
    for start in range(0, 2 * N, 1000):
        numbers = range(start, start + 1000)
        bench.redis.lpush("queue:theirs", *(_of_sidekiq(number) for number in numbers))
    theirs = (used(bench.redis) - before) / (2 * N)
    assert _weight(bench, "bulk") <= 1.2 * theirs + len('"qik":"-",')


@pytest.mark.parametrize("kind", ["bulk", "bulk_unique"])
def test_a_drain_settles_and_fetches_many_jobs_with_one_script(bench: Bench, kind: str) -> None:
    system, site = Qik(), Site(bench, "drain")
    system.hold(bench, kind, N)
    with worker(system, bench, site):
        bench.redis.config_resetstat()
        system.release(bench)
        site.counted(N, system.name)
        calls = _calls(bench)
    assert calls["evalsha"] <= N / 50
    assert calls["hdel"] <= 2 * calls["evalsha"]
    assert calls["hset"] <= 3 * calls["evalsha"]
    assert sum(calls.values()) <= N / 2


def test_a_pass_tells_hundreds_of_rows_with_one_script(bench: Bench) -> None:
    bench.redis.config_resetstat()
    passes.tell(bench, N)
    calls = _calls(bench)
    # What a pass asks besides is asked by the clock. Here: asked once what is told, once more with the push.
    assert calls["hmget"] <= 2 * CHUNKS + 5
    assert calls["lpush"] <= CHUNKS + 1
    assert calls["hset"] <= CHUNKS + 5


def test_a_pass_that_finds_all_rows_told_asks_once_for_hundreds_and_writes_nothing(
    bench: Bench,
) -> None:
    passes.tell(bench, N)
    bench.redis.config_resetstat()
    (measure,) = passes.again(bench, N)
    calls = _calls(bench)
    assert measure.wrong == ()
    assert calls["hmget"] <= CHUNKS + 5
    assert not calls.keys() & {"lpush", "hset", "zadd"}
