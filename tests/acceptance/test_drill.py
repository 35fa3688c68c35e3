"""`reconciler drill`, as an operator types it: it proves that nothing is lost, and it notices what is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.drill.kinds import Kind

ROOT = Path(__file__).parents[2]


class Drill:
    """A folder in which drills are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(self, *words: str, seconds: float = 2, rows: int = 40) -> int:
        """Run `reconciler drill` and return its exit code; what it said is in `said`."""
        options = [
            "--seconds",
            str(seconds),
            "--rows",
            str(rows),
            "--report",
            str(self.folder / "r"),
        ]
        done = subprocess.run(
            [sys.executable, "-m", "reconciler.cli", "drill", *options, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        self.said = done.stdout + done.stderr
        self.json = done.stdout
        return done.returncode

    @property
    def report(self) -> dict[str, Any]:
        """Return report.json."""
        assert (self.folder / "r" / "report.json").exists(), self.said
        told: dict[str, Any] = json.loads((self.folder / "r" / "report.json").read_text())
        return told

    def plant(self, code: str) -> None:
        """Have every Python of the drill run this code when it starts."""
        planted = self.folder / "planted"
        planted.mkdir()
        (planted / "sitecustomize.py").write_text(code)
        self.environment["PYTHONPATH"] = f"{planted}{os.pathsep}{ROOT}"


@pytest.fixture
def drill(tmp_path: Path) -> Drill:
    return Drill(tmp_path)


def check(report: dict[str, Any], kinds: Sequence[Kind]) -> None:
    """Hold that these faults were done, and that nothing was off."""
    off = [finding for finding in report["findings"] if not finding["good"]]
    assert off == []
    assert report["sound"] is True
    assert (report["lost"], report["doubled"], report["overlaps"]) == (0, 0, 0)
    assert {fault["kind"] for fault in report["faults"]} == set(kinds)
    assert all(fault["hit"] and fault["took"] is not None for fault in report["faults"])


def test_a_drill_heals_and_leaves_a_page_and_a_report(drill: Drill) -> None:
    assert drill.run("--faults", "flush,running") == 0, drill.said

    assert "0 lost, 0 doubled, 0 overlaps; nothing is off" in drill.said
    assert "FAULT: everything flushed by `reconciler flush`" in drill.said
    check(drill.report, [Kind.FLUSH, Kind.RUNNING])
    assert (drill.folder / "r" / "report.html").read_text().count('class="mark"') == 2
    assert (drill.folder / "r" / "logs" / "worker-1.log").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["sqlite", "postgres", "mariadb"])
def test_every_fault_heals_on_every_database(
    drill: Drill, where: str, request: pytest.FixtureRequest
) -> None:
    words = []
    if where != "sqlite":
        words = ["--database-url", str(request.getfixturevalue(f"{where}_url"))]

    assert drill.run(*words, "--json", seconds=30, rows=800) == 0, drill.said

    check(drill.report, list(Kind))
    assert json.loads(drill.json) == drill.report


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_make_drill_does_takes_less_than_five_minutes(drill: Drill) -> None:
    """On a private PostgreSQL and a private Redis, with every fault and the usual load."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.drill", "--report", str(drill.folder / "r")],
        cwd=ROOT,
        env=drill.environment,
        capture_output=True,
        text=True,
        timeout=390,
        check=False,
    )
    took = time.monotonic() - began

    drill.said = done.stdout + done.stderr
    assert done.returncode == 0, drill.said
    check(drill.report, list(Kind))
    assert took < 300


APP = """
import os
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from qik_core import Job
from reconciler import Reconciler, derive

class Base(DeclarativeBase): ...

class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]

engine = create_engine(os.environ["DATABASE_URL"], connect_args={"timeout": 30})
Base.metadata.create_all(engine)

class Charge(Job, queue="billing", unique_for=3600):
    def perform(self, invoice_id: int) -> None:
        mine = update(Invoice).where(Invoice.id == invoice_id)
        with engine.begin() as connection:
            connection.execute(mine.values(status="paid"))

class Open(Reconciler, every=1):
    pending = derive(Charge, select(Invoice.id).where(Invoice.status == "open"))

class Remind(Job, queue="billing", unique_for=3600):
    def perform(self, invoice_id: int) -> None: ...

class Shadowed(Reconciler, every=1, shadow=True):
    pending = derive(Remind, select(Invoice.id).where(Invoice.id <= 3))

def drill_rows(count: int) -> None:
    new = insert(Invoice).returning(Invoice.id)
    with engine.begin() as connection:
        ids = connection.scalars(new, [{"status": "open"}] * count).all()
    Charge.perform_bulk([(each,) for each in ids])
"""


@pytest.mark.slow
def test_an_application_of_ones_own_is_drilled_on_the_database_that_is_named(
    drill: Drill, sqlite_url: str
) -> None:
    (drill.folder / "shop.py").write_text(APP)
    words = ["--app", "shop", "--database-url", sqlite_url]

    assert drill.run(*words, "--faults", "queued,lists", rows=100) == 0, drill.said

    assert "0 lost, 0 overlaps; nothing is off" in drill.said
    assert drill.report["left"]["held"] == {"shadow": ["Remind 1", "Remind 2", "Remind 3"]}
    assert "held back on purpose, not lost: 3 rows (3 shadow)" in drill.said
    assert drill.report["settings"]["application"] == "shop"
    assert "doubled" not in drill.said
    assert all(fault["hit"] for fault in drill.report["faults"])


NO_PUSHER = """
import os, sys
if "reconciler.drill.pusher" in sys.orig_argv:
    os.write(2, b"no rows today\\n")
    os._exit(0)
"""


def test_a_drill_whose_pusher_died_says_that_it_proves_nothing(drill: Drill) -> None:
    drill.plant(NO_PUSHER)

    assert drill.run("--faults", "queued") == 1, drill.said

    assert "pusher ended by itself, so this drill proves nothing" in drill.said
    assert "no rows today" in drill.said
    assert "nothing is off" not in drill.said


NO_GUARD = """
import sys
if "guard.py" not in sys.argv[0]:
    try:
        from reconciler.drill import service
        service.guard = lambda row_id: service.Row.id == row_id
    except ImportError:
        pass
"""
NO_LOCKS = """
import sys
if "guard.py" not in sys.argv[0]:
    from qik_core.store.worker import WorkerStore
    hold = WorkerStore.hold
    WorkerStore.hold = lambda store, link, held, *, mark="", **rest: hold(store, link, (), mark=mark, **rest)
"""


@pytest.mark.slow
def test_a_guard_that_does_not_hold_is_noticed(drill: Drill) -> None:
    drill.plant(NO_GUARD)

    assert drill.run("--faults", "freeze") == 1, drill.said

    assert drill.report["doubled"] > 0
    assert "OFF  doubled" in drill.said


@pytest.mark.slow
def test_locks_that_are_not_asserted_after_a_loss_are_noticed(drill: Drill) -> None:
    drill.plant(NO_LOCKS)

    # On a busy machine what runs may end before it is started once more.
    noticed = any(drill.run("--faults", "running") == 1 for _ in range(3))

    assert noticed, drill.said
    assert drill.report["overlaps"] > 0, drill.said
