"""Which rows a drill counts as owed a job, and which passes leave out on purpose: as passes themselves choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core import Job
from qik_core.passes import EndedKind, Passes
from qik_core.switches import Rule, Snapshot
from reconciler import Fair, Quarantine, Reconciler, derive
from reconciler.definition import Definition
from reconciler.drill.rows import Rows
from reconciler.engines import Engines
from reconciler.quarantine import RowStates
from tests.reconciler.ends import end
from tests.reconciler.shop import Item, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


@pytest.fixture
def engines(sqlite_url: str) -> Iterator[Engines]:
    made = Engines({"default": sqlite_url})
    yield made
    made.dispose()


def held(definition: Definition, engines: Engines, seam: Passes) -> dict[str, str]:
    """Why rows are left out, by what they are called."""
    rows = Rows([definition], engines, seam)
    pending = rows.pending()
    return {pending[key].name: why for key, why in rows.held().items()}


def test_rows_are_owed_a_job_within_the_min_age_and_the_every_of_their_reconciler(
    engines: Engines, home: Engine, seam: Passes
) -> None:
    fill(home, [1], since=datetime.now(UTC).replace(tzinfo=None))
    definition = items(PENDING, age=Item.since, min_age=timedelta(minutes=5), every=60)
    rows = Rows([definition], engines, seam)

    assert [(row.name, row.within) for row in rows.pending().values()] == [("Work 1", 360.0)]
    assert rows.held() == {}  # it is young, and its time comes


def test_rows_of_a_reconciler_in_shadow_are_held_back_the_young_ones_too(
    engines: Engines, home: Engine, seam: Passes
) -> None:
    fill(home, [1])
    fill(home, [2], since=datetime.now(UTC).replace(tzinfo=None))
    definition = items(PENDING, age=Item.since, min_age=300, shadow=True)

    assert held(definition, engines, seam) == {"Work 1": "shadow", "Work 2": "shadow"}


def test_a_row_that_another_reconciler_tells_is_not_held_back(
    engines: Engines, home: Engine, seam: Passes
) -> None:
    class Work(Job, unique_for=3600):
        def perform(self, item_id: int) -> None: ...

    class New(Reconciler, every=60, shadow=True):
        pending = derive(Work, PENDING)

    class Old(Reconciler, every=60):
        pending = derive(Work, PENDING.where(Item.id < 3))

    fill(home, range(1, 5))
    rows = Rows([Old.definition, New.definition], engines, seam)

    assert len(rows.held()) == 2


def test_rows_beyond_the_share_of_their_tenant_are_held_back_the_young_ones_take_none(
    engines: Engines, home: Engine, seam: Passes
) -> None:
    fill(home, [1], note="a", since=datetime.now(UTC).replace(tzinfo=None))
    fill(home, range(2, 7), note="a")
    fill(home, [7], note="b")
    definition = items(
        PENDING, age=Item.since, min_age=300, tenant=Item.note, fair=Fair(per_tenant=3)
    )

    found = held(definition, engines, seam)

    assert found == {"Work 5": "over_share", "Work 6": "over_share"}


def test_rows_whose_jobs_do_not_end_well_and_those_that_are_late_are_held_back(
    engines: Engines, home: Engine, seam: Passes, raw: Any
) -> None:
    old, now = datetime(2020, 1, 1), datetime.now(UTC).replace(tzinfo=None)  # noqa: DTZ001
    fill(home, range(1, 5), since=now)
    fill(home, [5], since=old)
    policy = Quarantine(after=2)
    definition = items(PENDING, run_at=Item.since, late="skip", quarantine=policy)
    for key in (1, 2, 2):
        end(raw, definition, (key,), EndedKind.DIED)
    RowStates(home, seam).drain()

    found = held(definition, engines, seam)

    assert found == {"Work 1": "waiting", "Work 2": "quarantined", "Work 5": "late"}
    assert Counter(found.values()).total() == 3


def test_rows_that_a_switch_keeps_back_are_held_back(
    engines: Engines, home: Engine, seam: Passes
) -> None:
    fill(home, [1, 2])
    definition = items(PENDING)

    assert held(definition, engines, seam) == {}
    seam.publish(Snapshot(5, {"disable_work": (Rule(source="sql", reason="double charging"),)}))
    assert held(definition, engines, seam) == {"Work 1": "switched_off", "Work 2": "switched_off"}
