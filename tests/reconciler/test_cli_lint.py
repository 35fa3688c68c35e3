from __future__ import annotations

import json
from pathlib import Path

from tests.reconciler.commands import NOWHERE, Command

APP = """
from qik_core import Job
from reconciler import Backpressure, Guard, Reconciler, Shards, derive
from sqlalchemy import select
from tests.reconciler.shop import Item

class Alone(Job):
    def perform(self) -> None: ...

class Work(Job, unique_for=7200, retry=5):
    def perform(self, item_id: int) -> None: ...

class Items(Reconciler, every=60, jitter=30):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))
"""


def test_the_command_prints_findings_and_ends_with_1_and_with_0_where_all_is_well(
    tmp_path: Path, sqlite_url: str
) -> None:
    (tmp_path / "app.py").write_text(APP)
    exempt = APP.replace("(Job):", "(Job, queue='mail', reconciled=False, reason='x'):")
    (tmp_path / "well.py").write_text(exempt)
    create = "from sqlalchemy import create_engine as e; from tests.reconciler.shop import Base; "
    (tmp_path / "made.py").write_text(
        create + f"Base.metadata.create_all(e({sqlite_url!r}))\n" + APP
    )
    command = Command(tmp_path, DATABASE_URL=sqlite_url)

    made = command("lint", "made", "--json")
    well = command("lint", "well")
    offline = command("lint", "well", "--offline", QIK_QUEUES="mail default")

    assert made.returncode == 1, made.stderr
    assert [each["check"] for each in json.loads(made.stdout)["findings"]] == ["unreconciled"]
    assert well.returncode == 0, well.stderr
    assert "serves mail (Alone)" in well.stdout
    assert offline.returncode == 0
    assert "nothing is found" in offline.stdout


def test_the_command_says_what_it_can_without_the_database(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)

    done = Command(tmp_path, DATABASE_URL=NOWHERE)("lint", "app")

    assert done.returncode == 5, done.stderr
    assert "unreconciled" in done.stdout
    assert "127.0.0.1:1" in done.stderr


def test_a_reconciler_that_can_never_work_is_said_by_class_and_rule(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        APP.replace("unique_for=7200", "unique_for=7200, unique_until='start'")
    )

    done = Command(tmp_path)("lint", "app", "--offline")

    assert done.returncode == 2
    assert "Items [unique-until]" in done.stderr
