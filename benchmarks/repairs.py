"""What heals, and what empties: due jobs, the jobs of a process that was killed, a flush."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Final

from benchmarks import checks, passes
from benchmarks.bench import Bench, wait_for
from benchmarks.drains import Runner, settle
from benchmarks.limits import LIST, SCHEDULE
from benchmarks.names import CaseName, Figure
from benchmarks.pushes import PAYLOAD
from benchmarks.report import LIMIT, OURS, Measure, rate
from benchmarks.watches import family
from benchmarks.workers import Qik, Site, System, worker

_PAST: Final = 0.5
"""Times so much, all moments of the schedule are long ago."""


def promote(system: System) -> Runner:
    """Return what moves n due jobs to their queue."""

    def run(bench: Bench, n: int, _round: int) -> list[Measure]:
        bench.fresh()
        system.push(bench, "bulk_later", n)
        bench.redis.zunionstore(SCHEDULE, {SCHEDULE: _PAST})
        seconds = float(system.push(bench, "promote", n)["seconds"])
        wrong = system.pushed(bench, n, 0)
        return rate(CaseName.PROMOTE, system.name, n, seconds, wrong)

    return run


def limit_promote(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Pop and push as many bytes."""
    bench.fresh()
    bench.side("limit_later", n, PAYLOAD)
    seconds = float(bench.side("limit_promote", n)["seconds"])
    return rate(CaseName.PROMOTE, LIMIT, n, seconds, _all_on_the_list(bench, n))


def recover(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Kill a worker process that runs n jobs; until its parent has another one run them all."""
    bench.fresh()
    system, site = Qik(), Site(bench, "recover")
    system.hold(bench, "stay", n)
    with worker(system, bench, site) as pids:
        system.release(bench)
        site.counted(n, system.name)
        child = family(pids)[1]
        killed = time.monotonic()
        os.kill(child, signal.SIGKILL)
        seconds = site.counted(2 * n, system.name).last - killed
        site.end.touch()
        settle(system, bench)
    tally = site.tally()
    wrong = tuple(
        f"{what}: {found}, not {wanted}"
        for what, found, wanted in (("runs", tally.calls, 2 * n), ("jids", tally.distinct, n))
        if found != wanted
    )
    wrong += system.left(bench)
    return [Measure(CaseName.RECOVER, OURS, n, seconds, wrong, Figure.BACK)]


def limit_recover(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Start a process that imports the application, which nobody can do without."""
    command = [sys.executable, "-c", "import benchmarks.jobs, qik_core.worker"]
    bench.do(
        command
    )  # whoever is measured has read these files before: the parent, and the child that is killed
    began = time.monotonic()
    bench.do(command)
    seconds = time.monotonic() - began
    return [Measure(CaseName.RECOVER, LIMIT, n, seconds, (), Figure.BACK)]


def recover_backlog(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Give back n jobs that a process held when it died."""
    bench.fresh()
    system = Qik()
    system.hold(bench, "bulk", n)
    system.release(bench)
    bench.side("strand", n)
    gone = bench.redis.llen(LIST)
    seconds = float(bench.side("give_back", n)["seconds"])
    wrong = checks.pushed(bench.redis, n) + checks.unsettled(bench.redis)
    wrong += (f"not fetched: {gone}",) if gone else ()
    return rate(CaseName.RECOVER_BACKLOG, OURS, n, seconds, wrong)


def limit_recover_backlog(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Move as many bytes from a hash to a list."""
    bench.fresh()
    bench.side("limit_hold", n, PAYLOAD)
    seconds = float(bench.side("limit_give_back", n)["seconds"])
    return rate(CaseName.RECOVER_BACKLOG, LIMIT, n, seconds, _all_on_the_list(bench, n))


def flush(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Tell n rows, then flush everything: the locks, and each job after SQL was asked for its row."""
    bench.fresh()
    passes.tell(bench, n)
    done = passes.reconciler(bench, n, *passes.FLUSH)["flushed"]
    wait_for(lambda: not checks.left(bench.redis), "an empty Redis", 30.0)
    wrong = () if done["removed"] == n else (f"removed: {done['removed']}, not {n}",)
    return rate(CaseName.FLUSH, OURS, n, float(done["seconds"]), wrong)


def limit_flush(bench: Bench, n: int, _round: int) -> list[Measure]:
    """Read as many bytes, and take them away."""
    bench.fresh()
    bench.side("limit_bulk", n, PAYLOAD)
    seconds = float(bench.side("limit_flush", n)["seconds"])
    left = bench.redis.llen(LIST)
    return rate(CaseName.FLUSH, LIMIT, n, seconds, (f"queued: {left}, not 0",) if left else ())


def _all_on_the_list(bench: Bench, n: int) -> tuple[str, ...]:
    found = bench.redis.llen(LIST)
    return () if found == n else (f"jobs: {found}, not {n}",)
