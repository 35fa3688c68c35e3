"""examples/live as `make dev` runs it: one command, in a folder with a space in its name, and jobs can be seen to run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from tests.integration.shop import TENTH
from tests.waiting import busy, eventually

ROOT = Path(__file__).resolve().parents[2]
LIVE = (sys.executable, "-m", "examples.live")


def processes_in(folder: Path) -> list[int]:
    """Return the processes whose current folder is this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


def start(place: Path, command: Sequence[str]) -> tuple[Path, Path, subprocess.Popen[bytes]]:
    """Start it in a folder of its own; returns that, what it prints, and the process."""
    folder = place / "a live shop"
    folder.mkdir()
    log = folder / "log"
    with log.open("wb") as file:
        started = subprocess.Popen(
            command,
            env={**os.environ, **TENTH, "PYTHONPATH": str(ROOT)},
            cwd=folder,
            stdout=file,
            stderr=file,
        )
    return folder, log, started


def test_one_command_shows_jobs_that_run_and_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    folder, log, started = start(tmp_path, LIVE)
    browser = httpx.Client(trust_env=False, timeout=10)
    try:
        url = eventually(lambda: log.read_text().partition("dashboard ")[2].partition("\n")[0], 60)
        eventually(lambda: "ShipOrder" in browser.get(f"{url}busy").text, 60)
        eventually(lambda: browser.get(f"{url}api/pulse").json()["processed"] > 5, 60)
        eventually(lambda: browser.get(f"{url}api/pulse").json()["scheduled"] > 0, 60)
        assert "UnshippedOrders" in browser.get(f"{url}reconcilers").text
        started.send_signal(signal.SIGINT)
        assert started.wait(20 * busy()) == 0
    finally:
        started.kill()
        started.wait()
        browser.close()
    eventually(lambda: not processes_in(folder))
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    "command", [LIVE, ("sh", "-c", '"$0" "$@"; exit', *LIVE)], ids=["itself", "what started it"]
)
def test_a_kill_leaves_nothing_behind(tmp_path: Path, command: Sequence[str]) -> None:
    folder, log, started = start(tmp_path, command)
    try:
        eventually(lambda: "Ctrl-C ends everything" in log.read_text(), 60)
    finally:
        started.kill()
        started.wait()

    eventually(lambda: not processes_in(folder), 30 * busy())
