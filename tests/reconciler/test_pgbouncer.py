"""PgBouncer in transaction mode: nothing of ours may need a session.

Everything that runs on PostgreSQL runs once more through it, in `make test-all`; here are the parts that talk to it most.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from qik_core.passes import Passes
from reconciler.engines import Engines
from reconciler.lease import Leases
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome
from tests.reconciler.running import Running
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.test_manager import PENDING
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def database_url(pgbouncer_url: str) -> str:
    return pgbouncer_url


def test_it_gives_the_next_transaction_another_session(home: Engine) -> None:
    def session(connection: Any) -> int:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    with home.connect() as one, home.connect() as two:
        before, _ = session(one), session(two)
        one.commit()
        two.commit()

        assert session(one) != before


def test_nothing_is_prepared_in_a_session(home: Engine) -> None:
    query = select(Item.id).where(Item.id > 0)

    with home.connect() as one, home.connect() as two:
        for _ in range(10):  # each round in the other's session
            for each in (one, two):
                each.execute(query).all()
            for each in (one, two):
                each.commit()


def test_pages_are_read_and_told(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 101))
    definition = items(PENDING, batch_size=10)

    for _ in range(3):
        assert Pass(definition, tools, 1, lambda: None).run().outcome is Outcome.COMPLETED

    assert raw.llen("queue:work") == 100


def test_a_page_that_is_too_slow_is_ended_by_the_server_and_the_next_user_is_not(
    home: Engine, tools: Tools
) -> None:
    fill(home, range(1, 101))
    slow = items(
        PENDING.where(text("(SELECT 1 FROM pg_sleep(20)) = 1")),
        statement_timeout=0.2,
        batch_size=50,
    )

    report = Pass(slow, tools, 1, lambda: None).run()

    assert report.outcome is Outcome.FAILED
    assert "too long" in report.reason
    with home.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "0"


def test_leases_pass_from_hand_to_hand(home: Engine) -> None:
    one, two = (Leases(home, ["a", "b"], 30.0, holder=holder) for holder in ("one", "two"))
    one.register()
    one.renew()
    two.register()

    assert two.renew().taken == []
    assert len(one.renew().given) == 1
    assert len(two.renew().taken) == 1
    one.release()
    two.renew()
    assert two.term("a")
    assert two.term("b")


def test_a_whole_process_runs_through_it(
    home: Engine, engines: Engines, seam: Passes, raw: Any
) -> None:
    fill(home, range(1, 101))
    running = Running([items(PENDING, every=0.2)], engines, seam, 3.0)
    try:
        eventually(lambda: raw.llen("queue:work") == 100)
        raw.flushall()
        eventually(lambda: raw.llen("queue:work") == 100, 5.0)
    finally:
        running.stop()


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_everything_that_runs_on_postgresql_runs_through_it() -> None:
    folders = ["tests/reconciler", "tests/integration/test_reconciler_run.py"]
    command = [sys.executable, "-m", "pytest", *folders, "-q", "-x"]
    done = subprocess.run(
        # The standbys of the tests of freshness follow the server itself.
        [*command, "-k", "postgres and not pgbouncer and not freshness", "-m", "not slow"],
        cwd=ROOT,
        env={**os.environ, "TEST_PGBOUNCER": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-5_000:]
