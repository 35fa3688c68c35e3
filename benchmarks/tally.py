"""What a worker has done, counted in memory and written down whenever it stands still: jids, numbers, times.

Every worker process of every system writes one file into the folder BENCH_TALLY. Standard library only: the peers, each in
an environment of its own, import it too. `peers/sidekiq/jobs.rb` does the same.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Final

_PAUSE: Final = 0.05

_jids: Final[list[str]] = []
_numbers: Final[list[int]] = []
_waits: Final[list[int]] = []
_marks: Final = bytearray(int(os.environ.get("BENCH_MARKS", "0")))
_times: Final = [0.0, 0.0]  # of the first and of the last job
_lock: Final = threading.Lock()
_begun: Final[list[bool]] = []


def saw(jid: str, number: int) -> None:
    """Count a job that was given this number."""
    if not _begun:
        _begin()
    _numbers.append(number)
    _jids.append(jid)
    _times[1] = time.monotonic()


def waited(jid: str, pushed: int) -> None:
    """Count a job, and how long it has waited: it was given the moment of its push, in ns of the monotonic clock."""
    _waits.append(time.monotonic_ns() - pushed)
    saw(jid, 0)


def mark(number: int) -> None:
    """Count a job by its number below BENCH_MARKS: a million of them take a megabyte."""
    if not _begun:
        _begin()
    _marks[number] += 1
    _times[1] = time.monotonic()


def here() -> None:
    """Say that this process works, before it is measured."""
    _write(Path(os.environ["BENCH_TALLY"]) / f"here-{os.getpid()}", {})


def _begin() -> None:
    with _lock:
        if not _begun:
            _times[0] = time.monotonic()
            _begun.append(True)
            threading.Thread(target=_write_often, daemon=True).start()


def _write_often() -> None:
    file = Path(os.environ["BENCH_TALLY"]) / f"{os.getpid()}.json"
    written = 0.0
    while True:
        last = _times[1]
        time.sleep(_PAUSE)
        if last == _times[1] != written:
            _write(file, _said())
            written = last


def _said() -> dict[str, Any]:
    marked = [number for number, times in enumerate(_marks) if times]
    return {
        "calls": len(_jids) + sum(_marks),
        "distinct": len(set(_jids)) + len(marked),
        "jids": _jids,
        "sum": sum(_numbers) + sum(marked),
        "waits": _waits,
        "first": _times[0],
        "last": _times[1],
    }


def _write(file: Path, values: dict[str, Any]) -> None:
    """Write JSON, renamed into place, so that whoever waits for the file never reads half of it."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(values))
    part.rename(file)
