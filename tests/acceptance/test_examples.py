"""The demo as a stranger runs it: real processes, real faults, a verdict, and an exit code that says the same."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import insert, select

from examples.indexer import database, jobs
from examples.indexer.documents import read
from examples.indexer.models import Base, Document, Effect, Status
from examples.indexer.sabotage import Part, apply, tamper
from qik_core.embedded import Embedded, Kind, NoServer
from qik_core.results import Code
from qik_core.store import Store
from tests import servers
from tests.qik_core.store.rig import Rig
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
ROWS = "400"
OFF = re.compile(r"^OFF +(.*?): ", re.MULTILINE)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "examples.indexer", *arguments]


def run(*arguments: str, timeout: float = 170.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    quick = ("--rows", ROWS, "--seconds", "10", "--seed", "7")
    return run("demo", *quick, "--evidence", str(folder), *arguments)


@pytest.fixture
def debians_redis() -> Iterator[Embedded]:
    try:
        server = Embedded(Kind.REDIS)
    except NoServer:
        pytest.fail(servers.absent("redis-server"))
    with server:
        yield server


def test_the_demo_loses_nothing_and_its_evidence_can_be_judged_again(tmp_path: Path) -> None:
    done = demo(tmp_path / "evidence")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"rows done: {ROWS} / {ROWS}" in done.stdout
    assert "0 lost; nothing is off" in done.stdout

    again = run("verify", str(tmp_path / "evidence"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 lost; nothing is off" in again.stdout

    tamper(tmp_path / "evidence", random.Random(7))
    tampered = run("verify", str(tmp_path / "evidence"))
    assert tampered.returncode == 1, tampered.stdout + tampered.stderr


@pytest.mark.slow
def test_the_demo_passes_with_postgres_and_redis_by_url(
    tmp_path: Path, postgres_url: str, debians_redis: Embedded
) -> None:
    urls = ("--database-url", postgres_url, "--redis-url", debians_redis.url)
    done = demo(tmp_path / "evidence", *urls)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = json.loads((tmp_path / "evidence" / "settings.json").read_text())
    assert settings["database"] == "postgresql"
    assert settings["server"].startswith("redis ")
    assert redis.Redis.from_url(debians_redis.url).dbsize() == 0


@pytest.mark.slow
def test_the_demo_passes_with_mariadb_by_url(tmp_path: Path, mariadb_url: str) -> None:
    done = demo(tmp_path / "evidence", "--database-url", mariadb_url)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = json.loads((tmp_path / "evidence" / "settings.json").read_text())
    assert settings["database"] == "mariadb"


def test_the_demo_refuses_to_empty_a_redis_that_holds_something(
    tmp_path: Path, redis_url: str, raw: redis.Redis
) -> None:
    raw.set("somebody's", "key")
    done = demo(tmp_path / "evidence", "--redis-url", redis_url)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "holds 1 keys" in done.stderr
    assert raw.get("somebody's") == b"key"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--redis-url", "redis://localhost:1/0"), 4, "cannot use the Redis of --redis-url"),
        (("--database-url", "sqlite:////nowhere/at/all.db"), 5, "Check --database-url"),
        (("--rows", "10000000"), 2, "use --rows"),
        (("--rows", "3"), 2, "--rows"),
        (("--sabotage", "nothing"), 2, "--sabotage"),
    ],
)
def test_what_cannot_work_is_refused_with_its_own_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = demo(tmp_path / "evidence", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_evidence_is_a_finding(tmp_path: Path) -> None:
    done = run("verify", str(tmp_path))
    assert done.returncode == 1
    assert "not the evidence of a demo that ended" in done.stderr


def test_a_demo_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    with subprocess.Popen(
        command("demo", "--rows", ROWS, "--evidence", str(folder)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        for line in started.stdout:
            if "jobs queued" in line and " 0 jobs" not in line:
                break
        assert len(_processes(folder)) > 4
        os.kill(started.pid, signal.SIGKILL)
    eventually(lambda: not _processes(folder), 20.0, "every process of the demo to end")


def _processes(folder: Path) -> list[int]:
    """Return the processes that were told of this folder."""
    mark, found = str(folder).encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


@pytest.fixture
def service(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The service's tables with one pending document, which is this file."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    database.engine.cache_clear()
    engine = database.engine()
    Base.metadata.create_all(engine)
    row = {"id": 1, "path": __file__, "rate": 10_000_000, "status": Status.PENDING}
    with engine.begin() as connection:
        connection.execute(insert(Document), [row])
    yield Path(__file__)
    engine.dispose()
    database.engine.cache_clear()


def test_the_effect_of_a_job_happens_once_however_often_it_runs(service: Path) -> None:
    first, second = jobs.begin(1, "j1"), jobs.begin(1, "j1")
    jobs.finish(second, read(service, 10_000_000))
    jobs.finish(first, read(service, 10_000_000))
    with database.reading(database.engine()).connect() as connection:
        rows = connection.execute(select(Effect.run, Effect.applied))
        effects = {row.run: row.applied for row in rows}
        document = connection.execute(select(Document)).one()
    assert effects == {second.id: True, first.id: False}
    assert document.status == Status.DONE
    assert document.size == service.stat().st_size


def test_a_file_is_read_no_faster_than_it_may_be(tmp_path: Path) -> None:
    file = tmp_path / "slow"
    file.write_bytes(b"x" * 4096)
    began = time.monotonic()
    read(file, 16_384)
    assert time.monotonic() - began >= 0.25


REASONS = {
    Part.LOCK: [{"overlaps", "jobs of one row at once"}],
    Part.FETCH: [{"lost", "left in Redis"}],
    # A process that asserts nothing also holds up every roll: it depends on which fault comes first.
    Part.EPOCH: [{"overlaps"}, {"lost", "left in Redis"}],
    Part.GUARD: [{"effects per row"}],
    Part.RECOVERY: [{"lost"}],
}


def test_without_locks_a_row_is_pushed_twice(
    redis_url: str, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("send", "told"):
        monkeypatch.setattr(Store, name, getattr(Store, name))  # as it was, afterwards
    apply(Part.LOCK)
    rig = Rig(redis_url, raw)

    assert rig.edge(1, keys=[7]) == rig.edge(2, keys=[7]) == [Code.ENQUEUED]

    assert (len(rig.queued()), rig.locks()) == (2, 0)
    rig.link.close()
    rig.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", REASONS)
def test_a_part_that_is_broken_on_purpose_is_found_for_the_right_reason(
    tmp_path: Path, part: Part
) -> None:
    done = demo(tmp_path / "evidence", "--sabotage", part)
    assert done.returncode == 1, done.stdout + done.stderr
    found = set(OFF.findall(done.stdout))
    assert any(reasons <= found for reasons in REASONS[part]), done.stdout


@pytest.mark.slow
def test_evidence_that_is_tampered_with_is_found(tmp_path: Path) -> None:
    done = demo(tmp_path / "evidence", "--sabotage", Part.VERDICT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(OFF.findall(done.stdout)) <= 4, done.stdout  # the run itself was sound


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_the_demo_passes_with_every_seed(tmp_path: Path, seed: int) -> None:
    done = run("demo", "--seed", str(seed), "--evidence", str(tmp_path / "evidence"))
    assert done.returncode == 0, done.stdout + done.stderr
