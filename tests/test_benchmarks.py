"""The benchmark judges before it counts: rounds that lost work are void, and ratios come from pairs of one moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from benchmarks import checks, costs, running, show, sidekiq
from benchmarks.bench import ROOT, Bench
from benchmarks.cases import CASES, Case
from benchmarks.drains import drain
from benchmarks.names import CaseName, Figure
from benchmarks.report import LIMIT, OURS, Line, Measure, Results
from benchmarks.watches import idle_cpu
from benchmarks.workers import Qik, Tally
from tests import servers


def _results(*rates: tuple[str, float]) -> Results:
    """Return what rounds have come to, each system's in their order."""
    rounds: Counter[str] = Counter()
    found = Results()
    for system, value in rates:
        found.measures.append(Measure(CaseName.PUSH, system, 1000, value, round=rounds[system]))
        rounds[system] += 1
    return found


def test_a_result_is_the_median_of_its_rounds_and_a_share_of_the_limit() -> None:
    rates = [(OURS, 100.0), (OURS, 400.0), (OURS, 200.0), (LIMIT, 800.0), (LIMIT, 400.0)]
    ours = _results(*rates, (LIMIT, 300.0)).lines({})[0]
    assert (ours.value, ours.min, ours.max) == (200.0, 100.0, 400.0)
    assert (ours.limit, ours.ratio) == (400.0, 0.5)


def test_ours_is_compared_with_the_peer_round_by_round() -> None:
    # The machine was slow in the second round: medians of each side alone would say 4.
    results = _results((OURS, 100.0), ("peer", 50.0), (OURS, 10.0), ("peer", 5.0))
    assert results.versus(CaseName.PUSH, "peer") == 2.0
    assert results.versus(CaseName.PUSH, "nobody") is None
    assert [line.versus for line in results.lines({})] == [None, 2.0]


def test_figures_of_one_case_are_told_apart() -> None:
    waits = [Measure(CaseName.LATENCY, OURS, 9, 0.5, figure=Figure.P50)]
    waits += [Measure(CaseName.LATENCY, OURS, 9, 2.0, figure=Figure.P99)]
    lines = Results(waits).lines({})
    assert [(line.figure, line.value) for line in lines] == [(Figure.P50, 0.5), (Figure.P99, 2.0)]


def test_a_result_travels_as_one_line_of_json_with_its_versions() -> None:
    line = _results((OURS, 100.0), (LIMIT, 200.0)).lines({"python": "3"})[0]
    text = line.to_json()
    values = json.loads(text)
    assert "\n" not in text
    assert (values["case"], values["system"], values["n"]) == ("push", OURS, 1000)
    assert (values["per_second"], values["min"], values["max"]) == (100, 100, 100)
    assert (values["limit_per_second"], values["ratio"]) == (200, 0.5)
    assert values["versions"] == {"python": "3"}
    assert Line.from_json(text) == line


def test_what_is_no_rate_is_not_told_as_one() -> None:
    (line,) = Results([Measure(CaseName.BYTES, OURS, 9, 170.0, figure=Figure.BYTES)]).lines({})
    values = json.loads(line.to_json())
    assert (values["value"], values["figure"]) == (170.0, Figure.BYTES)
    assert values["per_second"] is None


def test_what_was_wrong_in_any_round_makes_the_case_void() -> None:
    wrong = ("jobs: 9, not 10",)
    rounds = [Measure(CaseName.PUSH, OURS, 10, 1.0, each) for each in ((), wrong)]
    (line,) = Results(rounds).lines({})
    assert line.void == wrong
    assert json.loads(line.to_json())["void"] == list(wrong)


def test_a_page_shows_medians_and_says_void_where_a_round_was() -> None:
    good, bad = _results((OURS, 100.0), (LIMIT, 400.0)).lines({"python": "3"})
    page = show.markdown([good, replace(bad, void=("jobs: 9, not 10",))])
    assert "| push | qik | 1,000 | 100 | 100 | 100 | jobs/s | 0.25 |  |" in page
    assert "| push | limit | 1,000 | VOID |" in page
    assert page.endswith("python 3\n")


def test_a_chart_has_the_best_first_and_leaves_out_what_is_void() -> None:
    lines = _results((OURS, 100.0), ("peer", 50.0), ("broken", 900.0)).lines({})
    lines[2] = replace(lines[2], void=("jobs: 9, not 10",))
    chart = show.chart(lines).splitlines()
    assert [row.split()[0] for row in chart[1:3]] == [OURS, "peer"]
    assert chart[1].count("█") == 2 * chart[2].count("█")
    assert "broken" not in show.chart(lines)


@pytest.fixture
def bench(redis_url: str, raw: redis.Redis, tmp_path: Path) -> Bench:
    return Bench(redis_url, tmp_path, raw)


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


def test_a_drain_that_ran_a_job_twice_makes_the_round_void() -> None:
    assert checks.counted(3, Tally(calls=3, distinct=3, sum=3)) == ()
    assert checks.counted(3, Tally(calls=4, distinct=3, sum=3)) == ("calls: 4, not 3",)


def test_a_drain_that_left_a_job_behind_makes_the_round_void(bench: Bench) -> None:
    bench.redis.hset("qik:working:somebody", mapping={"#": "1:1", "1.1": "{}"})
    assert checks.left(bench.redis) == ("working: 1, not 0",)


def _needs_sidekiq() -> None:
    if sidekiq.versions() is None:
        servers.absent("ruby-sidekiq")


@pytest.mark.parametrize("kind", ["push", "bulk"])
def test_sidekiq_pushes_what_it_is_asked_to(bench: Bench, kind: str) -> None:
    _needs_sidekiq()
    sidekiq.Sidekiq().push(bench, kind, 1000)
    assert checks.pushed(bench.redis, 1000) == ()


def test_sidekiq_drains_every_job_once(bench: Bench) -> None:
    _needs_sidekiq()
    seconds, wrong = drain(sidekiq.Sidekiq(), bench, 1000)
    assert wrong == ()
    assert seconds > 0


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    """One server and one folder for all cases: the rows of passes are made once."""
    with running.private("") as bench:
        yield bench


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_every_case_runs_by_ours_and_as_the_raw_operation(shared: Bench, case: Case) -> None:
    systems = case.systems(())
    n = case.n if case.fixed else case.step
    for name in (OURS, LIMIT):
        measures = systems[name](shared, n, 0)
        assert [each.wrong for each in measures] == [()] * len(measures)
        assert {(each.case, each.system) for each in measures} == {(case.name, name)}
        assert all(each.value >= 0 for each in measures)


def test_an_idle_worker_that_leaves_something_behind_makes_the_round_void(bench: Bench) -> None:
    class Busy(Qik):
        def release(self, bench: Bench) -> bool:
            bench.redis.zadd("dead", {"a job": 1.0})
            return super().release(bench)

    (measure,) = idle_cpu(Busy())(bench, 1, 0)
    assert measure.wrong == ("dead: 1, not 0",)


def test_the_list_of_cases_is_closed_and_each_is_there_once() -> None:
    assert [case.name for case in CASES] == list(CaseName)


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


def _table(*words: str | Path) -> str:
    command = [sys.executable, "-m", "benchmarks", "table", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_results_become_the_table_of_a_page(tmp_path: Path) -> None:
    file, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    lines = _results((OURS, 100.0), (LIMIT, 400.0)).lines({"python": "3"})
    file.write_text("".join(f"{line.to_json()}\n" for line in lines))
    page.write_text("# Page\n\n<!-- figures -->\nolder\n<!-- end of figures -->\n\nThe end.\n")
    assert _table(file) == show.markdown(lines)
    assert _table(file, "--into", page) == ""
    begin, end = "# Page\n\n<!-- figures -->\n\n", "\n<!-- end of figures -->\n\nThe end.\n"
    assert page.read_text() == begin + show.markdown(lines) + end


def test_the_page_of_this_project_has_room_for_figures_and_costs() -> None:
    page = (ROOT / "docs" / "explanation" / "performance.md").read_text()
    for mark in ("figures", "costs"):
        assert "\nnew\n" in show.put(page, mark, "new")
    with pytest.raises(ValueError, match="<!-- others -->"):
        show.put(page, "others", "new")


def test_each_step_has_its_cost_in_python_and_in_redis(shared: Bench) -> None:
    found = {cost.step: cost for cost in costs.costs(shared, 1000)}
    assert {"push", "bulk_unique", "drain after bulk", "pass, all told"} <= set(found)
    assert all(cost.redis > 0 and cost.commands > 0 for cost in found.values())
    assert found["push"].scripts >= 1
    assert found["bulk"].scripts < 0.1
    assert found["drain after bulk"].row().startswith("| drain after bulk | ")
