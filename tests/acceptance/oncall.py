"""The shop of docs/how-to/on-call.md: real processes, a flag service that is down, and one fault for each situation."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import create_engine, select, text, update

from qik_core.embedded import Embedded
from reconciler import migrate, tables
from tests import forks
from tests.integration.shop import TENTH
from tests.waiting import eventually

ROOT = str(Path(__file__).parents[2])
NOBODY = "http://127.0.0.1:1/api"
"""Where no flag service answers."""

APP = """
import os
from datetime import timedelta
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from qik_core import Job, RetryIn
from reconciler import Quarantine, Reconciler, derive

engine = create_engine(os.environ["DATABASE_URL"], connect_args={"timeout": 30})

class Base(DeclarativeBase): ...

class Mail(Base):
    __tablename__ = "mail"
    id: Mapped[int] = mapped_column(primary_key=True)
    sent: Mapped[bool] = mapped_column(default=False)

class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="paid")
    charges: Mapped[int] = mapped_column(default=0)

class Import(Base):
    __tablename__ = "import"
    id: Mapped[int] = mapped_column(primary_key=True)
    done: Mapped[bool] = mapped_column(default=False)

class Plan(Base):
    __tablename__ = "plan"
    id: Mapped[int] = mapped_column(primary_key=True)
    renewed: Mapped[bool] = mapped_column(default=False)

def write(statement):
    with engine.begin() as connection:
        connection.execute(statement)

class SendMail(Job, queue="mail", unique_for=3600):
    def perform(self, mail_id: int) -> None:
        write(update(Mail).where(Mail.id == mail_id).values(sent=True))

class ChargeInvoice(Job, queue="billing", unique_for=3600):
    def perform(self, invoice_id: int) -> None:
        # The mistake of this release: it charges, and does not write down that it has.
        write(update(Invoice).where(Invoice.id == invoice_id).values(charges=Invoice.charges + 1))

class ImportRow(Job, queue="imports", unique_for=3600):
    def perform(self, row_id: int) -> None:
        write(update(Import).where(Import.id == row_id).values(done=True))

class RenewPlan(Job, queue="plans", unique_for=3600, retry=0):
    def perform(self, plan_id: int) -> None:
        if os.path.exists("bad-release"):
            raise KeyError("price")
        write(update(Plan).where(Plan.id == plan_id).values(renewed=True))

class UnsentMails(Reconciler, every=1):
    pending = derive(SendMail, select(Mail.id).where(~Mail.sent))

class OpenInvoices(Reconciler, every=1, quarantine=Quarantine(no_progress=3, backoff=(0.2, 1.0))):
    pending = derive(ChargeInvoice, select(Invoice.id).where(Invoice.status == "open"))

class OpenImports(Reconciler, every=1):
    pending = derive(ImportRow, select(Import.id).where(~Import.done))

class DuePlans(Reconciler, every=1, quarantine=Quarantine(after=1)):
    pending = derive(RenewPlan, select(Plan.id).where(~Plan.renewed))
"""


class Shop:
    """The shop: a Redis, a database, a worker, a process of reconcilers; and a terminal."""

    def __init__(self, folder: Path, server: Embedded) -> None:
        self.folder = folder
        self.server = server
        self.raw = redis.Redis.from_url(server.url)
        url = f"sqlite:///{folder / 'shop.db'}"
        self.engine = create_engine(url, connect_args={"timeout": 30})
        (folder / "shop.py").write_text(APP)
        (folder / "broken.py").write_text("raise RuntimeError('a merge that went wrong')\n")
        self.environment = {
            **os.environ,
            **TENTH,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "REDIS_URL": server.url,
            "DATABASE_URL": url,
            "UNLEASH_URL": NOBODY,
            "UNLEASH_API_TOKEN": "default:production.token",
            "QIK_APP": "shop",
            "QIK_RELEASE": "2026-01-01.2",
            "COLUMNS": "200",
        }
        self.hard = False
        self.plans = 100
        self.processes: list[subprocess.Popen[bytes]] = []

    def open(self) -> None:
        """Make the tables and start the processes."""
        migrate.upgrade(self.engine)
        self.python("from shop import *; Base.metadata.create_all(engine)")
        queues = [word for name in ("mail", "billing", "plans") for word in ("-q", name)]
        self._start("qik_core.cli", "work", "-p", "1", "-c", "5", *queues)
        self._start("reconciler.cli", "run")
        eventually(lambda: self.raw.zcard("qik:alive") == 1, 60, "a worker")
        eventually(lambda: len(self.rows(tables.passes.select())) >= 4, 60, "passes")

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)
        self.raw.close()
        self.engine.dispose()

    def calm(self) -> None:
        """Leave nothing of the situation before."""
        self.hard = False
        self.raw.config_set("maxmemory", 0)
        for path in (*self.folder.glob("*.jsonl"), self.folder / "bad-release"):
            path.unlink(missing_ok=True)
        for table in ("mail", "invoice", "import", "plan", "reconciler_row_state"):
            self.run(text(f"DELETE FROM {table}"))
        off = select(tables.switch.c.name).where(tables.switch.c.disabled)
        for (name,) in self.rows(off):
            self.type(f"reconciler enable {name} --reason 'all is well' --wait 0")
        if self.raw.llen("queue:imports") or self.raw.zcard("dead"):
            lose = "--lose ImportRow --lose RenewPlan"
            self.type(f"reconciler flush --all {lose} --reason 'all is well' --yes")

    def deploy(self, release: str) -> None:
        """Start the process of reconcilers anew, with another release."""
        self.environment["QIK_RELEASE"] = release
        old = self.processes.pop()
        old.terminate()
        old.wait(30)
        self._start("reconciler.cli", "run")

    def type(self, command: str) -> str:
        """Type a command as it stands on the page; returns what it printed."""
        program, *words = shlex.split(command)
        module = {"reconciler": forks.RECONCILER, "qik": forks.QIK}[program]
        environment = {**self.environment, "QIK_APP": "broken"} if self.hard else self.environment
        done = forks.run(module, words, cwd=self.folder, env=environment)
        return done.stdout + done.stderr

    def python(self, code: str) -> None:
        """Run code as the application would."""
        command = [sys.executable, "-c", code]
        subprocess.run(command, env=self.environment, cwd=self.folder, check=True, timeout=60)

    def rows(self, statement: Any) -> Sequence[Any]:
        """Return what a statement finds."""
        with self.engine.connect() as connection:
            return connection.execute(statement).all()

    def run(self, statement: Any, values: Any = None) -> None:
        """Run a statement that writes."""
        with self.engine.begin() as connection:
            connection.execute(statement, values)

    def count(self, sql: str) -> int:
        """Return the one number that a statement finds."""
        return int(self.rows(text(sql))[0][0])

    def insert(self, table: str, count: int, **values: object) -> None:
        """Insert rows."""
        names, places = ", ".join(values), ", ".join(f":{name}" for name in values)
        self.run(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), [values] * count)

    def _start(self, module: str, *words: str) -> None:
        with (self.folder / f"{words[0]}.log").open("wb") as log:
            command = [sys.executable, "-m", module, *words]
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )
        self.processes.append(process)


# --- the faults ------------------------------------------------------------------------------------


def mails_stopped(shop: Shop) -> None:
    """Somebody switched mails off 40 minutes ago, and went home."""
    shop.type("reconciler disable SendMail --reason 'trying the new template'")
    earlier = {"set_at": tables.switch.c.set_at - 2400.0}
    shop.run(update(tables.switch).values(**earlier))
    shop.run(update(tables.audit).values(at=tables.audit.c.at - 2400.0))
    shop.insert("mail", 20, sent=False)


def charged_twice(shop: Shop) -> None:
    """A release charges, and does not write down that it has."""
    shop.insert("invoice", 5, status="open", charges=0)
    held = select(tables.row_state).where(tables.row_state.c.state == "quarantined")
    eventually(lambda: len(shop.rows(held)) == 5, 60, "rows that are quarantined")


def redis_is_full(shop: Shop) -> None:
    """Imports that nobody works off fill Redis."""
    shop.insert("import", 3000, done=False)
    eventually(lambda: shop.raw.llen("queue:imports") >= 3000, 60, "imports on their queue")
    used = int(shop.raw.info("memory")["used_memory"])
    shop.raw.config_set("maxmemory", int(used / 0.97))


def dead_jobs(shop: Shop) -> None:
    """A release renews no plan: every job dies."""
    (shop.folder / "bad-release").touch()
    shop.insert("plan", shop.plans, renewed=False)
    eventually(lambda: shop.raw.zcard("dead") >= shop.plans, 120, "dead jobs")
    held = "SELECT count(*) FROM reconciler_row_state WHERE job_class = 'RenewPlan'"
    eventually(lambda: shop.count(held) == shop.plans, 60, "quarantined rows")


def redis_is_empty(shop: Shop) -> None:
    """Redis was restarted without its data, with jobs that waited."""
    shop.insert("import", 500, done=False)
    eventually(lambda: shop.raw.llen("queue:imports") >= 500, 60, "imports on their queue")
    lost = select(tables.audit).where(tables.audit.c.action == "redis_lost")
    before = len(shop.rows(lost))
    shop.server.kill()
    shop.server.start()
    eventually(lambda: len(shop.rows(lost)) > before, 60, "the loss to be noticed")


FAULTS: dict[str, Callable[[Shop], None]] = {
    "Mails stopped": mails_stopped,
    "Customers are charged twice": charged_twice,
    "Redis is 97 % full": redis_is_full,
    "Thousands of dead jobs": dead_jobs,
    "Redis came back empty": redis_is_empty,
}
"""The headings of the page, and what is planted for each."""
