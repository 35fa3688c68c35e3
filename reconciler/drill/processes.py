"""The processes of a drill: the commands that an operator starts, in an environment of their own. They end with the drill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import qik_core
from reconciler.drill.errors import ProcessFailed
from reconciler.drill.harness import APP, FOLDER
from reconciler.engines import HOME

THREADS: Final = 5
WORKERS: Final = 2
PATIENCE: Final = 40.0
"""Seconds that a process may take to end politely."""
_TAIL: Final = 12
_HARNESS: Final = "reconciler.drill.harness"
_GUARD: Final = Path(qik_core.__file__).with_name("guard.py")
_FOREIGN: Final = ("QIK_", "REDIS_URL", "DATABASE_URL", "DRILL_")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every process of one drill is told."""

    folder: Path
    """Logs, notes of runs, a scratch database."""
    app: str
    redis_url: str
    databases: Mapping[str, str]
    queues: tuple[str, ...]
    heartbeat: float
    lease: float

    def environment(self) -> dict[str, str]:
        """Return the environment: nothing of the caller's settings comes in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        here = [
            str(Path.cwd()),
            str(Path(qik_core.__file__).parents[1]),
            kept.get("PYTHONPATH", ""),
        ]
        return {
            **kept,
            **urls(self.databases),
            "PYTHONPATH": os.pathsep.join(filter(None, here)),
            "REDIS_URL": self.redis_url,
            "QIK_HEARTBEAT": str(self.heartbeat),
            "QIK_LEASE": str(self.lease),
            "QIK_SHUTDOWN": "5",
            "QIK_POLL": "0.25",
            APP: self.app,
            FOLDER: str(self.folder),
        }


@dataclass(slots=True)
class Process:
    """One command that runs until it is stopped."""

    name: str
    command: list[str]
    around: Surroundings
    pid: int = 0
    _asked: bool = field(default=False, init=False)
    _guard: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """Where it writes."""
        return self.around.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start the command behind a guard, which ends it when the drill dies."""
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(  # noqa: S603 - our own commands
                [sys.executable, "-I", "-S", str(_GUARD), "TERM", *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.around.environment(),
                cwd=self.around.folder,
                start_new_session=True,
                text=True,
            )
        said = self._guard.stdout.readline().strip() if self._guard.stdout else ""
        self.pid = int(said) if said.isdigit() else 0

    def check(self) -> None:
        """Look whether it still runs, unless it was asked to stop.

        Raises:
            ProcessFailed: it has ended by itself.
        """
        if self._asked:
            return
        if self._guard is None or self._guard.poll() is not None:
            raise ProcessFailed(
                f"{self.name} ended by itself, so this drill proves nothing; the end of its log:\n{self.tail()}"
            )

    def ask_to_stop(self) -> None:
        """Send it TERM."""
        self._asked = True
        if self._guard is not None and self._guard.poll() is None and self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> int:
        """Return its exit code; what does not end is ended by its guard, which is no clean exit."""
        if self._guard is None:
            return 0
        try:
            return self._guard.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.close()
            return self._guard.returncode or 1

    def close(self) -> None:
        """Let the guard end it: politely, and five seconds later by SIGKILL."""
        if self._guard is None:
            return
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()
        self._guard.wait()

    def tail(self) -> str:
        """Return the end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-_TAIL:])


def urls(databases: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the environment that name these databases."""
    return {
        "DATABASE_URL" if name == HOME else f"DATABASE_URL_{name.upper()}": url
        for name, url in databases.items()
    }


def worker(number: int, around: Surroundings) -> Process:
    """Return `qik work` with one child."""
    queues = [word for name in around.queues for word in ("-q", name)]
    flags = ["-p", "1", "-c", str(THREADS), *queues]
    return Process(f"worker-{number}", _run("qik_core.cli", "work", _HARNESS, *flags), around)


def reconciler(number: int, around: Surroundings) -> Process:
    """Return `reconciler run`."""
    return Process(f"reconciler-{number}", _run("reconciler.cli", "run", _HARNESS), around)


def pusher(around: Surroundings, rate: float) -> Process:
    """Return what adds rows, so many a second, and pushes the edges of most."""
    return Process("pusher", _run("reconciler.drill.pusher", str(rate)), around)


@contextmanager
def running(processes: list[Process]) -> Iterator[list[Process]]:
    """Start these; when the block ends, however it does, none of them (nor any added later) is left."""
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            process.ask_to_stop()
        for process in processes:
            process.close()


def _run(module: str, *words: str) -> list[str]:
    return [sys.executable, "-m", module, *words]
