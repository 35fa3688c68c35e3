"""A pass over many pending rows: all new, all told already, and, as the limit of that, the rows alone."""

from __future__ import annotations

import sys
import time
from typing import Any

from sqlalchemy import Engine

from benchmarks import checks, rows
from benchmarks.bench import Bench, MeasurementFailed
from benchmarks.jobs import QUEUE
from benchmarks.report import LIMIT, OURS, Measure
from reconciler.engines import make

_CLI = (sys.executable, "-m", "reconciler.cli")


def new(bench: Bench, n: int, _round: int) -> Measure:
    """Tell every row."""
    bench.fresh()
    seconds, wrong = _pass(bench, n, enqueued=n)
    return Measure("pass-new", OURS, n, seconds, wrong + checks.pushed(bench.redis, n, locks=n))


def jittered(bench: Bench, n: int, _round: int) -> Measure:
    """Tell every row, each for an instant of its own."""
    bench.fresh()
    seconds, wrong = _pass(bench, n, enqueued=n, name="JitteredRows")
    later = bench.redis.zcard(f"qik:later:{QUEUE}")
    wrong += () if later == n else (f"jobs for later: {later}, not {n}",)
    return Measure("pass-jittered", OURS, n, seconds, wrong)


def told(bench: Bench, n: int, _round: int) -> Measure:
    """Find that every row is told."""
    bench.fresh()
    _pass(bench, n, enqueued=n)
    seconds, wrong = _pass(bench, n, enqueued=0)
    return Measure("pass-told", OURS, n, seconds, wrong + checks.pushed(bench.redis, n, locks=n))


def reading(bench: Bench, n: int, _round: int) -> Measure:
    """Read the rows as a pass does, and do nothing with them."""
    engine = _database(bench, n)
    started = time.perf_counter()
    found = rows.read(engine, rows.PendingRows.definition.batch_size)
    seconds = time.perf_counter() - started
    engine.dispose()
    wrong = () if found == n else (f"rows: {found}, not {n}",)
    return Measure("pass-told", LIMIT, n, seconds, wrong)


def _pass(
    bench: Bench, n: int, *, enqueued: int, name: str = "PendingRows"
) -> tuple[float, tuple[str, ...]]:
    """Run one pass by the command; return the seconds that it reports, and what was wrong."""
    _database(bench, n).dispose()
    report = _reconciler(bench, n, "pass", name, "--app", "benchmarks.rows", "--json")
    wrong = []
    if report["outcome"] != "completed" or report["scanned"] != n:
        wrong.append(f"the pass {report['outcome']} with {report['scanned']} rows, not {n}")
    if report["codes"].get("enqueued", 0) != enqueued:
        wrong.append(f"enqueued: {report['codes']}, not {enqueued}")
    return float(report["seconds"]), tuple(wrong)


def _database(bench: Bench, n: int) -> Engine:
    """Return an engine of a database with n rows and the reconciler's tables."""
    engine = make(_url(bench, n))
    there = bench.folder / f"filled-{n}"
    if not there.exists():
        rows.fill(engine, n)
        _reconciler(bench, n, "upgrade", "--json")
        there.touch()
    return engine


def _reconciler(bench: Bench, n: int, *arguments: str) -> dict[str, Any]:
    try:
        return bench.run([*_CLI, *arguments], DATABASE_URL=_url(bench, n))
    except ValueError as error:
        raise MeasurementFailed(f"`reconciler {' '.join(arguments)}`: {error}") from error


def _url(bench: Bench, n: int) -> str:
    return bench.database_url or f"sqlite:///{bench.folder / f'rows-{n}.sqlite3'}"
