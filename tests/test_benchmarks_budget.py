"""What a job may cost in Redis: commands and bytes. A budget that is exceeded shows here before it shows as speed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from benchmarks.bench import Bench, appears, wait_for
from benchmarks.workers import Files, Qik, worker
from qik_core import configure, settings
from qik_core.store import Store

CHUNKS = 20
N = CHUNKS * 500


@pytest.fixture
def bench(redis_url: str, raw: redis.Redis, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(redis_url, tmp_path, raw)
    settings.use(None)  # a drain makes the bench's server that of this process


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


@pytest.mark.every_server
@pytest.mark.parametrize(("kind", "most"), [("bulk", 215), ("bulk_unique", 340)])
def test_a_job_takes_no_more_bytes_than_its_budget(bench: Bench, kind: str, most: int) -> None:
    before = int(cast("dict[str, int]", bench.redis.info("memory"))["used_memory"])
    bench.side(kind, 2 * N)
    after = int(cast("dict[str, int]", bench.redis.info("memory"))["used_memory"])
    assert (after - before) / (2 * N) <= most


@pytest.mark.parametrize("kind", ["bulk", "bulk_unique"])
def test_a_drain_settles_and_fetches_many_jobs_with_one_script(bench: Bench, kind: str) -> None:
    system, files = Qik(), Files(bench.folder / "drain")
    Store(bench.redis_url, birth_ms=0).look()  # nothing is held back, as it is after a loss
    bench.redis.sadd("paused", "bench")
    bench.side(kind, N - 1)
    system.last = N - 1
    configure(redis=bench.redis_url)
    with worker(system, bench, N, files):
        wait_for(lambda: system.ready(bench, files), "the worker")
        bench.redis.config_resetstat()
        system.release(bench)
        appears(files.done, "the last job")
        calls = _calls(bench)
    assert calls["evalsha"] <= N / 50
    assert calls["hdel"] <= 2 * calls["evalsha"]
    assert calls["hset"] <= 3 * calls["evalsha"]
    assert sum(calls.values()) <= N / 2
