"""Rows whose jobs never end well, from the job's end in a real worker to the pass that leaves them out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from qik_core import Job, client, rows, settings
from qik_core.api import DeadSet
from qik_core.embedding import EmbeddedWorker
from qik_core.outcomes import Terminal
from qik_core.settings import Settings
from qik_core.store import Store
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.operators import Operator, release
from reconciler.options import Quarantine
from reconciler.passes import Pass, Tools
from reconciler.quarantine import FRESH, RowStates
from reconciler.report import Outcome, Report
from reconciler.sql import writing
from reconciler.states import Hold, State
from reconciler.tables import row_state
from tests.reconciler.ends import Clock
from tests.reconciler.shop import Item, change, fill
from tests.waiting import eventually

AFTER = 3
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What SQL does there is tested on each kind of database, without workers."""
POLICY = Quarantine(after=AFTER, no_progress=2, backoff=(600, 3_600))


class Bench:
    """A reconciler, its passes run by hand, and a worker in this process that runs its jobs."""

    def __init__(self, home: Engine, tools: Tools, url: str) -> None:
        self.url = url
        self.home, self.seam, self.clock = home, tools.seam, Clock()
        self.tools = replace(tools, states=self.remembering())
        self.runs: Counter[int] = Counter()
        self.acts: dict[int, Callable[[int], object]] = {}
        self.lock = threading.Lock()
        self.definition = self._define()

    def _define(self) -> Definition:
        bench = self

        class Work(Job, queue="work", unique_for=3600, retry=0):
            def perform(self, item_id: int) -> None:
                with bench.lock:
                    bench.runs[item_id] += 1
                bench.acts.get(item_id, bench.done)(item_id)

        class Items(Reconciler, every=60, quarantine=POLICY):
            pending = derive(
                Work, select(Item.id).where(Item.state == "pending"), version=Item.version
            )

        return Items.definition

    def begin_epoch(self) -> None:
        """Let the epoch begin, without the hold that a loss of Redis brings."""
        store = Store(self.url, birth_ms=0)
        store.look()
        store.close()
        self.tools.watch.look()

    def remembering(self, release: str = "") -> RowStates:
        return RowStates(self.home, self.seam, release, now=self.clock)

    def done(self, item_id: int) -> None:
        change(self.home, item_id, state="done")

    def passed(self) -> Report:
        report = Pass(self.definition, self.tools, 1, lambda: None).run()
        assert report.outcome is Outcome.COMPLETED, report.reason
        return report

    def ended(self, runs: int) -> None:
        """Wait until so many runs have ended, and what there was to be noted of them is noted."""
        eventually(lambda: sum(self.runs.values()) >= runs, 30)
        job = self.definition.job.definition
        keys = job.digests([(each,) for each in list(self.runs)])
        eventually(lambda: not any(self.seam.told(keys)), 30)

    def in_time(self) -> None:
        """Let the time of every waiting row come."""
        self.states()
        self.clock.now += FRESH
        with writing(self.home) as connection:
            connection.execute(update(row_state).values(next_at=0))

    def states(self) -> dict[str, State]:
        self.tools.states.drain()
        return {each.key: each for each in self.tools.states.memory.page()}

    def until_quarantined(self, *ids: int) -> None:
        """Run passes, each after all waits are over, until these rows are quarantined."""
        for _ in range(AFTER):
            before = sum(self.runs.values())
            told = self.passed().codes.get("enqueued", 0)
            self.ended(before + told)
            self.in_time()
        states = self.states()
        assert {each for each in ids if states[str(each)].hold is Hold.QUARANTINED} == set(ids)


def fails(_: int) -> None:
    raise ValueError("no such account")


def gives_up(_: int) -> None:
    raise Terminal("the region is gone")


def does_nothing(_: int) -> None:
    pass


@pytest.fixture
def bench(home: Engine, tools: Tools, redis_url: str, engines: Engines) -> Iterator[Bench]:
    used = Settings(redis=redis_url, heartbeat=0.5, lease=3.0, shutdown=5.0, poll=0.1)
    used = replace(used, queues=(("work", 1),))
    settings.use(used)
    made = Bench(home, tools, redis_url)
    made.begin_epoch()
    with rows.filled(lambda: made.tools.recheck), EmbeddedWorker(used, concurrency=4):
        yield made
    client.current().store.close()
    settings.use(None)


def scenario(bench: Bench, raw: Any, good: int, bad: int) -> None:
    """Poison rows come first in every page, before the good ones."""
    fill(bench.home, range(1, bad + good + 1))
    bench.acts = dict.fromkeys(range(1, bad + 1), fails)

    assert bench.passed().codes == {"enqueued": good + bad}
    bench.ended(good + bad)
    assert bench.runs == Counter(range(1, bad + good + 1))
    bench.in_time()
    bench.until_quarantined(*range(1, bad + 1))

    for wiped in (False, True):
        if wiped:
            raw.flushall()
            bench.begin_epoch()
        assert bench.passed().codes == {"quarantined": bad}
        assert raw.llen("queue:work") == 0
    assert {bench.runs[each] for each in range(1, bad + 1)} == {AFTER}
    assert {bench.runs[each] for each in range(bad + 1, bad + good + 1)} == {1}
    counts = bench.tools.states.counts(bench.definition)
    assert counts == {"waiting": 0, "quarantined": bad}


def test_poison_rows_do_not_keep_good_ones_from_being_done_and_end_in_quarantine(
    bench: Bench, raw: Any
) -> None:
    scenario(bench, raw, good=100, bad=20)


@pytest.mark.slow
def test_two_hundred_poison_rows_among_a_thousand_end_in_quarantine(bench: Bench, raw: Any) -> None:
    scenario(bench, raw, good=1_000, bad=200)


# --- the ways back -------------------------------------------------------------------------------


@pytest.fixture
def sick(bench: Bench) -> Bench:
    """Row 1 is quarantined."""
    fill(bench.home, [1])
    bench.acts = {1: fails}
    bench.until_quarantined(1)
    assert bench.runs == {1: AFTER}
    return bench


def runs_once_more(bench: Bench) -> None:
    """One pass tells the row, its job dies once more, and then it is left out again."""
    bench.clock.now += FRESH
    assert bench.passed().codes == {"enqueued": 1}
    bench.ended(AFTER + 1)
    for _ in range(3):
        assert "enqueued" not in bench.passed().codes
    assert bench.runs == {1: AFTER + 1}


@ON_ONE
def test_a_newer_version_of_the_row_gives_it_a_new_beginning(sick: Bench) -> None:
    sick.passed()
    change(sick.home, 1, version=2)

    runs_once_more(sick)

    assert (sick.states()["1"].hold, sick.states()["1"].failures) == (Hold.WAITING, 1)


@ON_ONE
def test_a_row_changed_before_a_pass_has_seen_its_quarantine_is_tried_as_well(sick: Bench) -> None:
    change(sick.home, 1, version=2)

    runs_once_more(sick)


@ON_ONE
def test_a_new_release_tries_the_row_once(sick: Bench) -> None:
    sick.tools = replace(sick.tools, states=sick.remembering("v2"))

    runs_once_more(sick)

    assert sick.states()["1"].hold is Hold.QUARANTINED


@ON_ONE
def test_an_operator_releases_the_row_and_its_dead_jobs_stay_visible(
    sick: Bench, engines: Engines
) -> None:
    dead = DeadSet(Store(sick.url))
    assert dead.size == AFTER

    release(engines, sick.definition, (1,), Operator("me", "fixed"))
    assert dead.size == AFTER

    runs_once_more(sick)


@ON_ONE
def test_a_retry_of_its_dead_job_gives_the_row_a_new_beginning(sick: Bench) -> None:
    dead = DeadSet(Store(sick.url))

    assert dead.retry(next(iter(dead)))
    sick.ended(AFTER + 1)

    state = sick.states()["1"]
    assert (state.hold, state.failures) == (Hold.WAITING, 1)
    assert sick.runs == {1: AFTER + 1}


@ON_ONE
def test_a_row_stays_quarantined_when_its_dead_jobs_are_deleted(sick: Bench) -> None:
    dead = DeadSet(Store(sick.url))
    assert dead.clear() == AFTER

    assert sick.passed().codes == {"quarantined": 1}


@ON_ONE
def test_a_row_that_matches_no_more_is_forgotten_and_begins_anew_when_it_does_again(
    sick: Bench,
) -> None:
    change(sick.home, 1, state="done")
    sick.passed()
    assert sick.states() == {}

    change(sick.home, 1, state="pending")

    runs_once_more(sick)


# --- other ends ----------------------------------------------------------------------------------


@ON_ONE
def test_a_job_that_ends_well_and_changes_nothing_is_backed_off_and_quarantined(
    bench: Bench,
) -> None:
    fill(bench.home, [1, 2])
    bench.acts = {1: does_nothing}

    for _ in range(6):
        before, told = sum(bench.runs.values()), bench.passed().codes.get("enqueued", 0)
        bench.ended(before + told)
        bench.in_time()

    state = bench.states()["1"]
    assert bench.runs == {1: POLICY.no_progress, 2: 1}
    assert (state.hold, state.reason) == (Hold.QUARANTINED, "no_progress")


@ON_ONE
def test_a_job_that_marks_its_row_while_it_runs_is_counted_all_the_same(bench: Bench) -> None:
    fill(bench.home, [1])
    started, fail = threading.Semaphore(0), threading.Semaphore(0)

    def marks(item_id: int) -> None:
        change(bench.home, item_id, state="working")
        started.release()
        assert fail.acquire(timeout=30)
        change(bench.home, item_id, state="pending")
        raise ValueError("no such account")

    bench.acts = {1: marks}
    for run in range(1, AFTER + 1):
        bench.in_time()
        bench.passed()
        assert started.acquire(timeout=30)
        assert bench.passed().scanned == 0  # while it runs, its row does not match
        fail.release()
        bench.ended(run)

    assert bench.states()["1"].hold is Hold.QUARANTINED


@ON_ONE
def test_a_job_that_can_never_succeed_runs_once(bench: Bench) -> None:
    fill(bench.home, [1, 2])
    bench.acts = {1: gives_up}
    bench.passed()
    bench.ended(2)

    assert bench.passed().codes == {"quarantined": 1}
    state = bench.states()["1"]
    assert state.reason == "terminal"
    assert state.error.endswith("Terminal: the region is gone")
    assert bench.runs == {1: 1, 2: 1}
