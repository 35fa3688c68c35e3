from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core import Job
from qik_core.flushing import Found
from reconciler import Occurrences, Reconciler, Shards, derive, derive_sharded
from reconciler.derivable import Derivable, Fate
from reconciler.engines import Engines
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.test_derivable import HOME, PENDING, fates, found

declare: Any = derive  # of a column that may be NULL
TOLD, STALE, LOST = Fate.REDERIVABLE, Fate.STALE, Fate.LOST


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: the question itself is asked of each next door."""
    return sqlite_url


def why(engines: Engines, jobs: list[Found]) -> tuple[set[Fate | None], str]:
    judge = Derivable(engines)
    return set(judge.fates(jobs)), "; ".join(judge.why.values())


def test_a_class_that_no_reconciler_tells_is_lost(home: Engine, engines: Engines) -> None:
    class Mail(Job):
        def perform(self, to: str) -> None: ...

    assert why(engines, found(Mail, [("a",)])) == ({LOST}, "no reconciler tells it")


def test_a_class_that_only_a_reconciler_in_shadow_tells_is_lost(
    home: Engine, engines: Engines
) -> None:
    work = items(PENDING, shadow=True).job
    fill(home, [1])

    said, reason = why(engines, found(work, [(1,)]))

    assert said == {LOST}
    assert "shadow" in reason


def test_a_class_that_nobody_defines_is_lost(home: Engine, engines: Engines) -> None:
    raw = b'{"qik":"-","jid":"a","queue":"work","class":"Gone","args":[]}'
    job = Found.of(raw, HOME)
    assert job is not None

    assert why(engines, [job]) == ({LOST}, "no imported module defines it")


def test_a_job_whose_arguments_do_not_fit_is_lost_and_the_others_of_its_class_are_not(
    home: Engine, engines: Engines
) -> None:
    work = items(PENDING).job
    fill(home, [1])
    raw = b'{"qik":"-","jid":"a","queue":"work","class":"Work","args":[1,2,3]}'
    bad = Found.of(raw, HOME)
    assert bad is not None

    judge = Derivable(engines)

    assert judge.fates([bad, *found(work, [(1,)])]) == [LOST, TOLD]
    assert "arguments" in judge.why["Work"]


def test_a_job_that_runs_whatever_its_row_says_is_lost_when_its_row_is_done(
    home: Engine, engines: Engines
) -> None:
    work = items(PENDING, recheck=False).job
    fill(home, [1])

    assert fates(engines, found(work, [(1,), (2,)])) == [TOLD, LOST]


def test_a_class_whose_rows_cannot_be_found_from_its_arguments_is_lost(
    home: Engine, engines: Engines
) -> None:
    class Work(Job, unique_for=60):
        def perform(self, key: str) -> None: ...

    class Items(Reconciler, every=60):
        pending = derive(Work, PENDING, args=lambda row: (f"item {row.id}",))

    fill(home, [1])

    said, reason = why(engines, found(Work, [("item 1",)]))

    assert said == {LOST}
    assert "args=" in reason


def test_rows_of_a_shard_that_cannot_be_reached_count_as_lost(
    home: Engine, engines: Engines, database_url: str
) -> None:
    class Work(Job, unique_for=60):
        def perform(self, shard: str, item_id: int) -> None: ...

    shards = Shards(lambda: {"a": database_url, "b": "sqlite:////nowhere/at/all.db"})

    class Items(Reconciler, every=60, shards=shards):
        pending = derive_sharded(Work, PENDING)

    fill(home, [1])

    judge = Derivable(engines)

    assert judge.fates(found(Work, [("a", 1), ("b", 1), ("a", 2)])) == [TOLD, LOST, STALE]
    assert "cannot be asked for" in judge.why["Work"]


def test_a_slot_that_no_pass_looks_back_to_is_lost(home: Engine, engines: Engines) -> None:
    class Report(Job, unique_for=60):
        def perform(self, slot: datetime) -> None: ...

    class Daily(Occurrences, schedule="0 6 * * *", tz="UTC", catchup=timedelta(days=7)):
        done = declare(Report, select(Item.since).where(Item.state == "done"))

    now = datetime(2026, 3, 20, 12, tzinfo=UTC)
    fill(home, [1], since=datetime(2026, 3, 19, 6, tzinfo=UTC).replace(tzinfo=None), state="done")
    slots = [datetime(2026, 3, day, 6, tzinfo=UTC) for day in (20, 19, 2)]

    said = fates(engines, found(Report, [(each,) for each in slots]), now=now.timestamp)

    assert said == [TOLD, STALE, LOST]


def test_a_class_without_tenants_is_nobodys(home: Engine, engines: Engines) -> None:
    work = items(PENDING).job
    fill(home, [1])

    assert fates(engines, found(work, [(1,)]), tenant="7") == [None]
    assert not Derivable(engines, tenant="7").has_tenants()


def test_an_old_name_of_a_class_stands_for_the_class(home: Engine, engines: Engines) -> None:
    class New(Job, name="New", aliases=("Old",), unique_for=60):
        def perform(self, item_id: int) -> None: ...

    class Items(Reconciler, every=60):
        pending = derive(New, PENDING)

    fill(home, [1])
    raw = b'{"qik":"-","jid":"a","queue":"work","class":"Old","args":[1]}'
    job = Found.of(raw, HOME)
    assert job is not None

    assert job.name == "New"
    assert fates(engines, [job]) == [TOLD]
