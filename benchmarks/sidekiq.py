"""The peer that everybody can install: Debian's ruby-sidekiq. Its side is in `peers/sidekiq`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.jobs import QUEUE
from benchmarks.workers import CONCURRENCY, Files

NAME: Final = "sidekiq"
_HERE: Final = Path(__file__).with_name("peers") / "sidekiq"
_LIST: Final = f"queue:{QUEUE}"
_HELD: Final = f"queue:{QUEUE}-held"


def versions() -> dict[str, str] | None:
    """Return the versions of what is installed; None without Ruby or Sidekiq."""
    ruby = shutil.which("ruby")
    if ruby is None or shutil.which("sidekiq") is None:
        return None
    told = subprocess.run(
        [ruby, str(_HERE / "version.rb")], capture_output=True, text=True, timeout=60, check=False
    )
    return dict(json.loads(told.stdout)) if told.returncode == 0 else None


def push(bench: Bench, kind: str, n: int, file: str = "") -> float:
    """Return the seconds that it takes to push n jobs; `kind` is push, bulk or count."""
    return float(bench.run(["ruby", str(_HERE / "push.rb"), kind, str(n), file])["seconds"])


class Sidekiq:
    """One process of Sidekiq, with as many threads as ours."""

    name = NAME

    def fill(self, bench: Bench, n: int) -> None:
        """Put the jobs on a list that nobody fetches from."""
        push(bench, "bulk", n)
        bench.redis.rename(_LIST, _HELD)

    def command(self) -> Sequence[str]:
        """Return the command of a worker."""
        return ["sidekiq", "-r", str(_HERE / "jobs.rb"), "-c", str(CONCURRENCY), "-q", QUEUE]

    def ready(self, bench: Bench, files: Files) -> bool:
        """Return whether all of its threads wait for a job."""
        blocked = bench.redis.info("clients")["blocked_clients"]
        return files.ready.exists() and blocked == CONCURRENCY

    def release(self, bench: Bench) -> None:
        """Give the list its name, which wakes who waits for it."""
        bench.redis.rename(_HELD, _LIST)

    def ask(self, bench: Bench, file: Path) -> None:
        """Push the job that writes down what the worker has counted."""
        push(bench, "count", 0, str(file))
