"""What a job costs, step by step: CPU time of Python and of Redis, which depend less on who else works than seconds do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from benchmarks import passes
from benchmarks.bench import Bench
from benchmarks.drains import settle
from benchmarks.watches import cpu
from benchmarks.workers import Qik, Site, worker

_PUSHED: Final = ("push", "push_unique", "bulk", "bulk_unique", "bulk_jittered")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one job costs in one step. Times are microseconds."""

    step: str
    python: float | None
    """CPU time of our processes; None where the step is more than our processes at work."""
    redis: float
    """Time of our scripts, all that they call included."""
    scripts: float
    commands: float
    """The scripts' own included."""

    def row(self) -> str:
        """Return a row of Markdown."""
        python = "" if self.python is None else f"{self.python:.1f}"
        return f"| {self.step} | {python} | {self.redis:.1f} | {self.scripts:.3f} | {self.commands:.2f} |"


HEAD: Final = (
    "| step | Python µs | Redis µs | scripts | Redis commands |\n|---|---:|---:|---:|---:|"
)


def costs(bench: Bench, n: int) -> Iterator[Cost]:
    """Yield the costs of each step, measured once with n jobs."""
    for kind in _PUSHED:
        bench.fresh()
        yield _cost(bench, kind, n, partial(_push, bench, kind, n))
    for kind in ("bulk", "bulk_unique"):
        yield _drained(bench, kind, n)
    bench.fresh()
    yield _cost(bench, "pass, all new", n, lambda: passes.tell(bench, n))
    yield _cost(bench, "pass, all told", n, lambda: _unmeasured(passes.again(bench, n)))


def _push(bench: Bench, kind: str, n: int) -> float:
    return float(bench.side(kind, n)["cpu"])


def _unmeasured(_: object) -> None:
    """A pass is more than one process of ours at work."""


def _drained(bench: Bench, kind: str, n: int) -> Cost:
    system, site = Qik(), Site(bench, "costs")
    bench.fresh()
    system.hold(bench, kind, n)
    with worker(system, bench, site) as pids:
        before = cpu(pids)

        def drain() -> float:
            system.release(bench)
            site.counted(n, system.name)
            settle(system, bench)
            return cpu(pids) - before

        return _cost(bench, f"drain after {kind}", n, drain)


def _cost(bench: Bench, step: str, n: int, work: Callable[[], float | None]) -> Cost:
    bench.redis.config_resetstat()
    seconds = work()
    stats = cast("dict[str, dict[str, Any]]", bench.redis.info("commandstats"))
    scripts = [stats[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats]
    return Cost(
        step,
        None if seconds is None else 1e6 * seconds / n,
        sum(int(each["usec"]) for each in scripts) / n,
        sum(int(each["calls"]) for each in scripts) / n,
        sum(int(each["calls"]) for each in stats.values()) / n,
    )
