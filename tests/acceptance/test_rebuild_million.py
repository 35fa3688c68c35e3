"""A rebuild of a million pending rows of PostgreSQL: bounded memory, a good rate, progress that foretells the end.

That a queue never grows beyond its cap is with the other tests of rebuilds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, text

ROWS = 1_000_000
ROOT = Path(__file__).parents[2]
# One process, as the command has it, but for its end.
RUN = """
import json, re, sys
from pathlib import Path
from benchmarks import rows
from qik_core.passes import Passes
from reconciler.engines import Engines
from reconciler.passes import Tools
from reconciler.rebuild import rebuild
from reconciler.rebuilt import Order

engines = Engines({"default": sys.argv[1]})
seen = []
tools = Tools.of(Passes(), engines, "test")
done = rebuild([rows.PendingRows.definition], tools, Order(rate=None), tell=seen.append)
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
half = next(each for each in seen if each.total and each.scanned * 2 >= each.total)
said = {"peak": peak, "eta": half.eta, "left": done.seconds - half.seconds}
print(json.dumps({**done.as_json(), **said}))
"""
FILL = "INSERT INTO bench_row (id, status) SELECT n, 'pending' FROM generate_series(1, :last) n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_rows_are_rebuilt_fast_enough_in_little_memory_each_told_once(
    postgres_url: str, redis_url: str, raw: redis.Redis
) -> None:
    """X10: less than 200 MB, at least 5,000 rows a second."""
    from benchmarks import rows
    from reconciler import migrate
    from reconciler.engines import Engines

    engines = Engines({"default": postgres_url})
    migrate.upgrade(engines.home())
    rows.fill(engines.home(), 0)
    engines.dispose()
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text(FILL), {"last": ROWS})
    with engine.begin() as connection:
        connection.execute(text("ANALYZE bench_row"))
    engine.dispose()
    environment = {**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, postgres_url],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["codes"] == {"enqueued": ROWS}
    assert raw.llen("queue:bench") == ROWS
    assert said["peak"] < 200
    assert said["rows_per_second"] >= 5_000
    assert said["left"] / 3 <= said["eta"] <= said["left"] * 3
    print({name: said[name] for name in ("peak", "rows_per_second", "seconds", "eta", "left")})
