"""`qik dev` as a newcomer types it: nothing installed or started before, one command, jobs and reconcilers run."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from qik_core import cli
from tests.waiting import eventually

ROOT = str(Path(cli.__file__).parent.parent)
APP = """
import os
from datetime import timedelta

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from qik_core import Job
from reconciler import Reconciler, derive


class Base(DeclarativeBase): ...


class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    paid: Mapped[bool] = mapped_column(default=False)


engine = create_engine(os.environ["DATABASE_URL"])


class Charge(Job, unique_for=timedelta(hours=1)):
    def perform(self, invoice: int) -> None:
        with Session(engine) as session, session.begin():
            session.get_one(Invoice, invoice).paid = True


class OpenInvoices(Reconciler, every=timedelta(seconds=1)):
    pending = derive(Charge, select(Invoice.id).where(Invoice.paid.is_(False)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / ".qik").mkdir()
    with closing(sqlite3.connect(tmp_path / ".qik" / "dev.db")) as connection:
        connection.execute("CREATE TABLE invoice (id INTEGER PRIMARY KEY, paid BOOLEAN NOT NULL)")
        connection.executemany("INSERT INTO invoice VALUES (?, 0)", [(n,) for n in range(1, 51)])
        connection.commit()
    return tmp_path


def paid(folder: Path) -> int:
    with closing(sqlite3.connect(folder / ".qik" / "dev.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM invoice WHERE paid").fetchone()[0])


def test_one_command_works_off_what_sql_says_is_pending_and_ctrl_c_ends_all_of_it(
    folder: Path,
) -> None:
    with (folder / "log").open("wb") as log:
        dev = subprocess.Popen(
            [sys.executable, "-m", "qik_core.cli", "dev", "shop"],
            env={
                **os.environ,
                "PYTHONPATH": ROOT,
                "QIK_HEARTBEAT": "0.5",
                "QIK_LEASE": "3",
                "QIK_SHUTDOWN": "1",
            },
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: paid(folder) == 50, 30)
        dev.send_signal(signal.SIGINT)
        assert dev.wait(15) == 0
    finally:
        dev.kill()
        dev.wait()
    said = (folder / "log").read_text()
    assert "Traceback" not in said
    assert "parent: has stopped exit_code=0" in said
