"""The benchmark judges before it counts: rounds that lost work are void, and ratios come from pairs of one moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from benchmarks import checks, sidekiq
from benchmarks.bench import ROOT, Bench
from benchmarks.report import LIMIT, OURS, Measure, Results
from benchmarks.workers import Qik, drain
from qik_core import settings
from tests import servers


def _results(*rates: tuple[str, float]) -> Results:
    return Results([Measure("push", system, 1000, 1000 / rate) for system, rate in rates])


def test_a_result_is_the_median_of_its_rounds_and_a_share_of_the_limit() -> None:
    rates = [(OURS, 100.0), (OURS, 400.0), (OURS, 200.0), (LIMIT, 800.0), (LIMIT, 400.0)]
    ours = _results(*rates, (LIMIT, 300.0)).summaries()[0]
    assert (ours.per_second, min(ours.rates), max(ours.rates)) == (200.0, 100.0, 400.0)
    assert ours.ratio == 0.5


def test_ours_is_compared_with_the_peer_round_by_round() -> None:
    # The machine was slow in the second round: medians of each side alone would say 4.
    results = _results((OURS, 100.0), ("peer", 50.0), (OURS, 10.0), ("peer", 5.0))
    assert results.versus("push", "peer") == 2.0
    assert results.versus("push", "nobody") is None


def test_a_result_travels_as_one_line_of_json_with_its_versions() -> None:
    line = _results((OURS, 100.0), (LIMIT, 200.0)).summaries()[0].to_json({"python": "3"})
    values = json.loads(line)
    assert "\n" not in line
    assert values["case"] == "push"
    assert values["system"] == OURS
    assert (values["n"], values["seconds"], values["per_second"]) == (1000, 10.0, 100)
    assert (values["limit_per_second"], values["ratio"]) == (200, 0.5)
    assert values["versions"] == {"python": "3"}


def test_what_was_wrong_in_any_round_makes_the_case_void() -> None:
    good, bad = Measure("push", OURS, 10, 1.0), Measure("push", OURS, 10, 1.0, ("jobs: 9, not 10",))
    (summary,) = Results([good, bad]).summaries()
    assert summary.wrong == ("jobs: 9, not 10",)
    assert json.loads(summary.to_json({}))["void"] == ["jobs: 9, not 10"]


@pytest.fixture
def bench(redis_url: str, raw: redis.Redis, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(redis_url, tmp_path, raw)
    settings.use(None)  # a drain makes the bench's server that of this process


def test_pushes_that_are_all_there_pass(bench: Bench) -> None:
    bench.side("bulk", 1000)
    assert checks.pushed(bench.redis, 1000) == ()


def test_pushes_with_locks_have_one_lock_each(bench: Bench) -> None:
    bench.side("bulk_unique", 1000)
    assert checks.pushed(bench.redis, 1000, locks=1000) == ()
    assert checks.pushed(bench.redis, 1000) == ("locks: 1000, not 0",)


def test_a_push_that_is_missing_makes_the_round_void(bench: Bench) -> None:
    bench.side("push", 20)
    bench.redis.lpop("queue:bench")
    assert "jobs: 19, not 20" in checks.pushed(bench.redis, 20)


def test_a_drain_that_ran_a_job_twice_makes_the_round_void(bench: Bench) -> None:
    wrong = checks.drained(bench.redis, 3, {"calls": 4, "distinct": 3, "sum": 3})
    assert wrong == ("calls: 4, not 3",)


def test_a_drain_that_left_a_job_behind_makes_the_round_void(bench: Bench) -> None:
    bench.redis.hset("qik:working:somebody", mapping={"#": "1:1", "1.1": "{}"})
    wrong = checks.drained(bench.redis, 3, {"calls": 3, "distinct": 3, "sum": 3})
    assert wrong == ("working: 1, not 0",)


def _needs_sidekiq() -> None:
    if sidekiq.versions() is None:
        servers.absent("ruby-sidekiq")


@pytest.mark.parametrize("kind", ["push", "bulk"])
def test_sidekiq_pushes_what_it_is_asked_to(bench: Bench, kind: str) -> None:
    _needs_sidekiq()
    sidekiq.push(bench, kind, 1000)
    assert checks.pushed(bench.redis, 1000) == ()


def test_sidekiq_drains_every_job_once(bench: Bench) -> None:
    _needs_sidekiq()
    seconds, wrong = drain(sidekiq.Sidekiq(), bench, 1000, 0)
    assert wrong == ()
    assert seconds > 0


def test_our_worker_drains_every_job_once(bench: Bench) -> None:
    seconds, wrong = drain(Qik(), bench, 1000, 0)
    assert wrong == ()
    assert seconds > 0


def test_the_command_prints_a_table_and_writes_one_line_per_system(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    command = [
        "benchmarks",
        "--only",
        "push",
        "--rounds",
        "1",
        "--scale",
        "0.05",
        "--json",
        str(file),
    ]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(line) for line in file.read_text().splitlines()]
    assert {OURS, LIMIT} <= {result["system"] for result in results}
    assert all(result["versions"]["python"] for result in results)
    assert "push" in done.stdout
