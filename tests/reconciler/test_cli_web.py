"""`reconciler web`: the dashboard with the tabs of reconcilers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from qik_core import settings
from reconciler.cli import main
from tests.waiting import eventually


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


APP = """
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Items(Reconciler, every=60):
    pending = derive(Work, select(Item.id))
"""


@pytest.mark.usefixtures("home")
def test_it_serves_the_pages_of_reconcilers_and_ends_with_a_signal(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "shop_app.py").write_text(APP)
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "reconciler.cli", "web", "shop_app", "--port", "0"),
            *("--database-url", database_url, "--redis-url", redis_url),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://127.0.0.1:\d+/", process.stdout.readline())
        assert found is not None
        page = eventually(lambda: _got(f"{found[0]}reconcilers"), 20.0)
        declared = _got(f"{found[0]}reconcilers/Items")
        process.send_signal(signal.SIGTERM)
        process.wait(10)

    assert "No reconciler has ever run here" in page
    assert "FROM item" in declared


def test_it_refuses_to_be_reached_from_elsewhere_without_a_password(
    home: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["web", "--host", "0.0.0.0"])  # noqa: S104
    settings.use(None)

    assert done.exit_code == 3
    assert "set QIK_WEB_PASSWORD" in done.output


def _got(url: str) -> str:
    try:
        return httpx.get(url, trust_env=False).text
    except httpx.TransportError:
        return ""
