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

ROOT = str(Path(cli.__file__).parents[2])


def readme_code() -> str:
    """The twenty lines of the README, which a newcomer saves as shop.py."""
    text = (Path(ROOT) / "README.md").read_text()
    return text.partition("```python\n")[2].partition("```")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(readme_code())
    return tmp_path


def paid(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "shop.db", timeout=10)) as connection:
        query = "SELECT count(*) FROM invoice WHERE status = 'paid'"
        return int(connection.execute(query).fetchone()[0])


def test_one_command_works_off_what_sql_says_is_pending_and_ctrl_c_ends_all_of_it(
    folder: Path,
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": ROOT,
        "DATABASE_URL": "sqlite:///shop.db",
        "QIK_HEARTBEAT": "0.5",
        "QIK_LEASE": "3",
        "QIK_SHUTDOWN": "1",
    }
    subprocess.run([sys.executable, "shop.py", "100"], env=environment, cwd=folder, check=True)
    with (folder / "log").open("wb") as log:
        dev = subprocess.Popen(
            [sys.executable, "-m", "qik_core.cli", "dev", "shop", "-q", "billing"],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: paid(folder) == 100, 30)
        subprocess.run([sys.executable, "shop.py", "5"], env=environment, cwd=folder, check=True)
        eventually(lambda: paid(folder) == 105, 30)
        dev.send_signal(signal.SIGINT)
        assert dev.wait(15) == 0
    finally:
        dev.kill()
        dev.wait()
    said = (folder / "log").read_text()
    assert "Traceback" not in said
    assert "parent: has stopped exit_code=0" in said
