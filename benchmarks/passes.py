"""A pass over many pending rows: all new, all told already, and, as the limit of that, the rows alone."""

from __future__ import annotations

from benchmarks import checks
from benchmarks.bench import Bench
from benchmarks.report import LIMIT, OURS, Measure


def new(bench: Bench, n: int, _round: int) -> Measure:
    """Tell every row."""
    seconds = _pass(bench, n, "pass_new")
    return Measure("pass-new", OURS, n, seconds, checks.pushed(bench.redis, n, locks=n))


def told(bench: Bench, n: int, _round: int) -> Measure:
    """Find that every row is told."""
    seconds = _pass(bench, n, "pass_told")
    return Measure("pass-told", OURS, n, seconds, checks.pushed(bench.redis, n, locks=n))


def reading(bench: Bench, n: int, _round: int) -> Measure:
    """Read the rows as a pass does, and do nothing with them."""
    return Measure("pass-told", LIMIT, n, _pass(bench, n, "pass_read"))


def _pass(bench: Bench, n: int, kind: str) -> float:
    bench.fresh()
    database = f"sqlite:///{bench.folder / f'rows-{n}.sqlite3'}"
    return bench.side(kind, n, database=database)
