from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core.errors import DefinitionError
from qik_core.passes import Passes
from reconciler import Backpressure
from reconciler.passes import Pass, Tools
from reconciler.pressure import Gates
from reconciler.report import Outcome, Report
from tests.reconciler.shop import Item, fill, items

PENDING = select(Item.id).where(Item.state == "pending")
MARKS = Backpressure(high=100, low=20)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough: gates look at Redis."""
    return sqlite_url


def run(definition: Any, tools: Tools) -> Report:
    return Pass(definition, tools, 1, lambda: None).run()


def test_a_pass_fills_the_queue_up_to_its_mark_with_the_most_urgent_rows(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 301), rank=5)
    fill(home, range(301, 351), rank=1)

    definition = items(PENDING, order_by=Item.rank, backpressure=MARKS, batch_size=70)
    report = run(definition, tools)

    assert report.outcome is Outcome.GATED
    assert report.reason.endswith("up to 100, and go on at 20; the rest stays in SQL")
    assert report.codes == {"enqueued": 100}
    told = {
        int(each.partition(b'"args":[')[2].partition(b"]")[0])
        for each in raw.lrange("queue:work", 0, -1)
    }
    assert told == {*range(301, 351), *range(1, 51)}


def test_a_pass_that_was_gated_waits_for_the_low_mark(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 301))
    definition = items(PENDING, backpressure=MARKS)
    run(definition, tools)
    assert run(definition, tools).codes == {"told": 100}

    while raw.llen("queue:work") > 21:
        raw.lpop("queue:work")
    assert not tools.gates.opened(definition)
    assert tools.gates.room(definition)[0] == 0
    raw.lpop("queue:work")
    assert tools.gates.opened(definition)
    assert tools.gates.room(definition) == (
        80,
        "20 jobs wait on work: passes fill it up to 100, and go on at 20",
    )


def test_jittered_jobs_of_passes_count_and_edges_are_not_refused(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 301))
    definition = items(PENDING, backpressure=MARKS, jitter=60)

    assert run(definition, tools).codes == {"enqueued": 100}
    assert raw.zcard("qik:later:work") == 100
    assert run(definition, tools).codes == {"told": 100}
    assert tools.seam.push(definition.job, [(300,)]).codes == ["enqueued"]


def test_passes_wait_while_redis_is_fuller_than_they_may_fill_it(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, [1])
    definition = items(PENDING, backpressure=Backpressure(memory=0.5))
    raw.config_set("maxmemory", int(raw.info("memory")["used_memory"] * 1.5))

    report = run(definition, tools)

    assert report.outcome is Outcome.GATED
    assert "passes wait from 50% on" in report.reason
    raw.config_set("maxmemory", 0)
    assert tools.gates.opened(definition)
    assert run(definition, tools).codes == {"enqueued": 1}


def test_a_health_hook_gates_with_its_reason_and_so_does_one_that_fails(
    home: Engine, tools: Tools
) -> None:
    fill(home, [1])
    unwell: list[str] = ["the replica is behind"]

    def replica() -> str | None:
        return unwell[0] if unwell else None

    definition = items(PENDING, backpressure=Backpressure(health=[replica]))
    assert run(definition, tools).reason == "the replica is behind; the rest stays in SQL"
    unwell.clear()
    assert run(definition, tools).codes == {"enqueued": 1}

    fill(home, [2])
    broken = items(PENDING, name="Broken", backpressure=Backpressure(health=[lambda: str(1 / 0)]))
    report = run(broken, tools)
    assert (report.outcome, report.codes) == (Outcome.GATED, {"told": 1})
    assert "failed: ZeroDivisionError" in report.reason


def test_gates_of_two_reconcilers_are_shut_apart(seam: Passes, home: Engine) -> None:
    gates = Gates(seam)
    one = items(PENDING, backpressure=Backpressure(high=1))
    other = items(PENDING, name="Other")
    seam.push(one.job, [(1,)])

    assert gates.room(one)[0] == 0
    assert gates.room(other) == (None, "")
    assert not gates.opened(other)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"high": 0}, "Use 1 or more"),
        ({"high": 10, "low": 10}, "Use low < high"),
        ({"low": 10}, "Use low < high"),
        ({"memory": 0}, "share of Redis' maxmemory"),
        ({"memory": 1.5}, "share of Redis' maxmemory"),
        ({"health": [1]}, "cannot be called"),
    ],
)
def test_marks_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        Backpressure(**options)
