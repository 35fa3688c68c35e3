"""Runs pytest on files of a test's own, as a user does: in an empty project, with plugins found by their entry points."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LEFT_OUT = ("cacheprovider", "valkey", "hypothesispytest", "timeout")  # they would only cost time


@dataclass(frozen=True)
class Ran:
    """A run of pytest that has ended."""

    code: int
    outcomes: dict[str, int]
    said: str


def run_pytest(folder: Path, files: Mapping[str, str], *args: str) -> Ran:
    """Run these files (name → text) in this folder."""
    for name, text in {"pytest.ini": "[pytest]\n", **files}.items():
        (folder / name).write_text(text, encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-m", "pytest", *(f"-pno:{name}" for name in _LEFT_OUT), *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    end = (told.stdout.splitlines() or [""])[-1]
    counts = re.findall(r"(\d+) (passed|failed|error|skipped)", end)
    return Ran(
        told.returncode, {word: int(count) for count, word in counts}, told.stdout + told.stderr
    )
