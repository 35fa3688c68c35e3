"""The commands of flush as one types them, in the test's own process, beside an application and its jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from qik_core import application, client, settings
from qik_core.settings import Settings
from reconciler.cli import main
from tests.reconciler.shop import fill

APP = """
from sqlalchemy import select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Mail(Job, queue="mails"):
    def perform(self, to: str) -> None: ...

class Items(Reconciler, every=60):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"))
"""


class Here:
    """Runs `reconciler` in this process, beside an application and its jobs."""

    def __init__(self, raw: Any, home: Engine, app: Any, folder: Path) -> None:
        self.raw: Any = raw
        self.home = home
        self.app = app
        self.folder = folder

    def __call__(self, *words: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(main, list(words), input=typed)

    def flush(self, *words: str, typed: str | None = None) -> Result:
        return self("flush", *words, typed=typed)

    def jobs(self) -> int:
        return int(self.raw.llen("queue:work") + self.raw.llen("queue:mails"))


@contextmanager
def typing_in(
    folder: Path, home: Engine, raw: Any, urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Here]:
    """Type in a folder with an application: rows 1 to 3 have jobs, and so has row 99, which is not there.

    `urls` are those of Redis and of the database.
    """
    redis_url, database_url = urls
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    (folder / "flush_app.py").write_text(APP)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("QIK_APP", "flush_app")
    settings.use(Settings(redis=redis_url))
    application.load("flush_app")
    app: Any = sys.modules["flush_app"]
    fill(home, [1, 2, 3])
    for n in (1, 2, 3, 99):
        app.Work.perform_async(n)
    try:
        yield Here(raw, home, app, folder)
    finally:
        sys.modules.pop("flush_app", None)
        client.current().store.close()
        settings.use(None)
