"""Worker processes to be killed, frozen and starved, and the evidence of who ran which job when.

Each run of a job appends to a file of its process: what was written stays, however the process ends.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import redis

from qik_core.definition import Definition
from qik_core.results import Code
from qik_core.store import Chunk, Store
from tests.integration.shop import Shop
from tests.waiting import alive, eventually, whole_lines

NOTES = """
import os, random, time
from pathlib import Path
from qik_core import Job

HERE = Path(__file__).parent
FILES = {}

def note(event, n):
    pid = os.getpid()
    file = FILES.get(pid)
    if file is None:
        file = FILES[pid] = os.open(HERE / f"notes-{pid}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(file, f"{event} {n} {pid} {time.monotonic()}\\n".encode())
"""


class Run(NamedTuple):
    """One line of evidence."""

    event: str
    number: int
    pid: int
    at: float


class Fleet(Shop):
    """Workers over one application; `app` has the job classes, which call `note`."""

    def __init__(self, folder: Path, url: str, app: str, **settings: str) -> None:
        super().__init__(folder, url, NOTES + app)
        self.environment |= settings
        self._store = Store(url)

    def tell(self, definition: Definition, numbers: Iterable[int]) -> Counter[Code]:
        """Push jobs that take a number, from this process."""
        codes: Counter[Code] = Counter()
        rows = [(number,) for number in numbers]
        for start in range(0, len(rows), 500):
            codes.update(self.push_rows(definition, rows[start : start + 500]))
        return codes

    def push_rows(
        self, definition: Definition, rows: Sequence[tuple[object, ...]], *, delay: float = 0.0
    ) -> Sequence[Code]:
        """Push one chunk from this process. Raises StoreError."""
        built = definition.build(rows, time.time(), due=[0.0] * len(rows) if delay else None)
        unique = definition.unique
        chunk = Chunk(
            queue="default",
            jids=built.jids,
            payloads=built.payloads,
            digests=built.digests if unique else None,
            seconds=unique.seconds if unique else 0,
            delays=[delay] * len(rows) if delay else None,
        )
        return self._store.push(chunk).codes

    def evidence(self) -> list[Run]:
        """Return every line of every process."""
        lines = [line.split() for path in self.folder.glob("notes-*") for line in whole_lines(path)]
        return [Run(event, int(n), int(pid), float(at)) for event, n, pid, at in lines]

    def counted(self, event: str) -> Counter[int]:
        """Return how often each number has this event."""
        return Counter(run.number for run in self.evidence() if run.event == event)

    def logs(self) -> str:
        return "".join(self.log(number) for number in range(len(self.workers)))

    def close(self) -> None:
        super().close()
        self._store.close()


def held_by(raw: redis.Redis, pid: int) -> int:
    """Return how many jobs the working hash of a process has."""
    return sum(
        name not in (b"#", b"@")
        for key in raw.scan_iter(f"qik:working:*:{pid}:*", count=1000)
        for name in raw.hkeys(key)
    )


def sigkill(pid: int) -> None:
    """End a process and wait until it is no more."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), every=0.001)
