"""`reconciler` as it is typed, in a folder with the application that a test's module has as APP."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import forks

NOWHERE = "postgresql+psycopg://127.0.0.1:1/x"


class Command:
    """Runs `reconciler` in a folder with an application."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = environment

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.environment, **environment}
        return forks.run(forks.RECONCILER, arguments, cwd=self.folder, env=env)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: what the commands call is tested on each."""
    return sqlite_url


@pytest.fixture
def command(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str, redis_url: str
) -> Command:
    (tmp_path / "shop_app.py").write_text(request.module.APP)
    return Command(tmp_path, DATABASE_URL=database_url, REDIS_URL=redis_url, QIK_APP="shop_app")
