"""`qik dev` as a newcomer types it: nothing installed or started before, one command, jobs, reconcilers and dashboard run."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from qik_core import cli
from tests.waiting import eventually

ROOT = str(Path(cli.__file__).parents[2])
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": ROOT,
    "DATABASE_URL": "sqlite:///shop.db",
    "QIK_HEARTBEAT": "0.5",
    "QIK_LEASE": "3",
    "QIK_SHUTDOWN": "1",
}


def readme_code() -> str:
    """The twenty lines of the README, which a newcomer saves as shop.py."""
    text = (Path(ROOT) / "README.md").read_text()
    return text.partition("```python\n")[2].partition("```")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "my shop"
    found.mkdir()
    (found / "shop.py").write_text(readme_code())
    return found


@contextmanager
def dev(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "qik_core.cli", "dev", "shop", "-q", "billing", *options],
            env=ENVIRONMENT,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def order(folder: Path, invoices: int) -> None:
    command = [sys.executable, "shop.py", str(invoices)]
    subprocess.run(command, env=ENVIRONMENT, cwd=folder, check=True)


def paid(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "shop.db", timeout=10)) as connection:
        query = "SELECT count(*) FROM invoice WHERE status = 'paid'"
        return int(connection.execute(query).fetchone()[0])


def said(folder: Path) -> str:
    return (folder / "log").read_text()


def address(folder: Path) -> str:
    """The dashboard's, as it is printed."""
    return eventually(lambda: said(folder).partition("dashboard ")[2].partition("\n")[0], 40)


def test_one_command_works_off_what_sql_says_is_pending_and_ctrl_c_ends_all_of_it(
    folder: Path,
) -> None:
    order(folder, 100)
    with dev(folder) as running, httpx.Client(trust_env=False, timeout=10) as browser:
        eventually(lambda: paid(folder) == 100, 30)
        order(folder, 5)
        eventually(lambda: paid(folder) == 105, 30)
        url = address(folder)
        assert "OpenInvoices" in browser.get(f"{url}reconcilers").text
        eventually(lambda: browser.get(f"{url}api/pulse").json()["processed"] == 105, 20)
        running.send_signal(signal.SIGINT)
        assert running.wait(15) == 0
        with pytest.raises(httpx.ConnectError):
            browser.get(url)
    assert "Traceback" not in said(folder)
    assert "parent: has stopped exit_code=0" in said(folder)


def test_what_is_saved_runs_what_cannot_be_imported_is_said_and_pages_stay_at_their_address(
    folder: Path,
) -> None:
    order(folder, 1)
    source = folder / "shop.py"
    with dev(folder), httpx.Client(trust_env=False, timeout=30) as browser:
        eventually(lambda: paid(folder) == 1, 30)
        url = address(folder)
        source.write_text(readme_code() + "\nthis is no Python\n")
        eventually(lambda: "SyntaxError" in said(folder), 30)
        eventually(lambda: "worker has ended with exit code" in said(folder), 30)
        source.write_text(
            readme_code().replace(
                '"open")\n        with', '"open")\n        print("second")\n        with'
            )
        )
        eventually(lambda: said(folder).count("changed: everything starts again") == 2, 30)
        order(folder, 1)
        eventually(lambda: paid(folder) == 2, 30)
        assert said(folder).count("second\n") == 1
        assert "Overview" in browser.get(url).text
