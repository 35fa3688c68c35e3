"""The application as the processes of a drill import it: itself, and a middleware that notes each run in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from qik_core import Next, Payload, application
from qik_core.settings import configure, current

APP: Final = "DRILL_APP"
FOLDER: Final = "DRILL_FOLDER"
"""What the environment of these processes says: the application's module, where notes go."""
PREFIX: Final = "runs-"


class Notes:
    """Lines that other processes read while they are written; one file for each process, each line one write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: tuple[int, int] | None = None

    def write(self, line: Sequence[object]) -> None:
        """Add a line."""
        os.write(self._file(), (json.dumps(line) + "\n").encode())

    def _file(self) -> int:
        pid = os.getpid()
        if self._open is None or self._open[0] != pid:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            path = self._folder / f"{PREFIX}{pid}.jsonl"
            self._open = pid, os.open(path, flags, 0o600)
            self.write(("process", os.getppid()))
        return self._open[1]


class Noting:
    """Server middleware: notes when a job begins and how it ends."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def __call__(self, job: Payload, call_next: Next[None]) -> None:
        """Run the job between two lines."""
        number = os.urandom(8).hex()
        unique = job.unique
        key = "" if unique is None else unique.digest
        self._notes.write(("begin", number, key, job.jid, monotonic()))
        outcome = "ok"
        try:
            call_next(job)
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self._notes.write(("end", number, outcome, monotonic()))


def _attach() -> None:
    application.load(os.environ[APP])
    noting = Noting(Notes(Path(os.environ[FOLDER])))
    configure(server_middleware=[noting, *current().server_middleware])


if FOLDER in os.environ:
    _attach()
