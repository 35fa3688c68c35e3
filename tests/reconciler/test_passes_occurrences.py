"""Whole passes over what follows a schedule, and over a replica."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, String, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job, client, rows, settings
from qik_core.embedding import EmbeddedWorker
from qik_core.passes import Passes
from qik_core.rows import Asked, Standing
from qik_core.settings import Settings
from qik_core.store import Store
from qik_core.strict import decode
from reconciler import Freshness, Occurrences, derive
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.passes import Pass, Tools
from reconciler.plan import Means, plan
from reconciler.report import Outcome, Report
from reconciler.sql import read_clock
from tests.reconciler.shop import Item, fill, items
from tests.waiting import eventually

HOUR = timedelta(hours=1)
MINUTE = (datetime.now(UTC) + HOUR / 2).minute
"""Of every slot: as far from now as can be, so that none falls due during a test."""
SCHEDULE = f"{MINUTE} * * * *"


class Base(DeclarativeBase):
    """The table of what is done."""


class Built(Base):
    __tablename__ = "built"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), default="hourly")
    slot: Mapped[datetime]


class Build(Job, queue="reports", unique_for=3600):
    def perform(self, slot: datetime) -> None: ...


def hourly(**options: Any) -> Definition:
    options.setdefault("catchup", 6 * HOUR)

    class Hourly(Occurrences, schedule=SCHEDULE, **options):
        done = derive(Build, select(Built.slot).where(Built.kind == "hourly"))

    return Hourly.definition


@pytest.fixture(autouse=True)
def tables(home: Engine) -> None:
    Base.metadata.create_all(home)


def slots_of(home: Engine) -> list[datetime]:
    """Return the six slots of the window, by the database's clock, earliest first."""
    now = datetime.fromtimestamp(read_clock(home), UTC)
    last = now.replace(minute=MINUTE, second=0, microsecond=0)
    last -= HOUR if last > now else timedelta(0)
    return [last - each * HOUR for each in range(5, -1, -1)]


def build(home: Engine, *slots: datetime) -> None:
    """Do what the job does, in columns without a zone."""
    with home.begin() as connection:
        values = [{"slot": each.replace(tzinfo=None), "kind": "hourly"} for each in slots]
        connection.execute(insert(Built), values)


def run(definition: Definition, tools: Tools) -> Report:
    return Pass(definition, tools, 1, lambda: None).run()


def told(raw: Any, queue: str = "reports") -> list[datetime]:
    jobs = [decode(each)["args"] for each in raw.lrange(f"queue:{queue}", 0, -1)]
    return sorted(datetime.fromisoformat(each[0]) for each in jobs)


def test_slots_that_were_missed_are_told_once_whoever_runs_next(
    home: Engine, tools: Tools, raw: Any
) -> None:
    slots = slots_of(home)
    build(home, *slots[:2])

    first, second = run(hourly(), tools), run(hourly(), tools)

    assert first.outcome is Outcome.COMPLETED, first.reason
    assert (first.codes, second.codes) == ({"enqueued": 4}, {"told": 4})
    assert told(raw) == slots[2:]


def test_after_a_flush_what_is_not_done_is_told_again(home: Engine, tools: Tools, raw: Any) -> None:
    slots = slots_of(home)
    run(hourly(), tools)
    build(home, *slots[:3])
    raw.flushall()

    run(hourly(), tools)

    assert told(raw) == slots[3:]


def test_with_overlap_skip_a_slot_under_way_keeps_the_next_one_back(
    home: Engine, tools: Tools, raw: Any
) -> None:
    slots = slots_of(home)
    tools.seam.push(Build, [(slots[2],)])

    waiting = run(hourly(overlap="skip"), tools)
    raw.flushall()
    build(home, slots[2])
    after = run(hourly(overlap="skip"), tools)

    assert waiting.codes == {"told": 1}
    assert after.codes == {"enqueued": 1}
    assert told(raw) == [slots[5]]


def test_jitter_spreads_slots_and_never_brings_one_forward(
    home: Engine, tools: Tools, raw: Any
) -> None:
    run(hourly(jitter=30), tools)

    assert raw.zcard("qik:later:reports") == 6


def test_a_job_whose_slot_is_done_is_skipped_and_any_other_runs(home: Engine, tools: Tools) -> None:
    slots = slots_of(home)
    build(home, slots[0])
    definition = hourly()
    never = datetime(2001, 1, 1, tzinfo=UTC)

    asked = [Asked(definition.facts.name, (each,), "") for each in (slots[0], slots[1], never)]

    assert tools.recheck.look(asked) == [Standing.GONE, Standing.PENDING, Standing.PENDING]


def test_a_plan_shows_the_slots_that_are_pending(
    home: Engine, seam: Passes, engines: Engines
) -> None:
    slots = slots_of(home)
    build(home, *slots[:4])

    made = plan(hourly(), Means(engines, seam))

    assert not made.errors
    assert made.pending is not None
    assert made.pending.rows == 2
    assert [each.key for each in made.rows] == [(slots[4],), (slots[5],)]
    assert made.page is not None
    assert "built" in made.page.sql


# --- with a worker that runs the jobs -------------------------------------------------------------


@pytest.fixture
def working(tools: Tools, redis_url: str) -> Iterator[None]:
    """A worker in this process, which looks at slots before and after its runs."""
    used = Settings(redis=redis_url, heartbeat=0.5, lease=3.0, shutdown=5.0, poll=0.1)
    used = replace(used, queues=(("reports", 1),))
    settings.use(used)
    store = Store(redis_url, birth_ms=0)  # without the hold that a loss of Redis brings
    store.look()
    store.close()
    tools.watch.look()
    with rows.filled(lambda: tools.recheck), EmbeddedWorker(used, concurrency=2):
        yield
    client.current().store.close()
    settings.use(None)


def performing(home: Engine, write: Callable[[datetime], datetime], **options: Any) -> Any:
    """Define a schedule whose job notes its slots, and writes into its row what `write` makes of them."""
    ran: list[datetime] = []

    class Perform(Job, queue="reports", unique_for=3600, retry=0):
        def perform(self, slot: datetime) -> None:
            ran.append(slot)
            build(home, write(slot))

    class Performed(Occurrences, schedule=SCHEDULE, catchup=6 * HOUR, **options):
        done = derive(Perform, select(Built.slot))

    return Performed.definition, ran


@pytest.mark.usefixtures("working")
def test_slots_run_one_after_the_other_and_each_once(home: Engine, tools: Tools) -> None:
    slots = slots_of(home)
    definition, ran = performing(home, lambda slot: slot, overlap="one")

    for each in slots:
        assert run(definition, tools).codes == {"enqueued": 1}
        eventually(partial(ended, each, definition, tools, ran), 15)

    assert ran == slots
    assert run(definition, tools).scanned == 0


@pytest.mark.usefixtures("working")
def test_a_job_that_writes_another_moment_than_its_slot_has_made_no_progress(
    home: Engine, tools: Tools
) -> None:
    definition, ran = performing(home, lambda slot: slot + timedelta(hours=2), overlap="one")

    run(definition, tools)
    eventually(lambda: ended(ran[-1], definition, tools, ran) if ran else False, 15)

    eventually(lambda: run(definition, tools).codes == {"waiting": 1})
    assert len(ran) == 1


def ended(slot: datetime, definition: Definition, tools: Tools, ran: list[datetime]) -> bool:
    """Return whether the last run was of this slot and is over."""
    digests = definition.job.definition.digests([(slot,)])
    return ran[-1:] == [slot] and tools.seam.told(digests) == [False]


# --- replicas -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0.0, 60.0])
def test_a_pass_reads_the_replica_while_it_is_fresh_and_else_the_primary(
    home: Engine, tools: Tools, tmp_path: Path, lag: float
) -> None:
    replica = Engines({"default": f"sqlite:///{tmp_path}/replica.db"})
    Item.metadata.create_all(replica.home())
    fill(replica.home(), [1])
    fill(home, [1, 2])
    both = replace(tools, engines=Engines({"default": home, "replica": replica.home()}))
    definition = items(select(Item.id), freshness=Freshness(replica="replica", lag=lambda: lag))

    report = run(definition, both)

    assert report.scanned == (1 if lag == 0.0 else 2)
    assert report.outcome is Outcome.COMPLETED
    assert ("60.0 s behind" in report.reason) is (lag > 0)
    replica.dispose()


def test_a_pass_that_may_not_read_a_stale_replica_is_gated_with_the_reason(
    home: Engine, tools: Tools
) -> None:
    fill(home, [1])
    both = replace(tools, engines=Engines({"default": home, "replica": home}))
    stale = Freshness(replica="replica", fallback="skip", lag=lambda: 99.0)

    report = run(items(select(Item.id), freshness=stale), both)

    assert (report.outcome, report.scanned) == (Outcome.GATED, 0)
    assert report.reason == "replica 'replica' is 99.0 s behind, 5 s are allowed"
