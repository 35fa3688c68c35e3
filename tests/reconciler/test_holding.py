from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine, select, update
from sqlalchemy.orm import Session

from qik_core import Job, job
from qik_core.errors import QikError
from reconciler import Guard, Reconciler, derive
from reconciler.engines import Engines
from reconciler.recheck import Recheck
from tests.reconciler.bills import (
    CLAIM,
    GUARDS,
    LONG_AGO,
    SERVERS,
    SQLITE,
    Bill,
    bills,
    home,
    is_free,
    recheck,
)
from tests.waiting import eventually

__all__ = ["home", "recheck"]


EVERY = pytest.mark.parametrize(
    ("database_url", "guard"),
    [
        (server, name)
        for server in ("sqlite", "postgres", "mariadb")
        for name in GUARDS
        if server != "sqlite" or "claim" in name
    ],
    indirect=True,
)
"""Each guard on each database that has it."""


@pytest.fixture
def guard(request: pytest.FixtureRequest, home: Engine) -> Guard:
    found = GUARDS[request.param]
    bills(found)
    return found


@EVERY
@pytest.mark.usefixtures("guard")
def test_one_run_at_a_time_has_a_row(recheck: Recheck) -> None:
    with recheck.guarded("Charge", (7,)) as free:
        assert free
        assert not is_free(recheck, 7)
    assert is_free(recheck, 7)


@EVERY
@pytest.mark.usefixtures("guard")
def test_of_many_runs_at_once_never_two_have_the_row(recheck: Recheck) -> None:
    inside: set[int] = set()
    most, held = [0], [0]

    def run(number: int) -> None:
        for _ in range(8):
            with recheck.guarded("Charge", (7,)) as free:
                if free:
                    inside.add(number)
                    most[0], held[0] = max(most[0], len(inside)), held[0] + 1
                    recheck.row("Charge", (7,))
                    inside.discard(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)

    assert most == [1]
    assert held[0] >= 1


@EVERY
@pytest.mark.usefixtures("guard")
def test_a_run_that_raises_gives_its_row_free(recheck: Recheck) -> None:
    with pytest.raises(ZeroDivisionError), recheck.guarded("Charge", (7,)):
        raise ZeroDivisionError

    assert is_free(recheck, 7)


@EVERY
@pytest.mark.usefixtures("guard")
def test_a_row_that_matches_no_more_is_not_held(recheck: Recheck) -> None:
    for bill in (8, 9):
        with recheck.guarded("Charge", (bill,)) as free:
            assert not free


@EVERY
@pytest.mark.usefixtures("guard")
def test_a_row_that_another_run_has_finished_lets_nobody_in_again(
    home: Engine, recheck: Recheck
) -> None:
    with recheck.guarded("Charge", (7,)) as free:
        assert free
        with recheck.session("Charge", (7,)) as session:
            session.execute(update(Bill).where(Bill.id == 7).values(state="paid"))

    assert not is_free(recheck, 7)


@pytest.mark.parametrize("name", ["claim", "claim-seconds"])
def test_a_claim_changes_nothing_else_of_the_row(home: Engine, recheck: Recheck, name: str) -> None:
    bills(GUARDS[name])

    with recheck.guarded("Charge", (7,)), Session(home) as session:
        during = session.get_one(Bill, 7)
    with Session(home) as session:
        after = session.get_one(Bill, 7)

    now = datetime.now(UTC)
    taken = during.claimed_to or _moment(during.claimed_until)
    assert 55 < taken - now.timestamp() < 65
    assert during.changed == after.changed == LONG_AGO
    assert (after.claimed_until, after.claimed_to) == (None, None)


def _moment(naive: datetime | None) -> float:
    assert naive is not None
    return naive.replace(tzinfo=UTC).timestamp()


def test_a_claim_of_a_process_that_died_ends_by_itself(home: Engine, recheck: Recheck) -> None:
    bills(CLAIM)
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)

    def claimed(until: datetime) -> None:
        with Session(home) as session:
            session.execute(update(Bill).where(Bill.id == 7).values(claimed_until=until))
            session.commit()

    claimed(now + timedelta(seconds=30))
    assert not is_free(recheck, 7)
    claimed(now - timedelta(seconds=1))
    assert is_free(recheck, 7)


def test_a_claim_that_ran_out_and_was_taken_over_is_left_to_its_new_holder(
    home: Engine, recheck: Recheck
) -> None:
    bills(CLAIM)
    later = datetime.fromisoformat("2030-01-01")

    with recheck.guarded("Charge", (7,)), Session(home) as session:
        session.execute(update(Bill).where(Bill.id == 7).values(claimed_until=later))
        session.commit()

    with Session(home) as session:
        assert session.get_one(Bill, 7).claimed_until == later


@SERVERS
def test_a_row_that_a_transaction_of_the_application_holds_is_left_for_later(
    home: Engine, recheck: Recheck
) -> None:
    for name in ("claim", "row_lock"):
        bills(GUARDS[name])
        with Session(home) as session:
            session.execute(update(Bill).where(Bill.id == 7).values(other=1))
            assert not is_free(recheck, 7)
        assert is_free(recheck, 7)


@SERVERS
def test_locks_hold_on_an_engine_that_commits_by_itself(home: Engine, database_url: str) -> None:
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    recheck = Recheck(lambda: Engines({"default": engine}))
    for name in ("claim", "row_lock", "advisory"):
        bills(GUARDS[name])
        with recheck.guarded("Charge", (7,)) as free:
            assert free
            assert not is_free(recheck, 7)
        assert is_free(recheck, 7)
    engine.dispose()


def test_functions_with_job_are_held_as_classes_are(home: Engine, recheck: Recheck) -> None:
    @job(unique_for=60)
    def settle_bill(bill: int) -> None: ...

    class Open(Reconciler, every=60, guard=CLAIM):
        pending = derive(settle_bill, select(Bill.id).where(Bill.state == "open"))

    name = Open.definition.facts.name
    with recheck.guarded(name, (7,)) as free, recheck.guarded(name, (7,)) as second:
        assert (free, second) == (True, False)


@SQLITE
def test_guards_that_a_database_does_not_have_are_refused_with_the_remedy(
    home: Engine, recheck: Recheck
) -> None:
    for name in ("row_lock", "advisory"):
        bills(GUARDS[name])
        with (
            pytest.raises(QikError, match=rf"Guard.{name}\(\) cannot .* Use Guard.claim"),
            recheck.guarded("Charge", (7,)),
        ):
            pass


def test_without_a_guard_nothing_is_held(home: Engine, recheck: Recheck) -> None:
    class Free(Job, unique_for=60):
        def perform(self, bill: int) -> None: ...

    class Bills(Reconciler, every=60):
        pending = derive(Free, select(Bill.id).where(Bill.state == "open"))

    with ExitStack() as stack:
        assert all(stack.enter_context(recheck.guarded("Free", (each,))) for each in (7, 7, 8))


def test_jobs_that_are_not_looked_at_are_held_whether_or_not_their_row_matches(
    home: Engine, recheck: Recheck
) -> None:
    bills(CLAIM, recheck=False)

    with recheck.guarded("Charge", (8,)) as free:
        assert free
        assert not is_free(recheck, 8)


def test_a_guard_holds_its_own_rows_where_two_reconcilers_tell_a_class(
    home: Engine, recheck: Recheck
) -> None:
    class Charge(Job, unique_for=60):
        def perform(self, bill: int) -> None: ...

    class Open(Reconciler, every=60, guard=CLAIM):
        pending = derive(Charge, select(Bill.id).where(Bill.state == "open"))

    class Paid(Reconciler, every=60):
        pending = derive(Charge, select(Bill.id).where(Bill.state == "paid"))

    with recheck.guarded("Charge", (7,)) as one, recheck.guarded("Charge", (8,)) as other:
        assert one
        assert other
        assert not is_free(recheck, 7)
        assert is_free(recheck, 8)


# --- what goes wrong ----------------------------------------------------------------------------


@SERVERS
def test_a_lock_whose_connection_was_ended_is_missed_when_the_run_ends(
    home: Engine, recheck: Recheck, caplog: pytest.LogCaptureFixture
) -> None:
    bills(GUARDS["advisory"])
    with recheck.guarded("Charge", (7,)) as free:
        assert free
        _end_connections(home)
        eventually(lambda: is_free(recheck, 7))

    assert "the guard was lost while the job ran" in caplog.text


def _end_connections(engine: Engine) -> None:
    """End every other connection to the database, as a restart of its server would."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        own = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar()
        shown = connection.exec_driver_sql("SHOW PROCESSLIST").fetchall()
        for row in shown:
            if row[0] != own and row[3] == engine.url.database:
                connection.exec_driver_sql(f"KILL {row[0]}")


def test_a_database_that_is_away_fails_the_run_and_never_lets_it_go_unguarded() -> None:
    engines = Engines({"default": "postgresql+psycopg://u@127.0.0.1:1/none"})
    bills(CLAIM)

    with pytest.raises(QikError), Recheck(lambda: engines).guarded("Charge", (7,)):
        pytest.fail("it ran")
