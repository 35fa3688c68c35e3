"""Waiting for what a test expects: a condition and a deadline, never a pause that hopes to be long enough."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def eventually(
    predicate: Callable[[], T], timeout: float = 10.0, message: str = "", *, every: float = 0.01
) -> T:
    """Return the predicate's first truthy value; fail the test after `timeout` seconds.

    The failure names the last value seen, so a test need not print.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = predicate()
        if seen:
            return seen
        if time.monotonic() > deadline:
            what = message or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"not within {timeout} s: {what} (last seen: {seen!r:.400})")
        time.sleep(every)


def never(predicate: Callable[[], object], during: float, message: str = "") -> None:
    """Fail the test as soon as the predicate is truthy within `during` seconds."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        seen = predicate()
        if seen:
            what = message or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"happened, and must not: {what} (seen: {seen!r:.400})")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Tell whether a process runs. A zombie does not."""
    if Path("/proc/self").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:
        told = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        state = told.stdout.strip()[:1] or "X"
    return state not in "ZX"


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file that others still write; the last one may be half written, and is left for later."""
    text = path.read_text() if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()
