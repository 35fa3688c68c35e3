"""The demo's processes: real commands, in an environment of their own, that end with the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import qik_core

ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder from which `examples.indexer` is importable."""
CONCURRENCY: Final = 5
WORKERS: Final = 2
RECONCILERS: Final = 2

_GUARD: Final = Path(qik_core.__file__).with_name("guard.py")
_APP: Final = "examples.indexer.harness"
_PATIENCE: Final = 40.0
_FOREIGN: Final = ("QIK_", "REDIS_URL", "DATABASE_URL", "INDEXER_")


class ServiceFailed(Exception):
    """A command of the demo could not do its work. The message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every process of one demo is told."""

    folder: Path
    redis_url: str
    database_url: str
    heartbeat: float
    lease: float
    sabotage: str = ""

    @property
    def crash(self) -> Path:
        """The file in which a process finds that it is to die."""
        return self.folder / "crash"

    def environment(self) -> Mapping[str, str]:
        """Return the environment: nothing of the caller's settings comes in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": self.redis_url,
            "DATABASE_URL": self.database_url,
            "QIK_HEARTBEAT": str(self.heartbeat),
            "QIK_LEASE": str(self.lease),
            "INDEXER_CRASH": str(self.crash),
            "INDEXER_SABOTAGE": self.sabotage,
        }


@dataclass(slots=True)
class Service:
    """One command that runs until it is stopped."""

    name: str
    command: list[str]
    around: Surroundings
    guard: subprocess.Popen[str] = field(init=False)
    pid: int = field(init=False)

    def start(self) -> None:
        """Start the command behind a guard, which ends it when the demo dies."""
        with self.log.open("ab") as log:
            # stdout goes to the log, too: what nobody reads must not fill a pipe.
            shell = ["/bin/sh", "-c", 'exec "$@" >&2', "sh", *self.command]
            self.guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), "TERM", *shell],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.around.environment(),
                cwd=self.around.folder,
                start_new_session=True,
                text=True,
            )
        assert self.guard.stdout is not None  # noqa: S101 - asked for above
        self.pid = int(self.guard.stdout.readline())

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.around.folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """True until the command has ended."""
        return self.guard.poll() is None

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> int:
        """Return the exit code. What does not end is ended by its guard, which is no clean exit."""
        try:
            return self.guard.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.close()
            return self.guard.returncode or 1

    def close(self) -> None:
        """Let the guard end it, politely and then with SIGKILL."""
        for pipe in (self.guard.stdin, self.guard.stdout):
            if pipe is not None:
                pipe.close()
        self.guard.wait()

    def tail(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])


def worker(number: int, around: Surroundings) -> Service:
    """Return `qik work` with one child."""
    queues = ["-q", "urgent", "-q", "index"]
    command = [*_python(around), "qik_core.cli", "work", _APP, "-p", "1", "-c", str(CONCURRENCY)]
    return Service(f"worker-{number}", [*command, *queues], around)


def reconciler(number: int, around: Surroundings) -> Service:
    """Return `reconciler run`."""
    return Service(
        f"reconciler-{number}", [*_python(around), "reconciler.cli", "run", _APP], around
    )


def upgrade(around: Surroundings) -> None:
    """Make the reconciler's own tables.

    Raises:
        ServiceFailed: the command did not end well.
    """
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.cli", "upgrade"],
        env=around.environment(),
        cwd=around.folder,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode:
        raise ServiceFailed(f"`reconciler upgrade` failed:\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def closing(services: list[Service]) -> Iterator[list[Service]]:
    """Start these; when the block ends, however it does, none of them (nor any added later) is left."""
    try:
        for service in services:
            service.start()
        yield services
    finally:
        for service in services:
            service.ask_to_stop()
        for service in services:
            service.close()


def _python(around: Surroundings) -> list[str]:
    return [sys.executable, "-m", *(["examples.indexer.sabotage"] if around.sabotage else [])]
