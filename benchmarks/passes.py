"""A pass over many pending rows: all new, at once or jittered; all told already; and, as that one's limit, the rows alone."""

from __future__ import annotations

import sys
from typing import Any, Final

from benchmarks import checks
from benchmarks.bench import Bench, MeasurementFailed
from benchmarks.names import QUEUE, CaseName
from benchmarks.report import LIMIT, OURS, Measure, rate

_CLI: Final = (sys.executable, "-m", "reconciler.cli")
FLUSH: Final = (
    "flush", "--all", "--reason", "the benchmark", "--yes", "--app", "benchmarks.rows", "--json",
)  # fmt: skip


def new(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Tell every row."""
    bench.fresh()
    seconds, wrong = _pass(bench, n, enqueued=n)
    wrong += checks.pushed(bench.redis, n, locks=n)
    return rate(CaseName.PASS_NEW, OURS, n, seconds, wrong)


def jittered(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Tell every row, each for an instant of its own."""
    bench.fresh()
    seconds, wrong = _pass(bench, n, enqueued=n, name="JitteredRows")
    later = bench.redis.zcard(f"qik:later:{QUEUE}")
    wrong += () if later == n else (f"jobs for later: {later}, not {n}",)
    return rate(CaseName.PASS_JITTERED, OURS, n, seconds, wrong)


def told(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Find that every row is told."""
    bench.fresh()
    tell(bench, n)
    return again(bench, n)


def again(bench: Bench, n: int) -> list[Measure]:
    """Run the pass over rows that are told."""
    seconds, wrong = _pass(bench, n, enqueued=0)
    wrong += checks.pushed(bench.redis, n, locks=n)
    return rate(CaseName.PASS_TOLD, OURS, n, seconds, wrong)


def reading(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Read the rows as a pass does, and do nothing with them."""
    _fill(bench, n)
    done = _rows(bench, "read", n)
    wrong = () if done["n"] == n else (f"rows: {done['n']}, not {n}",)
    return rate(CaseName.PASS_TOLD, LIMIT, n, float(done["seconds"]), wrong)


def tell(bench: Bench, n: int) -> None:
    """Tell every row, unmeasured. Raises MeasurementFailed."""
    _, wrong = _pass(bench, n, enqueued=n)
    if wrong:
        raise MeasurementFailed("; ".join(wrong))


def _pass(
    bench: Bench, n: int, *, enqueued: int, name: str = "PendingRows"
) -> tuple[float, tuple[str, ...]]:
    """Run one pass by the command; return the seconds that it reports, and what was wrong."""
    _fill(bench, n)
    report = reconciler(bench, n, "pass", name, "--app", "benchmarks.rows", "--json")
    wrong = []
    if report["outcome"] != "completed" or report["scanned"] != n:
        wrong.append(f"the pass {report['outcome']} with {report['scanned']} rows, not {n}")
    if report["codes"].get("enqueued", 0) != enqueued:
        wrong.append(f"enqueued: {report['codes']}, not {enqueued}")
    return float(report["seconds"]), tuple(wrong)


def _fill(bench: Bench, n: int) -> None:
    """Make a database with n rows and the reconciler's tables, once."""
    there = bench.folder / f"filled-{n}"
    if not there.exists():
        _rows(bench, "fill", n)
        reconciler(bench, n, "upgrade", "--json")
        there.touch()


def _rows(bench: Bench, kind: str, n: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.rows", kind, str(n)]
    return bench.run(command, DATABASE_URL=_url(bench, n))


def reconciler(bench: Bench, n: int, *arguments: str) -> dict[str, Any]:
    """Run a command on the database with n rows, and return the JSON that it prints. Raises MeasurementFailed."""
    return bench.run([*_CLI, *arguments], DATABASE_URL=_url(bench, n))


def _url(bench: Bench, n: int) -> str:
    return bench.database_url or f"sqlite:///{bench.folder / f'rows-{n}.sqlite3'}"
