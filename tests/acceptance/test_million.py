"""A pass over a million rows of PostgreSQL: memory stays flat, transactions stay short, every row is told once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine, text

from qik_core.board import EVERY
from qik_core.passes import Passes
from qik_core.store import Store
from qik_core.switches import Rule, Snapshot, flag_of_class
from tests.waiting import alive, eventually

ROWS = 1_000_000
ROOT = Path(__file__).parents[2]
# One process: a pass over few rows to have everything loaded, one that tells a million, one that finds them told.
RUN = """
import json, re, sys
from pathlib import Path
from benchmarks import rows
from qik_core.passes import Passes
from reconciler import migrate
from reconciler.engines import Engines
from reconciler.passes import Pass, Tools

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

url, n = sys.argv[1], int(sys.argv[2])
engines = Engines({"default": url})
home = engines.home()
migrate.upgrade(home)
rows.fill(home, 20_000)
tools = Tools.of(Passes(), engines, "test")

def run():
    report = Pass(rows.PendingRows.definition, tools, 0, lambda: None).run()
    said = {**report.as_json(), "peak": peak()}
    print(json.dumps(said), flush=True)

run()
run()
home.dispose()
Path(sys.argv[3]).touch()
while not Path(sys.argv[3] + ".filled").exists():
    pass
run()
run()
"""
FILL = "INSERT INTO bench_row (id, status) SELECT n, 'pending' FROM generate_series(20000, :last) n"
OLDEST = text(
    "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) "
    "FROM pg_stat_activity WHERE application_name = 'reconciler'"
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_rows_are_told_with_flat_memory_and_short_transactions(
    tmp_path: Path, postgres_url: str, redis_url: str, raw: redis.Redis
) -> None:
    ready = tmp_path / "ready"
    code = [sys.executable, "-c", RUN, postgres_url, str(ROWS), str(ready)]
    environment = {**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    oldest, engine = 0.0, create_engine(postgres_url)
    with (
        subprocess.Popen(code, env=environment, stdout=subprocess.PIPE, text=True) as process,
        engine.connect() as connection,
    ):
        said = [_line(process), _line(process)]
        connection.execute(text(FILL), {"last": ROWS - 1})
        connection.execute(text("ANALYZE bench_row"))
        connection.commit()
        Path(f"{ready}.filled").touch()
        while alive(process.pid):
            oldest = max(oldest, float(connection.execute(OLDEST).scalar_one()))
            connection.rollback()
        said += [json.loads(line) for line in process.stdout or ()]

    engine.dispose()

    small, _, new, told = said
    assert [each["outcome"] for each in said] == ["completed"] * 4
    assert new["codes"] == {"told": 20_000, "enqueued": ROWS - 20_000}
    assert told["codes"] == {"told": ROWS}
    assert raw.llen("queue:bench") == ROWS
    assert told["peak"] - small["peak"] <= 20
    assert 0 < oldest < 11  # the statement timeout and a second


# A pass over a million new rows, in a process that reads the switches as every other does.
SWITCHED = """
import json, sys
from sqlalchemy import text
from benchmarks import rows
from qik_core.passes import Passes
from reconciler import migrate
from reconciler.engines import Engines
from reconciler.passes import Pass, Tools

engines = Engines({"default": sys.argv[1]})
home = engines.home()
migrate.upgrade(home)
rows.fill(home, 20_000)
with home.begin() as connection:
    connection.execute(text(sys.argv[2]), {"last": int(sys.argv[3])})
tools = Tools.of(Passes(), engines, "test")
report = Pass(rows.PendingRows.definition, tools, 0, lambda: None).run()
print(json.dumps(report.as_json()))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_switch_that_comes_on_in_the_middle_of_a_million_rows_lets_one_chunk_pass_at_most(
    postgres_url: str, redis_url: str, raw: redis.Redis
) -> None:
    """U5: within the second between two looks at the switches, and the chunk under way."""
    code = [sys.executable, "-c", SWITCHED, postgres_url, FILL, str(ROWS - 1)]
    environment = {**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(code, env=environment, stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: raw.llen("queue:bench") > 20_000, 60)
        off = {flag_of_class("UniqueNoop"): (Rule(source="sql"),)}
        Passes(Store(redis_url)).publish(Snapshot(int(time.time() * 1000), off))
        known = time.monotonic() + EVERY
        eventually(lambda: time.monotonic() > known, EVERY + 1)
        seen = raw.llen("queue:bench")
        said = _line(process)

    told = raw.llen("queue:bench")
    assert 20_000 < seen <= told <= seen + 2_000  # the page under way, and the one read ahead
    assert (said["outcome"], said["scanned"]) == ("gated", ROWS)
    assert said["codes"] == {"enqueued": told, "refused": ROWS - told}


def _line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())
