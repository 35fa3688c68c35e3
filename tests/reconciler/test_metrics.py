from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

from qik_core.passes import Passes
from qik_core.switches import Snapshot
from reconciler.definition import Definition
from reconciler.drift import Cause
from reconciler.lease import Leases
from reconciler.metrics import STANDS_STILL, Metrics
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from reconciler.tables import row_state
from tests.databases import on
from tests.probing import check_with_promtool, samples
from tests.reconciler.shop import Item, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(tools: Tools, definition: Definition, metrics: Metrics) -> None:
    metrics.told(Pass(definition, tools, 1, lambda: None).run())


def page(metrics: Metrics) -> dict[str, float]:
    return samples(metrics.answer("/metrics").body)


@pytest.fixture
def definition() -> Definition:
    return items(PENDING)


@pytest.fixture
def metrics(definition: Definition, home: Engine, seam: Passes) -> Metrics:
    return Metrics([definition], home, seam)


def report(outcome: Outcome, seconds: float = 0.02, **details: Any) -> Report:
    return Report("Items", outcome, "", seconds, 7, 1, 100, {"told": 5}, details=details)


@on("sqlite")
def test_everything_is_there_as_zero_before_the_first_pass(metrics: Metrics) -> None:
    seen = page(metrics)

    for outcome in Outcome:
        name = f'controller_runtime_reconcile_total{{controller="Items",result="{outcome}"}}'
        assert seen[name] == 0
    for cause in Cause:
        assert seen[f'qik_recovered_rows_total{{controller="Items",cause="{cause}"}}'] == 0
    assert seen['controller_runtime_reconcile_time_seconds_count{controller="Items"}'] == 0
    assert seen['qik_quarantined_rows{class="Work"}'] == 0
    assert (seen["qik_sql_up"], seen["qik_reconciler_redis_up"]) == (1, 1)


@on("sqlite")
def test_passes_are_counted_by_outcome_time_rows_and_cause(metrics: Metrics) -> None:
    metrics.told(report(Outcome.COMPLETED, drift={"flush": 3}))
    metrics.told(report(Outcome.COMPLETED, 7.0))
    metrics.told(report(Outcome.FAILED))

    seen = page(metrics)
    total = "controller_runtime_reconcile_total"
    assert seen[total + '{controller="Items",result="completed"}'] == 2
    assert seen[total + '{controller="Items",result="failed"}'] == 1
    assert seen['controller_runtime_reconcile_errors_total{controller="Items"}'] == 1
    time = "controller_runtime_reconcile_time_seconds"
    assert seen[time + '_bucket{controller="Items",le="0.025"}'] == 2
    assert seen[time + '_bucket{controller="Items",le="10"}'] == 3
    assert seen[time + '_sum{controller="Items"}'] == pytest.approx(7.04)
    assert seen['qik_scanned_rows_total{controller="Items"}'] == 21
    assert seen['qik_pass_rows_total{controller="Items",code="told"}'] == 15
    assert seen['qik_recovered_rows_total{controller="Items",cause="flush"}'] == 3


def test_sql_says_what_is_pending_and_who_holds_the_lease(
    metrics: Metrics, definition: Definition, home: Engine, tools: Tools
) -> None:
    fill(home, range(1, 31))
    leases = Leases(home, ["Items"], 30.0, holder="me")
    leases.register()
    leases.renew()
    metrics.holder = "me"
    run(tools, definition, metrics)

    seen = page(metrics)
    by = '{controller="Items"}'
    assert seen["qik_pending_rows" + by] == 30
    assert seen["qik_untold_rows" + by] == 0
    assert (seen["qik_lease_held" + by], seen["qik_lease_here" + by]) == (1, 1)
    assert seen["qik_lease_term" + by] == 1
    assert seen["qik_pass_interval_seconds" + by] == 60
    assert seen["qik_last_success_timestamp_seconds" + by] > 1e9
    assert seen["qik_time_to_whole_seconds" + by] > 1
    assert seen["qik_switched_off" + by] == 0
    metrics.holder = "another"
    assert page(metrics)["qik_lease_here" + by] == 0


def test_rows_are_untold_when_redis_has_lost_its_data(
    metrics: Metrics, definition: Definition, home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 31))
    run(tools, definition, metrics)
    told = json.loads(metrics.answer("/scale").body)
    raw.flushall()

    lost = json.loads(metrics.answer("/scale").body)

    assert (told["backlog"], told["queues"]["work"]["told"]) == (30, 30)
    work = lost["queues"]["work"]
    assert (work["told"], work["untold"], work["backlog"]) == (0, 30, 30)
    assert (lost["backlog"], lost["unknown"]) == (30, [])
    assert page(metrics)['qik_untold_rows{controller="Items"}'] == 30


def test_what_sql_remembers_of_units_that_are_gone_is_not_told(
    metrics: Metrics, definition: Definition, home: Engine, tools: Tools
) -> None:
    run(tools, definition, metrics)
    assert 'qik_pending_rows{controller="Items"}' in page(metrics)

    metrics.units = lambda: ["Items/new"]

    seen = page(metrics)
    assert seen['qik_pass_interval_seconds{controller="Items/new"}'] == 60
    assert seen['qik_last_success_timestamp_seconds{controller="Items/new"}'] == 0
    assert 'qik_pending_rows{controller="Items"}' not in seen
    assert 'qik_lease_held{controller="Items"}' not in seen


def test_rows_in_quarantine_are_counted_by_class(metrics: Metrics, home: Engine) -> None:
    rows = [
        {"job_class": "Work", "key_digest": f"{each:022}", "key": "[1]", "state": state}
        for each, state in enumerate(["quarantined", "quarantined", "waiting"])
    ]
    with home.begin() as connection:
        connection.execute(
            insert(row_state), [{**row, "reason": "", "first_at": 0, "last_at": 0} for row in rows]
        )

    assert page(metrics)['qik_quarantined_rows{class="Work"}'] == 2


@on("sqlite")
def test_processes_that_go_by_older_switches_are_counted_apart(
    metrics: Metrics, seam: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = seam.publish(Snapshot(version=1_700_000_000_000, known=True))
    monkeypatch.setattr(seam, "switches_seen", lambda: {"a": version, "b": version - 5, "c": 0})

    seen = page(metrics)

    assert seen['qik_switches_processes{current="true"}'] == 1
    assert seen['qik_switches_processes{current="false"}'] == 2


def test_what_sql_and_redis_know_is_left_out_while_they_are_away(
    definition: Definition, raw: Any, redis_url: str, seam: Passes, broken: Engine
) -> None:
    metrics = Metrics([definition], broken, seam)
    metrics.told(report(Outcome.COMPLETED))

    seen = page(metrics)

    assert (seen["qik_sql_up"], seen["qik_reconciler_redis_up"]) == (0, 1)
    assert seen['controller_runtime_reconcile_total{controller="Items",result="completed"}'] == 1
    assert not [name for name in seen if name.startswith("qik_pending_rows")]
    assert metrics.answer("/readyz").status == 503
    assert metrics.answer("/readyz").body.startswith("SQL: ")
    assert metrics.answer("/scale").status == 503


@pytest.fixture
def broken(engines: Any) -> Engine:
    """A database without our tables."""
    found: Engine = engines.home()
    return found


@on("sqlite")
def test_a_process_that_looks_after_nothing_is_not_alive(
    definition: Definition, home: Engine, seam: Passes
) -> None:
    clock = Clock()
    metrics = Metrics([definition], home, seam, clock)
    clock.now += STANDS_STILL + 1
    assert metrics.answer("/livez").status == 503

    metrics.turned()

    assert metrics.answer("/livez").status == 200
    assert metrics.answer("/readyz").status == 200
    assert metrics.answer("/nothing").status == 404


@on("sqlite")
def test_prometheus_finds_no_fault_with_what_reconcilers_answer(
    metrics: Metrics, definition: Definition, tools: Tools, promtool: str
) -> None:
    run(tools, definition, metrics)

    check_with_promtool(promtool, metrics.answer("/metrics").body)
