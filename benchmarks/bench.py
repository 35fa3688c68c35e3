"""Where measurements run: one private server, one folder, and processes with the same environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from redis import Redis

ROOT: Final = Path(__file__).resolve().parents[1]
_FOREIGN: Final = ("QIK_", "REDIS_URL", "DATABASE_URL", "BENCH_")


class MeasurementFailed(Exception):
    """A process of the benchmark did not do its work. The message holds what it said."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One private server and what processes need to use it."""

    redis_url: str
    folder: Path
    redis: Redis
    database_url: str = ""
    """Where the rows of passes are; empty: a SQLite file in the folder."""
    patience: float = 600.0
    """Seconds that one command has."""

    def environment(self, **more: str) -> Mapping[str, str]:
        """Return the environment: nothing of the caller's settings comes in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return {**kept, "PYTHONPATH": str(ROOT), "REDIS_URL": self.redis_url, **more}

    def fresh(self) -> None:
        """Empty the server."""
        self.redis.flushall()

    def run(self, command: Sequence[str], **more: str) -> dict[str, Any]:
        """Run a command that prints one JSON object, and return that.

        Raises:
            MeasurementFailed: as `do`; or it printed something else.
        """
        said = self.do(command, **more)
        try:
            return cast("dict[str, Any]", json.loads(said))
        except ValueError as error:
            raise MeasurementFailed(f"{' '.join(command)}: {error}:\n{said}") from error

    def do(self, command: Sequence[str], **more: str) -> str:
        """Run a command, and return what it prints.

        Raises:
            MeasurementFailed: it cannot be started, does not end in time, or exits with something else than 0.
        """
        try:
            done = subprocess.run(
                command,
                env=self.environment(**more),
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=self.patience,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MeasurementFailed(f"{' '.join(command)}: {error}") from error
        if done.returncode:
            raise MeasurementFailed(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def side(self, kind: str, n: int, argument: object = "") -> dict[str, Any]:
        """Return what one piece of work of `side.py` says: its seconds, and what else there is to say."""
        return self.run(side(kind, n, argument))

    def sides(self, kind: str, n: int, processes: int) -> float:
        """Return the seconds of the slowest of so many processes that do the same piece of work at once."""
        with ThreadPoolExecutor(processes) as pool:
            done = pool.map(lambda _: float(self.side(kind, n)["seconds"]), range(processes))
            return max(done)


def side(kind: str, n: int, argument: object = "") -> list[str]:
    """Return the command of one piece of work of `side.py`."""
    return [sys.executable, "-m", "benchmarks.side", kind, str(n), str(argument)]


def wait_for(
    condition: Callable[[], object], what: str, seconds: float = 120.0, *, every: float = 0.01
) -> None:
    """Wait until a condition holds.

    Raises:
        MeasurementFailed: it does not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise MeasurementFailed(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(every)
