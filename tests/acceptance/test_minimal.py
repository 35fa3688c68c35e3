"""examples/minimal as its README says it: one command, in its folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.integration.shop import TENTH
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


def sent(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "letters.db", timeout=10)) as connection:
        return int(connection.execute("SELECT count(*) FROM letter WHERE sent").fetchone()[0])


def test_one_command_sends_each_letter_once_and_ctrl_c_ends_all_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "minimal app"
    shutil.copytree(
        ROOT / "examples" / "minimal", folder, ignore=shutil.ignore_patterns(".qik", "*.db*")
    )
    log = folder / "log"
    with log.open("wb") as file:
        started = subprocess.Popen(
            [sys.executable, "app.py"],
            env={**os.environ, **TENTH, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            cwd=folder,
            stdout=file,
            stderr=file,
        )
    try:
        eventually(lambda: "Ctrl-C ends everything" in log.read_text(), 60.0)
        eventually(lambda: sent(folder) == 10, 60.0)
        started.send_signal(signal.SIGINT)
        assert started.wait(20) == 0
    finally:
        started.kill()
        started.wait()
    said = log.read_text()
    # No lines: print writes the end of its line by itself, and a log line of another thread may come in between.
    assert Counter(re.findall(r"letter (\d+) is sent", said)) == {
        str(number): 1 for number in range(1, 11)
    }
    assert "Traceback" not in said
