from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, insert, select

from qik_core import Job
from qik_core.flushing import Found, Home, Place
from reconciler import Reconciler, derive
from reconciler.derivable import Derivable, Fate
from reconciler.engines import Engines
from tests.reconciler.shop import Item, Member, fill, items

HOME = Home(Place.QUEUED, b"queue:work")
TOLD, STALE, LOST = Fate.REDERIVABLE, Fate.STALE, Fate.LOST
PENDING = select(Item.id).where(Item.state == "pending")


def found(job: Any, rows: Iterable[tuple[Any, ...]]) -> list[Found]:
    """Return jobs as they are read in Redis."""
    built = job.definition.build(list(rows), 1_700_000_000.0)
    made = [Found.of(raw, HOME) for raw in built.payloads]
    return [each for each in made if each is not None]


def fates(engines: Engines, jobs: list[Found], **rest: Any) -> list[Fate | None]:
    return Derivable(engines, **rest).fates(jobs)


def test_a_row_that_matches_is_told_again_and_one_that_does_not_is_stale(
    home: Engine, engines: Engines
) -> None:
    work = items(PENDING).job
    fill(home, [1, 2])
    fill(home, [3], state="done")

    assert fates(engines, found(work, [(1,), (3,), (2,), (4,)])) == [TOLD, STALE, TOLD, STALE]


def test_jobs_of_many_classes_are_told_apart(home: Engine, engines: Engines) -> None:
    work = items(PENDING).job

    class Mail(Job):
        def perform(self, to: str) -> None: ...

    fill(home, [1])
    (one,), (two,) = found(work, [(1,)]), found(Mail, [("a",)])

    assert fates(engines, [two, one, two]) == [LOST, TOLD, LOST]


def test_a_row_that_is_due_tomorrow_is_told_tomorrow(home: Engine, engines: Engines) -> None:
    work = items(PENDING, run_at=Item.since).job
    now = datetime.now(UTC).replace(tzinfo=None)
    fill(home, [1], since=now + timedelta(days=1))

    assert fates(engines, found(work, [(1,)])) == [TOLD]


def test_a_tenant_is_compared_as_its_column_has_it(home: Engine, engines: Engines) -> None:
    class Join(Job, unique_for=60):
        def perform(self, org_id: int, user_id: int) -> None: ...

    class Members(Reconciler, every=60):
        pending = derive(Join, select(Member.org_id, Member.user_id), tenant=Member.org_id)

    rows = [
        {"org_id": org, "user_id": 1, "email": f"{org}", "token": UUID(int=org)} for org in (7, 8)
    ]
    with home.begin() as connection:
        connection.execute(insert(Member), rows)
    jobs = found(Join, [(7, 1), (8, 1), (7, 2)])

    assert fates(engines, jobs, tenant="7") == [TOLD, None, None]
    assert fates(engines, jobs, tenant="no number") == [None, None, None]
