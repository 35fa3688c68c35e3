"""Python on pages of docs/ that is part of somebody's application: run as it stands there, with such an application around it.

Blocks that are whole are marked `run` and belong to `test_docs.py`. Here a test brings what the page takes for granted: tables,
rows, an `env.py`, a user. Only addresses of servers that nobody has are replaced.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import alembic
import httpx
import pytest
import redis

from qik_core import settings
from qik_core.settings import Settings
from tests import forks
from tests.qik_core.web.site import served
from tests.test_docs import PAGES, blocks, project

SHOP = project(PAGES["how-to/effects-once.md"], "none")["shop.py"]
"""An application with a table of invoices, a job that charges them, and their reconciler."""
TABLES = """
from sqlalchemy.orm import Session
from reconciler import migrate
from reconciler.engines import Engines
engine = Engines.from_settings().home()
migrate.upgrade(engine)
Base.metadata.create_all(engine)
with Session(engine) as session, session.begin():
    session.add_all([Invoice(id=number, status="open") for number in (1, 2, 3)])
"""
Run = Callable[..., str]


def part(name: str, number: int = 0) -> str:
    """Return one of the blocks of Python of a page that are not marked `run`."""
    text = [each.text for each in blocks(PAGES[f"how-to/{name}.md"]) if not each.marks][number]
    compile(text, name, "exec", dont_inherit=True)
    return f"{text}\n"


@pytest.fixture
def run(tmp_path: Path, redis_url: str) -> Run:
    """Writes `shop.py`, and runs code beside it, or a command of ours; returns what was printed."""
    home = f"sqlite:///{tmp_path / 'shop.db'}"
    env = {**os.environ, "REDIS_URL": redis_url, "DATABASE_URL": home}

    def run(shop: str, *words: str, code: str = "") -> str:
        (tmp_path / "shop.py").write_text(shop, encoding="utf-8")
        if code:
            done = forks.run_code(forks.RECONCILER, code, cwd=tmp_path, env=env)
        else:
            done = forks.run(forks.RECONCILER, words, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_job_writes_its_effect_and_its_row_together(run: Run) -> None:
    booking = (
        'class Booking(Base):\n    __tablename__ = "booking"\n'
        "    id: Mapped[int] = mapped_column(primary_key=True)\n    invoice_id: Mapped[int]\n"
    )
    told = (
        "class BookInvoice(Job, unique_for=600):\n    perform = perform\n"
        "class Unbooked(Reconciler, every=60):\n"
        '    pending = derive(BookInvoice, select(Invoice.id).where(Invoice.status == "open"))\n'
    )

    said = run(
        SHOP + booking + part("effects-once") + told,
        code="from shop import *\n" + TABLES + "BookInvoice.perform_inline(2)\n"
        "with Session(engine) as session:\n"
        "    print([each.invoice_id for each in session.scalars(select(Booking))], "
        "session.get(Invoice, 2).status, session.get(Invoice, 1).status)",
    )

    assert said == "[2] booked open\n"


def test_a_flush_is_planned_and_done_in_python(run: Run, raw: redis.Redis) -> None:
    said = run(
        SHOP,
        code="from shop import *\n" + TABLES + "ChargeInvoice.perform_bulk([(1,), (2,), (99,)])\n"
        + part("flush") + "print(plan.jobs, done.told())",
    )  # fmt: skip

    assert said.startswith("3 ['flushed 3 jobs")
    assert "2 re-derivable, 1 stale" in said
    assert raw.llen("queue:billing") == 0


def test_the_numbers_of_a_quarantine_are_taken_as_they_are_chosen(run: Run) -> None:
    versioned = SHOP.partition("class OpenInvoices(")[0].replace(
        "    status: Mapped[str]\n", "    status: Mapped[str]\n    version_id: Mapped[int | None]\n"
    )

    shop = f"{versioned}from reconciler import Quarantine\n{part('rows-that-fail')}"

    said = run(
        shop,
        code="from shop import *\n" + TABLES + "from reconciler.registry import find\n"
        'print(find("OpenInvoices").quarantine)',
    )

    assert "after=5, crashes=3, no_progress=3" in said
    assert "enqueued 3" in run(shop, "pass", "OpenInvoices", "--app", "shop")


def test_rows_of_one_database_are_told_with_our_tables_in_another(
    run: Run, tmp_path: Path, raw: redis.Redis
) -> None:
    (tmp_path / "qik.toml").write_text(
        f'databases.default = "sqlite:///{tmp_path}/shop.db"\n'
        f'databases.billing = "sqlite:///{tmp_path}/billing.db"\n'
    )
    shop = SHOP.partition("class OpenInvoices(")[0] + part("shards-and-databases")
    run(shop, "upgrade")
    elsewhere = TABLES.replace(".home()", '.engine("billing")')
    run(shop, code="from shop import *\n" + elsewhere)

    assert "enqueued 3" in run(shop, "pass", "OpenInvoices", "--app", "shop")
    assert raw.llen("queue:billing") == 3


def test_an_engine_for_asyncio_has_a_companion_for_threads(run: Run) -> None:
    block = part("shards-and-databases", 1).replace("+asyncpg", "+psycopg")

    said = run(
        block, code="import shop\nfrom reconciler.engines import Engines\n"
        "print(Engines.from_settings().home().url)",
    )  # fmt: skip

    assert said == "postgresql+psycopg://shop@db/shop\n"


def test_shards_are_told_one_by_one(run: Run, tmp_path: Path, raw: redis.Redis) -> None:
    block = part("shards-and-databases", 2)
    for shard in ("eu1", "us1"):
        block = block.replace(f"postgresql+psycopg://…/{shard}", f"sqlite:///{tmp_path}/{shard}.db")
    export = (
        'class Export(Base):\n    __tablename__ = "export"\n'
        "    id: Mapped[int] = mapped_column(primary_key=True)\n    state: Mapped[str]\n"
    )
    shop = SHOP.partition("class ChargeInvoice(")[0] + export + block
    rows = (
        "from sqlalchemy import create_engine\nfor shard, url in load().items():\n"
        "    engine = create_engine(url)\n    Base.metadata.create_all(engine)\n"
        "    with engine.begin() as connection:\n"
        "        connection.exec_driver_sql(\"INSERT INTO export VALUES (7, 'requested')\")\n"
    )
    run(shop, "upgrade")
    pushed = run(
        shop,
        code=f"from shop import *\n{rows}print(type(ExportTenant.perform_async('eu1', 7)).__name__)",
    )

    assert pushed == "Enqueued\n"
    assert "enqueued" not in run(shop, "pass", "Exports", "--app", "shop", "--shard", "eu1")
    assert "enqueued 1" in run(shop, "pass", "Exports", "--app", "shop", "--shard", "us1")
    assert raw.llen("queue:default") == 2


def test_the_applications_autogenerate_finds_its_tables_and_leaves_ours(
    run: Run, tmp_path: Path
) -> None:
    run(SHOP, "upgrade")
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    template = Path(alembic.__file__).parent / "templates" / "generic" / "script.py.mako"
    shutil.copy(template, folder)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    (folder / "env.py").write_text(
        "from alembic import context\nfrom sqlalchemy import create_engine\nfrom shop import Base\n"
        f"with create_engine('sqlite:///{tmp_path}/shop.db').connect() as connection:\n"
        + "".join(f"    {line}\n" for line in part("run-in-production").splitlines())
        + "    context.run_migrations()\n"
    )

    command = [sys.executable, "-m", "alembic", "revision", "--autogenerate", "-m", "first"]
    subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True
    )

    (made,) = (folder / "versions").glob("*.py")
    assert "create_table('invoice'" in made.read_text()
    assert "reconciler_" not in made.read_text()


@pytest.mark.parametrize("number", [1, 2])
def test_tracers_are_put_on_as_the_page_says(run: Run, number: int) -> None:
    block = part("trace-jobs", number)
    name = "sentry" if "sentry" in block else "opentelemetry"

    said = run(
        f"from qik_core.contrib import {name}\n{block}",
        code=f"import shop\nprint(shop.{name}.uninstrument() is None)",
    )

    assert said == "True\n"


@pytest.fixture
def users() -> dict[str, Any]:
    """Who is known to an application, by the header `user`."""
    return {
        "ada": SimpleNamespace(name="ada", is_operator=True),
        "bob": SimpleNamespace(name="bob", is_operator=False),
    }


def test_an_application_says_who_may_see_and_change_what(
    redis_url: str, users: dict[str, Any]
) -> None:
    async def user_of(request: Any) -> Any:
        return users.get(request.headers.get("user"))

    names: dict[str, Any] = {"user_of": user_of}
    settings.use(Settings(redis=redis_url))
    try:
        exec(compile(part("dashboard"), "dashboard.md", "exec", dont_inherit=True), names)  # noqa: S102
        with served(names["site"]) as url, httpx.Client(base_url=url) as client:
            pages = [
                client.get("/jobs/queues", headers={"user": name}) for name in ("", "bob", "ada")
            ]
    finally:
        settings.use(None)

    assert [each.status_code for each in pages] == [403, 200, 200]
    assert "Nothing was ever pushed" in pages[1].text
