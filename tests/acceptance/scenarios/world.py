"""A world for one scenario: a Redis, a database, real processes at a tenth of the usual times, and what became of the rows.

Processes are the commands that an operator starts: `qik work` with two children of five threads, `reconciler run`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from sqlalchemy import func, insert, select, update

from qik_core import Job, registry
from reconciler import tables
from tests import forks
from tests.acceptance.scenarios import stage
from tests.acceptance.scenarios.stage import Base, Effect, Item
from tests.integration.shop import LEASE, Shop
from tests.reconciler.tables import ours
from tests.waiting import eventually

EVERY = 2.0
WORKERS = ("-q", "work", "-p", "2", "-c", "5")
_STEP = 1_000

HEAD = """
from sqlalchemy import func, select
from qik_core import Job
from reconciler import Reconciler, derive
from tests.acceptance.scenarios.stage import Item, Effect, effect, engine, tried, wait

PENDING = select(Item.id).where(Item.state == "pending")
"""
"""How the code of every application begins."""

PLAIN = """
class Work(Job, queue="work", unique_for=600, retry=5):
    def perform(self, item_id: int) -> None:
        effect(self, item_id, {seconds})

class Items(Reconciler, every={every}, edges=True):
    pending = derive(Work, PENDING)
"""
"""The application of most scenarios."""

with registry.scope():

    class Work(Job, queue="work", unique_for=600, retry=5):
        """The same job as this process has it, to push edges at once."""

        def perform(self, item_id: int) -> None: ...


class Size(NamedTuple):
    """On what a scenario runs, and with how much."""

    database: str
    rows: int
    full: bool


def sizes(
    fast: int | None,
    full: int,
    *,
    times: int = 3,
    on: str = "sqlite",
    databases: Sequence[str] = ("sqlite", "postgres"),
    timeout: int = 300,
) -> pytest.MarkDecorator:
    """Run a scenario small, on one database, and among the slow tests in full: on each database, so many times.

    Without a `fast` number of rows it runs in full alone: another scenario is small with the same mechanism.
    """
    marks = [pytest.mark.slow, pytest.mark.timeout(timeout)]
    small = [pytest.param(Size(on, fast or 0, full=False), id=f"small-{on}")]
    large = [
        pytest.param(Size(each, full, full=True), id=f"full-{each}-{number}", marks=marks)
        for each in databases
        for number in range(1, times + 1)
    ]
    return pytest.mark.parametrize("size", [*small[: fast is not None], *large])


class Run(NamedTuple):
    """One run of a job."""

    item_id: int
    pid: int
    version: int
    started: float
    ended: float | None


class World(Shop):
    """One application with its workers, its reconcilers and its rows."""

    def __init__(self, folder: Path, redis_url: str, database_url: str) -> None:
        super().__init__(folder, redis_url, "")
        self.redis_url = redis_url
        self.database_url = database_url
        self.environment |= {"DATABASE_URL": database_url}
        self.engine = stage.connect(database_url)
        self.reconcilers: list[subprocess.Popen[bytes]] = []
        ours(self.engine)
        Base.metadata.create_all(self.engine)

    @property
    def on_sqlite(self) -> bool:
        """One writer at a time, and processes that share a file."""
        return self.engine.dialect.name == "sqlite"

    # --- what there is ---------------------------------------------------------------------------

    def define(self, app: str = PLAIN, **values: object) -> None:
        """Write the application; `values` fill the places of its text."""
        (self.folder / "shop.py").write_text(HEAD + app.format(**values))

    def plain(self, seconds: float = 0.0, every: float = EVERY) -> None:
        """Write the usual application, whose job takes so long."""
        self.define(PLAIN, seconds=seconds, every=every)

    def fill(self, ids: Iterable[int], **values: object) -> None:
        """Insert rows, pending where `values` do not say otherwise."""
        rows = [{"id": each, **values} for each in ids]
        with self.engine.begin() as connection:
            for at in range(0, len(rows), _STEP):
                connection.execute(insert(Item), rows[at : at + _STEP])

    def change(self, *ids: int, **values: object) -> None:
        """Update rows."""
        with self.engine.begin() as connection:
            connection.execute(update(Item).where(Item.id.in_(ids)).values(**values))

    # --- processes -------------------------------------------------------------------------------

    def begin(self, *flags: str) -> None:
        """Start the workers and a reconciler, and wait until both are at work."""
        self.spawn(*(flags or WORKERS))
        self.reconcile()
        self.await_ready()

    def await_ready(self) -> None:
        """Wait until the worker that was started last is at work."""
        number = len(self.workers) - 1

        def ready() -> bool:
            assert self.workers[number].poll() is None, self.log(number)
            return "parent: is ready" in self.log(number)

        eventually(ready, 30, f"the worker of log{number} is ready")

    def start_work(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start workers and wait until they are at work."""
        self.spawn(*(flags or WORKERS))
        self.await_ready()
        return self.workers[-1]

    def reconcile(self, *flags: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process of reconcilers."""
        command = [sys.executable, "-m", "reconciler.cli", "run", "shop", "--lease", str(LEASE)]
        with (self.folder / f"reconciler{len(self.reconcilers)}").open("wb") as log:
            process = subprocess.Popen(
                [*command, *flags],
                env=self.environment | environment,
                cwd=self.folder,
                stderr=log,
            )
        self.reconcilers.append(process)
        return process

    def command(
        self, *words: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `reconciler …` to its end."""
        env = {**self.environment, **environment}
        done = forks.run(forks.RECONCILER, words, cwd=self.folder, env=env, timeout=120)
        assert not check or done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done

    def python(self, code: str, **environment: str) -> str:
        """Run code beside the application, as the application itself would; start Python for an environment of its own."""
        code, env = f"from shop import *\n{code}", {**self.environment, **environment}
        if environment:
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=env,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        else:
            done = forks.run_code(forks.RECONCILER, code, cwd=self.folder, env=env, timeout=120)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    def stop_work(self) -> None:
        """End the workers as an operator does."""
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(15)

    def close(self) -> None:
        for process in self.reconcilers:
            if process.poll() is None:
                process.kill()
            process.wait()
        super().close()
        self.engine.dispose()

    # --- what became of the rows -----------------------------------------------------------------

    def pending(self) -> int:
        """How many rows still want a job."""
        query = select(func.count()).select_from(Item).where(Item.state == "pending")
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def await_done(self, timeout: float) -> None:
        """Wait until no row wants a job."""
        eventually(lambda: self.pending() == 0, timeout, "every row is done", every=0.05)

    def runs(self, *ids: int) -> list[Run]:  # type: ignore[override]
        """Every run, in the order of their beginnings."""
        query = select(
            Effect.item_id, Effect.pid, Effect.version, Effect.started, Effect.ended
        ).order_by(Effect.started)
        with self.engine.connect() as connection:
            found = [Run(*row) for row in connection.execute(query)]
        return [run for run in found if not ids or run.item_id in ids]

    def check_exactly_once(self, ids: Iterable[int]) -> None:
        """Hold that each of these rows had one run, and no other row had any."""
        runs = self.runs()
        counts = Counter(run.item_id for run in runs)
        wrong = {each: count for each, count in counts.items() if count != 1}
        assert not wrong, f"runs of rows, not one: {dict(list(wrong.items())[:10])}"
        assert counts.keys() == set(ids)
        assert all(run.ended is not None for run in runs)

    def check_no_overlap(self, cut: Mapping[int, float] | None = None) -> None:
        """Hold that no two runs of a row were under way at once; `cut`: process id → when it was killed."""
        runs = sorted(self.runs())
        for number, group in groupby(runs, key=lambda run: run.item_id):
            spans = sorted(_span(run, cut or {}) for run in group)
            for before, after in pairwise(spans):
                assert before[1] <= after[0], f"runs of row {number} overlap: {spans}"

    # --- what passes and Redis say ---------------------------------------------------------------

    def ledger(self, name: str = "Items") -> list[Any]:
        """Every pass of this reconciler, oldest first."""
        query = (
            select(tables.passes)
            .where(tables.passes.c.reconciler == name)
            .order_by(tables.passes.c.id)
        )
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    def completed(self, name: str = "Items") -> int:
        """How many passes are completed."""
        return sum(row.outcome == "completed" for row in self.ledger(name))

    def await_passes(self, more: int, name: str = "Items", timeout: float = 30.0) -> None:
        """Wait until so many passes have been completed that began from now on."""
        begun = max((row.id for row in self.ledger(name)), default=0)
        eventually(
            lambda: (
                sum(row.id > begun and row.outcome == "completed" for row in self.ledger(name))
                >= more
            ),
            timeout,
            f"{more} passes",
            every=0.05,
        )

    def codes(self, name: str = "Items") -> Counter[str]:
        """How many rows had each code, over all passes."""
        total: Counter[str] = Counter()
        for row in self.ledger(name):
            total.update(json.loads(row.codes or "{}"))
        return total

    def drift(self, name: str = "Items") -> Counter[str]:
        """How many rows had been lost, by cause, over all passes."""
        total: Counter[str] = Counter()
        for row in self.ledger(name):
            total.update(json.loads(row.details or "{}").get("drift", {}))
        return total

    def await_drift(self, expected: Mapping[str, int], seconds: float) -> None:
        """Wait until so many rows had been lost, by cause; a failure says what each pass has written."""
        with suppress(AssertionError):
            eventually(lambda: self.drift() == expected, seconds)
        assert self.drift() == expected, [(row.outcome, row.details) for row in self.ledger()]

    def held(self) -> dict[str, int]:
        """How many rows are held back, by state and reason."""
        states = tables.row_state.c
        query = select(states.state, states.reason).where(states.job_class == "Work")
        with self.engine.connect() as connection:
            return Counter(f"{state} {reason}" for state, reason in connection.execute(query))

    def pushed(self, name: str = "Items") -> int:
        """How many jobs passes have pushed."""
        return self.codes(name)["enqueued"]


def _span(run: Run, cut: Mapping[int, float]) -> tuple[float, float]:
    ended = run.ended if run.ended is not None else cut.get(run.pid, float("inf"))
    return run.started, ended


def locks(raw: redis.Redis) -> dict[bytes, bytes]:
    """Every lock of every generation: its key and its record."""
    found: dict[bytes, bytes] = {}
    for name in raw.scan_iter("qik:unique:*"):
        records: Any = raw.hgetall(name)
        found |= {key: record for key, record in records.items() if key != b"#"}
    return found


def running(raw: redis.Redis) -> int:
    """How many locks say that their job runs."""
    return sum(record[:1] == b"r" for record in locks(raw).values())


def idle(raw: redis.Redis, queue: str = "work") -> bool:
    """Whether no job is left anywhere, and no lock."""
    there = raw.llen(f"queue:{queue}") + raw.zcard("retry") + raw.zcard("schedule")
    later = raw.zcard(f"qik:later:{queue}")
    held = sum(
        field not in (b"#", b"@")
        for key in raw.scan_iter("qik:working:*")
        for field in raw.hkeys(key)
    )
    return not there and not later and not held and not locks(raw)


def end_by_force(pids: Sequence[int]) -> None:
    """SIGKILL these processes."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
