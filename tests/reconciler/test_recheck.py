from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, select

from qik_core import Job, rows
from qik_core.errors import QikError
from qik_core.rows import Asked, Standing
from reconciler import Reconciler, Shards, derive
from reconciler.engines import Engines
from reconciler.recheck import AWAY, QUIET, Recheck
from tests.reconciler.shop import Base, Item, change, fill, items

PENDING, GONE, UNKNOWN = Standing.PENDING, Standing.GONE, Standing.UNKNOWN
OPEN = select(Item.id).where(Item.state == "pending")


class Clock:
    """Monotonic seconds that a test moves on."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recheck(engines: Engines, clock: Clock) -> Recheck:
    return Recheck(lambda: engines, clock)


def asked(name: str, *keys: Any) -> list[Asked]:
    return [Asked(name, each if isinstance(each, tuple) else (each,), "") for each in keys]


class Counting:
    """The statements that an engine was given."""

    def __init__(self, engine: Engine, table: str) -> None:
        self.statements: list[str] = []
        self._table = table
        event.listen(engine, "before_cursor_execute", self._see)

    def _see(self, _c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if f"FROM {self._table}" in statement:
            self.statements.append(statement)


def test_rows_that_match_are_pending_and_all_others_are_gone(
    home: Engine, recheck: Recheck
) -> None:
    fill(home, range(1, 6))
    change(home, 2, 4, state="done")
    items(OPEN)

    assert recheck.look(asked("Work", 1, 2, 3, 4, 5, 6)) == [
        PENDING, GONE, PENDING, GONE, PENDING, GONE,
    ]  # fmt: skip


def test_many_jobs_cost_one_query_for_each_reconciler_of_their_class(
    home: Engine, recheck: Recheck
) -> None:
    fill(home, range(1, 201))
    items(OPEN)
    recheck.look(asked("Work", 1))
    seen = Counting(home, "item")

    found = recheck.look(asked("Work", *range(1, 251)))

    assert found == [PENDING] * 200 + [GONE] * 50
    assert len(seen.statements) == 1


def test_no_jobs_are_no_question(home: Engine, recheck: Recheck) -> None:
    assert recheck.look([]) == []


def test_a_row_that_is_too_young_for_passes_is_pending(home: Engine, recheck: Recheck) -> None:
    items(OPEN, age=Item.since, min_age=3600)
    from datetime import UTC, datetime

    fill(home, [1], since=datetime.now(UTC).replace(tzinfo=None))

    assert recheck.look(asked("Work", 1)) == [PENDING]


def two_reconcilers(job: Any, first: Any, second: Any, **options: Any) -> None:
    class First(Reconciler, every=60):
        pending = derive(job, first)

    class Second(Reconciler, every=60, **options):
        pending = derive(job, second)


def test_a_row_is_pending_if_one_of_several_reconcilers_of_the_class_says_so(
    home: Engine, recheck: Recheck
) -> None:
    class Work(Job, unique_for=60):
        def perform(self, item: int) -> None: ...

    two_reconcilers(Work, OPEN.where(Item.rank == 1), OPEN.where(Item.rank == 2))
    for rank in (1, 2, 3):
        fill(home, [rank], rank=rank)

    assert recheck.look(asked("Work", 1, 2, 3)) == [PENDING, PENDING, GONE]


def test_reconcilers_with_a_constant_of_their_own_are_asked_for_their_jobs_alone(
    home: Engine, recheck: Recheck
) -> None:
    class Report(Job, unique_for=60):
        def perform(self, kind: str, item: int) -> None: ...

    class Daily(Reconciler, every=60):
        pending = derive(Report, OPEN.where(Item.rank == 1), args=lambda row: ("daily", row.id))

    class Weekly(Reconciler, every=60):
        pending = derive(Report, OPEN.where(Item.rank == 2), args=lambda row: ("weekly", row.id))

    fill(home, [1], rank=1)
    fill(home, [2], rank=2)

    jobs = [("daily", 1), ("weekly", 1), ("daily", 2), ("weekly", 2), ("yearly", 1)]
    assert recheck.look(asked("Report", *jobs)) == [PENDING, GONE, GONE, PENDING, GONE]


def test_what_is_asked_is_known_without_a_question(home: Engine, recheck: Recheck) -> None:
    class Plain(Job, unique_for=60):
        def perform(self, item: int) -> None: ...

    class Free(Job, unique_for=60):
        def perform(self, item: int) -> None: ...

    items(OPEN)
    two_reconcilers(Free, OPEN, OPEN, recheck=False, expect_progress=False)
    seen = Counting(home, "item")

    def terms(name: str) -> tuple[bool, bool, bool]:
        return recheck.reconciled(name), recheck.checked(name), recheck.progress(name)

    assert terms("Work") == (True, True, True)
    assert terms("Plain") == (False, False, False)
    assert terms("Free") == (True, False, False)
    assert seen.statements == []


def test_one_reconciler_that_opts_out_does_so_for_all_jobs_of_the_class(
    home: Engine, recheck: Recheck
) -> None:
    class Mixed(Job, unique_for=60):
        def perform(self, item: int) -> None: ...

    two_reconcilers(Mixed, OPEN, OPEN, recheck=False)

    assert not recheck.checked("Mixed")
    assert recheck.progress("Mixed")


def test_a_reconciler_that_is_defined_later_is_known_at_once(
    home: Engine, recheck: Recheck
) -> None:
    assert not recheck.checked("Work")

    items(OPEN)

    assert recheck.checked("Work")


def test_jobs_whose_key_cannot_be_found_again_are_not_checked(
    home: Engine, recheck: Recheck
) -> None:
    class Work(Job, unique_for=60):
        def perform(self, item: str) -> None: ...

    class Odd(Reconciler, every=60):
        pending = derive(Work, OPEN, args=lambda row: (str(row.id),))

    assert recheck.reconciled("Work")
    assert not recheck.checked("Work")
    assert recheck.look(asked("Work", "1")) == [UNKNOWN]
    with pytest.raises(QikError, match="args= of its reconciler changes the key"):
        recheck.row("Work", ("1",))


# --- when it cannot be asked ------------------------------------------------------------------


def dead() -> Recheck:
    return Recheck(lambda: Engines({"default": "postgresql+psycopg://u@127.0.0.1:1/none"}), Clock())


def test_a_database_that_is_away_leaves_jobs_unchecked_and_is_not_asked_by_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engines = Engines({"default": "postgresql+psycopg://u@127.0.0.1:1/none"})
    clock = Clock()
    recheck = Recheck(lambda: engines, clock)
    items(OPEN)
    tries: list[object] = []
    event.listen(engines.home(), "do_connect", lambda *_: tries.append(1))

    with caplog.at_level(logging.WARNING, "reconciler"):
        found = [recheck.look(asked("Work", 1, 2)) for _ in range(5)]
        clock.now += AWAY + 0.1
        recheck.look(asked("Work", 1))
        clock.now += QUIET
        recheck.look(asked("Work", 1))

    assert found == [[UNKNOWN, UNKNOWN]] * 5
    assert len(tries) == 3
    said = [each for each in caplog.records if "run unchecked" in each.getMessage()]
    assert [each.__dict__["reconciler"] for each in said] == ["Items", "Items"]


def test_a_statement_that_cannot_work_leaves_jobs_unchecked(
    home: Engine, recheck: Recheck, caplog: pytest.LogCaptureFixture
) -> None:
    items(OPEN)
    with home.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE item RENAME TO moved")

    assert recheck.look(asked("Work", 1)) == [UNKNOWN]
    assert "rows cannot be asked for" in caplog.text


def test_a_database_that_the_settings_do_not_name_leaves_jobs_unchecked(
    home: Engine, recheck: Recheck, caplog: pytest.LogCaptureFixture
) -> None:
    items(OPEN, database="billing")

    assert recheck.look(asked("Work", 1)) == [UNKNOWN]
    assert [each.__dict__["error"][:38] for each in caplog.records] == [
        "no database is called 'billing' (known"
    ]


# --- shards -----------------------------------------------------------------------------------


def shard(tmp_path: Any, name: str, ids: Sequence[int]) -> Engine:
    engine = create_engine(f"sqlite:///{tmp_path}/{name}.db")
    Base.metadata.create_all(engine)
    fill(engine, ids)
    return engine


def test_a_job_of_a_shard_is_looked_up_there(tmp_path: Any) -> None:
    there = {"eu": shard(tmp_path, "eu", [1, 2]), "us": shard(tmp_path, "us", [2, 3])}

    class Sync(Job, unique_for=60):
        def perform(self, shard: str, item: int) -> None: ...

    job: Any = Sync  # of a sharded job the columns are not all arguments

    class Items(Reconciler, every=60, shards=Shards(lambda: there)):
        pending = derive(job, OPEN)

    recheck = Recheck(lambda: Engines({}))
    jobs = [("eu", 1), ("us", 1), ("eu", 3), ("us", 3), ("asia", 1), ("us", 2)]

    assert recheck.look(asked("Sync", *jobs)) == [PENDING, GONE, GONE, PENDING, UNKNOWN, PENDING]
    assert recheck.row("Sync", ("us", 3)) == (3,)
    with recheck.session("Sync", ("us", 3)) as session:
        assert session.scalars(select(Item.id)).all() == [2, 3]
    for each in there.values():
        each.dispose()


# --- rows and sessions ------------------------------------------------------------------------


def test_a_job_may_have_its_row_as_the_reconciler_selects_it(
    home: Engine, recheck: Recheck
) -> None:
    fill(home, [1], rank=7, note="hot")
    fill(home, [2])
    change(home, 2, state="done")

    class Work(Job, unique_for=60, unique_args=["item"]):
        def perform(self, item: int, note: str) -> None: ...

    class Items(Reconciler, every=60):
        pending = derive(
            Work,
            select(Item.id, Item.note, Item.rank).where(Item.state == "pending"),
            args=lambda row: (row.id, row.note or ""),
            order_by=Item.version,
        )

    row = recheck.row("Work", (1, "old"))

    assert (row.id, row.note, row.rank) == (1, "hot", 7)
    assert len(row) == 3
    assert recheck.row("Work", (2, "")) is None


def test_a_row_that_is_read_on_the_event_loop_is_warned_of_with_the_remedy(
    home: Engine, recheck: Recheck
) -> None:
    items(OPEN)
    fill(home, [1])

    class Context:
        """As the engine's, between the job and the seam."""

        row = property(lambda _: recheck.row("Work", (1,)))

    async def run() -> Any:
        return Context().row

    with pytest.warns(RuntimeWarning, match="event loop .*: await asyncio.to_thread") as caught:
        assert asyncio.run(run()) == (1,)

    assert caught[0].filename == __file__


def test_a_class_without_a_reconciler_has_neither_row_nor_session(
    home: Engine, recheck: Recheck
) -> None:
    for call in (recheck.row, recheck.session):
        with pytest.raises(QikError, match="no reconciler tells Nobody"):
            call("Nobody", (1,))


def test_the_seam_is_filled_by_importing_reconciler() -> None:
    there = rows.known()

    assert isinstance(there, Recheck)
