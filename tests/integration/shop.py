"""An application with real workers, at a tenth of the usual times, and what its jobs noted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import redis

from qik_core import cli
from qik_core.store import Store
from tests import forks
from tests.waiting import eventually, whole_lines

ROOT = str(Path(cli.__file__).parents[2])
HEARTBEAT, LEASE, SHUTDOWN = 0.5, 3.0, 2.5
TENTH = {"QIK_HEARTBEAT": "0.5", "QIK_LEASE": "3", "QIK_SHUTDOWN": "2.5", "QIK_POLL": "0.1"}

NOTES = """
import os, time
from pathlib import Path
from qik_core import Job

HERE = Path(__file__).parent

def note(event, n):
    with open(HERE / "notes", "a") as file:
        file.write(f"{event} {n} {os.getpid()} {time.monotonic()}\\n")
"""
"""How the code of an application begins: its jobs call `note`."""


class Shop:
    """An application with workers, and what its jobs noted."""

    def __init__(self, folder: Path, redis_url: str, app: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, **TENTH, "PYTHONPATH": ROOT, "REDIS_URL": redis_url}
        self.workers: list[subprocess.Popen[bytes]] = []
        (folder / "shop.py").write_text(app)
        Store(redis_url, birth_ms=0).look()  # no hold at the start of a new epoch

    def push(self, name: str, *numbers: int) -> None:
        self.run(f"import shop; shop.{name}.perform_bulk([(n,) for n in {numbers!r}])")

    def run(self, code: str) -> None:
        """Run code beside the application, as the application itself would."""
        app = (self.folder / "shop.py").read_text()
        module = forks.RECONCILER if "reconciler" in app else forks.QIK
        done = forks.run_code(module, code, cwd=self.folder, env=self.environment)
        assert done.returncode == 0, done.stderr

    def work(self, *flags: str, ready: str = "parent: is ready") -> subprocess.Popen[bytes]:
        worker = self.spawn(*flags)
        eventually(lambda: ready in self.log(len(self.workers) - 1), 20)
        return worker

    def spawn(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start a worker and do not wait for it."""
        with (self.folder / f"log{len(self.workers)}").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "qik_core.cli", "work", "shop", *flags],
                env=self.environment,
                cwd=self.folder,
                stderr=log,
            )
        self.workers.append(worker)
        return worker

    def log(self, number: int = 0) -> str:
        return (self.folder / f"log{number}").read_text()

    def children(self, worker: subprocess.Popen[bytes]) -> list[int]:
        path = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def notes(self, event: str) -> list[tuple[int, int, float]]:
        """Return (number, process id, monotonic seconds) of each such note."""
        lines = [line.split() for line in whole_lines(self.folder / "notes")]
        return [(int(n), int(pid), float(at)) for kind, n, pid, at in lines if kind == event]

    def runs(self, event: str) -> Counter[int]:
        return Counter(n for n, _, _ in self.notes(event))

    def go(self) -> None:
        (self.folder / "go").touch()

    def close(self) -> None:
        for worker in self.workers:
            children = self.children(worker) if worker.poll() is None else []
            worker.kill()
            worker.wait()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)


def drained(raw: redis.Redis, dead: int = 0) -> Callable[[], bool]:
    """Tell whether nothing is left: no job but so many `dead`, no lock, no working hash with a field but #."""

    def look() -> bool:
        jobs = (
            raw.llen("queue:default"),
            raw.zcard("retry"),
            raw.zcard("schedule"),
            raw.zcard("dead") > dead,
        )
        locks = [f for key in raw.scan_iter("qik:unique:*") for f in raw.hkeys(key) if f != b"#"]
        held = [
            f
            for key in raw.scan_iter("qik:working:*")
            for f in raw.hkeys(key)
            if f not in (b"#", b"@")
        ]
        return not any(jobs) and not locks and not held

    return look
