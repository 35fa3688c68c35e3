from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, literal_column, select, text

from qik_core.embedded import Embedded
from qik_core.passes import Passes, Telling
from qik_core.store import Store
from reconciler import runner
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import NotMigrated
from reconciler.manager import Manager
from reconciler.report import Outcome
from reconciler.tables import lease, passes
from tests.databases import on
from tests.faultproxy import FaultProxy
from tests.reconciler.running import Running
from tests.reconciler.shop import Item, change, fill, items
from tests.waiting import eventually, never

PENDING = select(Item.id).where(Item.state == "pending")


Start = Callable[..., Running]


@pytest.fixture
def start(engines: Engines, home: Engine, seam: Passes) -> Iterator[Start]:
    """Starts managers, and stops them at the end of the test."""
    started: list[Running] = []

    def begin(*definitions: Definition, ttl: float = 30.0, seam_: Passes | None = None) -> Running:
        started.append(Running(definitions, engines, seam_ or seam, ttl))
        return started[-1]

    yield begin
    for each in started:
        each.stop()


@on("sqlite")
def test_a_pass_runs_at_once_and_then_every_so_often(home: Engine, start: Start) -> None:
    fill(home, range(1, 11))
    running = start(items(PENDING, every=0.2))

    eventually(lambda: len(running.reports) > 2)
    assert running.reports[0].codes == {"enqueued": 10}


@on("postgres")
def test_new_rows_are_told_by_the_next_pass(home: Engine, start: Start, raw: Any) -> None:
    start(items(PENDING, every=0.2))
    eventually(lambda: raw.exists("qik:epoch"))
    fill(home, [1])

    eventually(lambda: raw.llen("queue:work") == 1)


@on("mariadb")
def test_after_a_flush_idle_reconcilers_run_within_two_seconds(
    home: Engine, start: Start, raw: Any
) -> None:
    fill(home, range(1, 101))
    start(items(PENDING, every=3600))
    eventually(lambda: raw.llen("queue:work") == 100)

    raw.flushall()

    eventually(lambda: raw.llen("queue:work") == 100, 2.0)


@on("postgres")
def test_a_pass_under_way_at_a_flush_begins_again_from_the_bottom(
    home: Engine, start: Start, seam: Passes, raw: Any
) -> None:
    fill(home, range(1, 51))
    flushes = iter([True])

    class Flushing(Passes):
        def start(self, *args: Any, **options: Any) -> Telling:
            telling = super().start(*args, **options)
            telling.land()
            if raw.llen("queue:work") == 30 and next(flushes, False):
                raw.flushall()
            return telling

    running = start(items(PENDING, every=3600, batch_size=10), seam_=Flushing(seam._store))

    eventually(lambda: Outcome.COMPLETED in running.ended())
    assert running.ended()[:2] == [Outcome.RESTARTED, Outcome.COMPLETED]
    assert raw.llen("queue:work") == 50


@on("mariadb")
def test_one_broken_reconciler_does_not_stop_the_others(home: Engine, start: Start) -> None:
    fill(home, range(1, 11))
    good = items(PENDING, every=0.2)
    bad = items(select(Item.id).where(literal_column("gone") == 1), every=0.2, name="Broken")
    running = start(good, bad)

    eventually(lambda: len(running.ended()) > 2 and running.ended("Broken"))
    assert set(running.ended()) == {Outcome.COMPLETED}
    assert set(running.ended("Broken")) == {Outcome.FAILED}


@on("postgres")
def test_one_hanging_reconciler_does_not_hold_up_the_others(
    home: Engine, start: Start, seam: Passes
) -> None:
    fill(home, range(1, 11))
    gate = threading.Event()

    class Hanging(Passes):
        def start(self, job: Any, rows: Any, **options: Any) -> Telling:
            if options.get("queue") == "slow":
                gate.wait(10.0)
            return super().start(job, rows, **options)

    good = items(PENDING.where(Item.id < 6), every=0.2)
    slow = items(PENDING.where(Item.id > 5), every=0.2, name="Slow", queue="slow")
    running = start(good, slow, seam_=Hanging(seam._store))

    eventually(lambda: len(running.ended()) > 2)
    assert running.ended("Slow") == []
    gate.set()


@on("sqlite")
def test_a_failed_pass_is_tried_again_soon(
    home: Engine, start: Start, redis_server: Embedded, raw: Any
) -> None:
    fill(home, [1])
    redis_server.kill()
    running = start(items(PENDING, every=3600))
    eventually(lambda: Outcome.FAILED in running.ended(), 15.0)

    redis_server.restart()

    eventually(lambda: Outcome.COMPLETED in running.ended(), 10.0)


def test_of_two_processes_one_runs_a_reconciler_and_the_other_takes_over(
    home: Engine, start: Start
) -> None:
    one = start(items(PENDING, every=0.2), ttl=3.0)
    eventually(lambda: one.reports)
    two = start(items(PENDING, every=0.2), ttl=3.0)
    never(lambda: two.reports, 0.7)

    one.stop()

    eventually(lambda: two.reports, 3.0)


def test_a_stopping_process_gives_its_leases_back(home: Engine, start: Start) -> None:
    running = start(items(PENDING, every=0.2))
    eventually(lambda: running.reports)

    running.stop()

    with home.connect() as connection:
        assert connection.execute(select(lease.c.holder)).scalars().all() == [None]
    assert running.well is True


def test_a_pass_under_way_ends_as_deposed_when_the_process_stops(
    home: Engine, start: Start, seam: Passes
) -> None:
    fill(home, range(1, 1_001))

    class Slow(Passes):
        def start(self, *args: Any, **options: Any) -> Telling:
            threading.Event().wait(0.05)
            return super().start(*args, **options)

    running = start(items(PENDING, every=3600, batch_size=10), seam_=Slow(seam._store))
    eventually(lambda: _begun(home))
    began = time.monotonic()

    running.stop()

    assert time.monotonic() - began < 5.0
    assert running.ended() == [Outcome.DEPOSED]


@on("mariadb")
def test_a_process_whose_pass_hangs_ends_to_be_replaced(
    home: Engine, start: Start, seam: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home, [1])
    monkeypatch.setattr(runner, "STUCK", -9.0)
    monkeypatch.setattr("reconciler.manager.GRACE", 0.5)
    gate = threading.Event()

    class Hanging(Passes):
        def start(self, *args: Any, **options: Any) -> Telling:
            gate.wait(30.0)
            return super().start(*args, **options)

    running = start(items(PENDING, every=3600), seam_=Hanging(seam._store))
    running.thread.join(20.0)
    gate.set()

    assert running.well is False


@on("postgres")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_in_which_the_thread_of_a_reconciler_has_ended_ends_to_be_replaced(
    home: Engine, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(runner, "say", fail)

    running = start(items(PENDING, every=3600))
    running.thread.join(20.0)

    assert running.well is False


def test_a_clock_that_was_set_makes_everybody_run(
    home: Engine, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(items(PENDING, every=3600))
    eventually(lambda: running.reports)
    count = len(running.reports)

    monkeypatch.setattr("reconciler.manager.time", lambda: time.time() - 3600)

    eventually(lambda: len(running.reports) > count, 5.0)


def test_a_database_without_our_tables_is_said_at_the_start(engines: Engines, seam: Passes) -> None:
    manager = Manager([items(PENDING)], engines, seam, lease=30.0)

    with pytest.raises(NotMigrated, match="reconciler upgrade"):
        manager.run()


@on("sqlite")
def test_a_row_that_is_done_is_not_told_again(home: Engine, start: Start, raw: Any) -> None:
    fill(home, [1, 2])
    change(home, 1, state="done")
    running = start(items(PENDING, every=0.1))
    eventually(lambda: len(running.reports) > 2)

    assert raw.llen("queue:work") == 1


def _begun(home: Engine) -> bool:
    with home.connect() as connection:
        return bool(connection.execute(select(passes.c.id)).all())


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_process_that_cannot_reach_redis_leaves_its_work_to_one_that_can(
    home: Engine, start: Start, seam: Passes, raw: Any, redis_url: str, tmp_path: Path
) -> None:
    fill(home, range(1, 11))
    proxy = FaultProxy(redis_url, tmp_path)
    store = Store(proxy.url)
    definition = items(PENDING, every=0.2)
    cut_off = start(definition, ttl=1.0, seam_=Passes(store))
    eventually(cut_off.ended)
    other = start(definition, ttl=1.0)
    never(other.ended, 1.5)

    proxy.close()

    eventually(lambda: Outcome.COMPLETED in other.ended(), 10.0)
    assert holders(home) == [other.manager.holder]
    cut_off.stop()
    store.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_when_redis_was_away_from_all_the_work_goes_on_with_its_return(
    home: Engine, start: Start, redis_server: Embedded, raw: Any
) -> None:
    fill(home, range(1, 11))
    running = start(items(PENDING, every=3600), ttl=1.0)
    eventually(running.ended)
    redis_server.kill()
    eventually(lambda: set(holders(home)) == {None}, 10.0)

    redis_server.start()
    raw.connection_pool.disconnect()

    eventually(lambda: raw.llen("queue:work") == 10, 10.0)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_slow_page_keeps_its_lease_and_no_second_pass_piles_up(
    home: Engine, start: Start
) -> None:
    fill(home, [1])
    slow = "(SELECT 1 FROM pg_sleep(2)) = 1"
    running = start(
        items(PENDING.where(text(slow)), every=0.1, name="Slow"),
        items(PENDING, every=0.1, name="Quick"),
        ttl=1.0,
    )

    eventually(lambda: running.ended("Slow"), 20.0)

    with home.connect() as connection:
        begun = select(passes).where(passes.c.reconciler == "Slow")
        assert len(connection.execute(begun).all()) <= 2
        terms = select(lease.c.term).where(lease.c.reconciler.in_(["Slow", "Quick"]))
        assert connection.execute(terms).scalars().all() == [1, 1]
    assert len(running.ended("Quick")) > 5


def holders(home: Engine) -> list[str | None]:
    with home.connect() as connection:
        query = select(lease.c.holder).where(lease.c.reconciler == "Items")
        return list(connection.execute(query).scalars())
