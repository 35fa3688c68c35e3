"""Waiting for what a test expects: a condition and a deadline, never a pause that hopes to be long enough."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def eventually(
    predicate: Callable[[], T],
    timeout: float | None = None,
    message: str = "",
    *,
    every: float = 0.01,
) -> T:
    """Return the predicate's first truthy value; fail the test after `timeout` seconds.

    Without a bound of its own a wait only has to end: 10 seconds, and more where a machine is busy. The failure names the last
    value seen, so a test need not print.
    """
    timeout = 10.0 * min(busy(), 6.0) if timeout is None else timeout
    deadline = time.monotonic() + timeout
    while True:
        seen = predicate()
        if seen:
            return seen
        if time.monotonic() > deadline:
            what = message or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"not within {timeout:g} s: {what} (last seen: {seen!r:.400})")
        time.sleep(every)


def busy() -> float:
    """How many times longer things take here than on a machine of one's own: 1 while as many run as there are cores.

    For the bounds of a specification, which are those of an idle machine.
    """
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


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
