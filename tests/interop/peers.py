"""Sidekiq 6.4 as the oracle, and a shop whose jobs exist in both languages.

Oracle   a Ruby process that answers what Sidekiq says of a Redis: its client, its API, its pages
Shop     workers of both languages on one Redis, and the notes of what they ran
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from qik_core import settings
from qik_core.results import Push, Refused
from qik_core.store import Store
from tests import servers
from tests.waiting import eventually, whole_lines

HERE: Final = Path(__file__).parent
PEER: Final = HERE / "peer"
ROOT: Final = HERE.parents[1]
APP: Final = "tests.interop.shop"
Ask = Callable[[str], Any]
QUICK: Final = {
    "QIK_HEARTBEAT": "0.5",
    "QIK_LEASE": "3",
    "QIK_SHUTDOWN": "2.5",
    "QIK_POLL": "0.1",
    "PYTHONPATH": str(ROOT),
}


def sidekiq() -> str:
    """Return the program of Debian's Sidekiq, or skip the test."""
    program = shutil.which("sidekiq")
    if program is None or shutil.which("ruby") is None:
        servers.absent("ruby-sidekiq")
    return program


class SidekiqSaid(AssertionError):
    """Ruby raised."""


class Oracle:
    """One Ruby process for many tests."""

    def __init__(self) -> None:
        sidekiq()
        with servers.outliving():
            self._ruby = subprocess.Popen(
                ["ruby", str(PEER / "oracle.rb")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )

    def ask(self, url: str, ruby: str) -> Any:
        """Let Ruby say this to that Redis; return what it got, as JSON has it."""
        assert self._ruby.stdin is not None
        assert self._ruby.stdout is not None
        self._ruby.stdin.write(json.dumps({"url": url, "ruby": ruby}) + "\n")
        self._ruby.stdin.flush()
        answer = json.loads(self._ruby.stdout.readline())
        if "error" in answer:
            raise SidekiqSaid(f"{ruby}: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        self._ruby.kill()
        self._ruby.communicate()


class Shop:
    """Workers of both languages, and what their jobs noted."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.environment = {
            **os.environ,
            **QUICK,
            "REDIS_URL": url,
            "SHOP_NOTES": str(folder / "notes"),
            "SHOP_MENDED": str(folder / "mended"),
        }
        self._workers: list[subprocess.Popen[bytes]] = []
        Store(url, birth_ms=0).look()  # no hold at the start of a new epoch

    # --- workers -------------------------------------------------------------------------------

    def python(self, *flags: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of ours."""
        command = [sys.executable, "-m", "qik_core.cli", "work", APP, *flags]
        worker, log = self._start(command, environment)
        eventually(lambda: "parent: is ready" in log.read_text(), 20)
        return worker

    def ruby(self, *flags: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of Sidekiq's, which serves the queue `ruby`."""
        ready = self.folder / f"ready{len(self._workers)}"
        command = [sidekiq(), "-r", str(PEER / "jobs.rb"), "-q", "ruby", "-c", "5", *flags]
        worker, log = self._start(command, {"SHOP_READY": str(ready), **environment})
        eventually(ready.exists, 20, f"Sidekiq is ready: {log}")
        return worker

    def log(self, number: int = 0) -> str:
        return (self.folder / f"log{number}").read_text()

    def _start(
        self, command: list[str], environment: dict[str, str]
    ) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.folder / f"log{len(self._workers)}"
        with log.open("wb") as file:
            worker = subprocess.Popen(
                command,
                env={**self.environment, **environment},
                cwd=self.folder,
                stdout=file,
                stderr=file,
            )
        self._workers.append(worker)
        return worker, log

    def close(self) -> None:
        for worker in self._workers:
            children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
            with suppress(OSError):
                for pid in children.read_text().split():
                    os.killpg(int(pid), signal.SIGKILL)
            worker.kill()
            worker.wait()

    # --- jobs ----------------------------------------------------------------------------------

    def mend(self) -> None:
        """Let jobs of the classes Fragile and Nap end well."""
        (self.folder / "mended").touch()

    def notes(self, event: str = "ran", who: str = "") -> list[dict[str, Any]]:
        """Return the notes of one event, in order; of one language, or both."""
        notes = [json.loads(line) for line in whole_lines(self.folder / "notes")]
        return [each for each in notes if each["event"] == event and who in ("", each["who"])]

    def ran(self, who: str = "") -> Counter[str]:
        """Return how often each jid ran."""
        return Counter(each["jid"] for each in self.notes("ran", who))


def as_ours(url: str, wire: str = "sidekiq7") -> None:
    """Let pushes of this process go to this Redis."""
    settings.use(settings.load({"redis": url, "wire": wire}, environ={}, folder=HERE))


def jid_of(pushed: Push) -> str:
    """Return the jid of a job that was pushed."""
    assert not isinstance(pushed, Refused), pushed
    return str(pushed.jid)
