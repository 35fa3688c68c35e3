"""Where measurements run: one private server, one folder, and processes with the same environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from redis import Redis

ROOT: Final = Path(__file__).resolve().parents[1]
_PATIENCE: Final = 600.0
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
            MeasurementFailed: it exited with something else than 0.
        """
        done = subprocess.run(
            command,
            env=self.environment(**more),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if done.returncode:
            raise MeasurementFailed(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
        return cast("dict[str, Any]", json.loads(done.stdout))

    def side(self, kind: str, n: int, argument: object = "") -> float:
        """Return the seconds of one piece of work of `side.py`."""
        command = [sys.executable, "-m", "benchmarks.side", kind, str(n), str(argument)]
        return float(self.run(command)["seconds"])


def wait_for(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait until a condition holds.

    Raises:
        MeasurementFailed: it does not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise MeasurementFailed(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.01)


def appears(file: Path, what: str) -> dict[str, Any]:
    """Wait for a file of JSON and return what it says. Raises MeasurementFailed."""
    wait_for(file.exists, what)
    return cast("dict[str, Any]", json.loads(file.read_text()))
