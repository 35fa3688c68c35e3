"""examples/saas as it would run: web service, worker and reconcilers as processes of their own, with two databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from sqlalchemy import Engine, create_engine, func, select

from examples.saas.models import Account, Base, InfraBase, Invoice, Mail, Reminder, Workspace
from qik_core.embedded import Embedded
from qik_core.store import Store
from tests.integration.shop import TENTH
from tests.waiting import eventually, never

ROOT = Path(__file__).resolve().parents[2]
APP = "examples.saas.app"
COMMANDS = {
    "upgrade": ("reconciler.cli", "upgrade"),
    "lint": ("reconciler.cli", "lint", APP),
    "reconcilers": ("reconciler.cli", "run", APP),
    "worker": ("qik_core.cli", "work", APP),
    "web": ("uvicorn", "examples.saas.web:app", "--uds", "web.sock"),
}


class Service:
    """The processes of one service, and its two databases."""

    def __init__(self, folder: Path, redis_url: str, urls: tuple[str, str]) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            **TENTH,
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis_url,
            "DATABASE_URL": urls[0],
            "DATABASE_URL_INFRA": urls[1],
        }
        self.default, self.infra = (create_engine(url) for url in urls)
        Base.metadata.create_all(self.default)
        InfraBase.metadata.create_all(self.infra)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.web = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(folder / "web.sock")), base_url="http://saas"
        )

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", *COMMANDS[name]],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, name: str, ready: str) -> None:
        """Start a command; return when its log says that it is ready."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", *COMMANDS[name]],
                env=self.environment,
                cwd=self.folder,
                stdout=file,
                stderr=file,
            )
        eventually(lambda: ready in log.read_text(), 30.0, f"{name}: {ready}")

    def post(self, path: str, status: int = 201, **body: Any) -> Any:
        answer = self.web.post(path, json=body, timeout=15)
        assert answer.status_code == status, answer.text
        return answer.json()

    def order(self, number: int) -> None:
        """Sign somebody up, who wants one thing of each kind now, and one later."""
        now = datetime.now(UTC)
        account = self.post("/accounts", email=f"{number}@example.com")["id"]
        self.post("/workspaces", tenant=f"t{number % 3}", name=f"w{number}")
        soon, later = now + timedelta(seconds=1), now + timedelta(days=1)
        for moment in (soon, later):
            self.post("/reminders", account=account, text="tea", send_at=moment.isoformat())
        for day in (None, (now + timedelta(days=40)).date().isoformat()):
            self.post("/invoices", account=account, amount="7.50", due_on=day)

    def count(self, engine: Engine, column: Any, *which: Any) -> int:
        with engine.connect() as connection:
            found: int = connection.execute(select(func.count(column)).where(*which)).scalar_one()
            return found

    def done(self, customers: int) -> bool:
        """Tell whether everything that is due has happened."""
        return (
            self.count(self.default, Mail.id) >= 3 * customers
            and self.count(self.infra, Workspace.name, Workspace.state == "ready") == customers
        )

    def mails(self) -> Mapping[tuple[str, str], int]:
        """Count the mails by recipient and kind."""
        with self.default.connect() as connection:
            rows = connection.execute(select(Mail.recipient, Mail.subject)).all()
        return Counter((recipient, subject.split()[0].strip(":")) for recipient, subject in rows)

    def close(self) -> None:
        self.web.close()
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            process.wait(20)
        self.default.dispose()
        self.infra.dispose()


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.slow), "postgres"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two empty databases."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/saas.db", f"sqlite:///{tmp_path}/infra.db"
        return
    first = request.getfixturevalue("postgres_url")
    with request.getfixturevalue("_postgres")[0].database() as second:
        yield first, second


@contextmanager
def service(folder: Path, redis_url: str, urls: tuple[str, str]) -> Iterator[Service]:
    Store(redis_url, birth_ms=0).look()  # no hold at the start of a new epoch
    made = Service(folder, redis_url, urls)
    try:
        done = made.run("upgrade")
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.close()


CUSTOMERS = 12


def test_requests_make_rows_and_whatever_redis_loses_each_mail_is_written_once(
    tmp_path: Path, redis_server: Embedded, raw: redis.Redis, urls: tuple[str, str]
) -> None:
    with service(tmp_path, redis_server.url, urls) as saas:
        saas.start("reconcilers", "reconcilers run")
        saas.start("web", "Uvicorn running")
        for number in range(CUSTOMERS):
            saas.order(number)
        assert raw.llen("queue:mail") >= CUSTOMERS  # the edges wait: no worker is here
        saas.post("/accounts", 409, email="0@example.com")
        raw.flushall()

        saas.start("worker", "parent: is ready")
        eventually(lambda: saas.done(CUSTOMERS), 40.0, "what a FLUSHALL has lost")

        redis_server.kill()
        saas.post("/accounts", email="late@example.com")
        redis_server.start()
        late = ("late@example.com", "Welcome")
        eventually(lambda: late in saas.mails(), 40.0, "a sign-up while Redis was away")

        everybody = {f"{number}@example.com" for number in range(CUSTOMERS)}
        wanted = {
            (who, kind): 1 for who in everybody for kind in ("Welcome", "Receipt", "Reminder")
        }
        never(lambda: saas.mails() != {**wanted, late: 1}, 3.0)
        assert saas.count(saas.infra, Workspace.name, Workspace.built == 1) == CUSTOMERS
        assert saas.count(saas.default, Invoice.id, Invoice.status == "open") == CUSTOMERS
        assert saas.count(saas.default, Reminder.id, ~Reminder.sent) == CUSTOMERS
        assert saas.count(saas.default, Account.id) == CUSTOMERS + 1


def test_nothing_of_the_service_is_wrong_by_lint(
    tmp_path: Path, redis_url: str, urls: tuple[str, str]
) -> None:
    with service(tmp_path, redis_url, urls) as saas:
        done = saas.run("lint")

    assert (done.returncode, done.stdout) == (0, "nothing is found\n"), done.stdout + done.stderr
