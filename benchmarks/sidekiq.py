"""The peer that everybody can install: Debian's ruby-sidekiq. Its side is in `peers/sidekiq`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import checks
from benchmarks.bench import Bench
from benchmarks.names import QUEUE, CaseName
from benchmarks.workers import CONCURRENCY, Site

NAME: Final = "sidekiq"
_HERE: Final = Path(__file__).with_name("peers") / "sidekiq"
_LIST: Final = f"queue:{QUEUE}"
_HELD: Final = f"queue:{QUEUE}-held"
_KINDS: Final = {"bulk_unique": "bulk"}  # it has no locks


def versions() -> dict[str, str] | None:
    """Return the versions of what is installed; None without Ruby or Sidekiq."""
    ruby = shutil.which("ruby")
    if ruby is None or shutil.which("sidekiq") is None:
        return None
    told = subprocess.run(
        [ruby, str(_HERE / "version.rb")], capture_output=True, text=True, timeout=60, check=False
    )
    return dict(json.loads(told.stdout)) if told.returncode == 0 else None


class Sidekiq:
    """Processes of Sidekiq, each with as many threads as ours. Its commercial parts are not here: no locks, no recovery."""

    name = NAME
    cases = frozenset({
        CaseName.PUSH, CaseName.BULK, CaseName.BYTES, CaseName.DRAIN, CaseName.DRAIN_ALL_CORES, CaseName.DRAIN_1MS,
        CaseName.DRAIN_USERS, CaseName.LATENCY, CaseName.LATENCY_HALF_LOAD, CaseName.IDLE_CPU, CaseName.RSS,
        CaseName.PROMOTE,
    })  # fmt: skip

    def fresh(self, bench: Bench) -> None:
        """Empty the server."""
        bench.fresh()

    def push(self, bench: Bench, kind: str, n: int, argument: object = "") -> Mapping[str, Any]:
        """Push by `push.rb`."""
        script = str(_HERE / "push.rb")
        return bench.run(["ruby", script, _KINDS.get(kind, kind), str(n), str(argument)])

    def share(self, n: int) -> int:
        """Return all of them."""
        return n

    def hold(self, bench: Bench, kind: str, n: int) -> None:
        """Put the jobs on a list that nobody fetches from."""
        if n:
            self.push(bench, kind, n)
            bench.redis.rename(_LIST, _HELD)

    def commands(self, processes: int) -> Sequence[Sequence[str]]:
        """Return one command for each process."""
        jobs = str(_HERE / "jobs.rb")
        return [["sidekiq", "-r", jobs, "-c", str(CONCURRENCY), "-q", QUEUE]] * processes

    def ready(self, bench: Bench, site: Site, processes: int) -> bool:
        """Return whether all threads of all processes wait for a job."""
        del site
        return bool(bench.redis.info("clients")["blocked_clients"] == CONCURRENCY * processes)

    def release(self, bench: Bench) -> bool:
        """Give the list its name, which wakes who waits for it."""
        return bool(bench.redis.exists(_HELD) and bench.redis.rename(_HELD, _LIST))

    def pushed(self, bench: Bench, n: int, _locks: int) -> tuple[str, ...]:
        """Return what is wrong with the queue."""
        return checks.pushed(bench.redis, n)

    def left(self, bench: Bench) -> tuple[str, ...]:
        """Return what is in its queue and its sets."""
        return checks.left(bench.redis)
