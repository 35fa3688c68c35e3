"""`qik dev` with stand-in services: real processes and signals. The real worker is in tests/integration."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qik_core import dev as dev_module
from tests.waiting import alive, eventually, whole_lines

ROOT = str(Path(dev_module.__file__).parent.parent)

# Runs `qik dev` over services that write down what they were told, and what happened to them.
DEV = """
import json, sys
from qik_core import dev
from qik_core.settings import load

service = '''
import json, os, signal, sys, time
from pathlib import Path
name, mode = sys.argv[1:]
def note(text):
    with open("notes", "a") as file:
        file.write(f"{name} {os.getpid()} {text}\\\\n")
told = {key: os.environ.get(key) for key in ("REDIS_URL", "DATABASE_URL", "QIK_APP", "QIK_PROCESSES")}
note("began " + json.dumps(told))
def asked(number, frame):
    note(signal.Signals(number).name)
    if mode != "stubborn":
        sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, asked)
if mode == "fails":
    sys.exit(5)
if mode == "ends":
    sys.exit(0)
while True:
    time.sleep(60)
'''
modes = json.loads(sys.argv[1])
dev._python = lambda module, command: (sys.executable, "-S", "-c", service, command, modes[command])
dev._GRACE = 1.0
dev._has_reconcilers = lambda: True
settings = load({"app": "shop.jobs", "processes": 2, "shutdown": 0.5})
sys.exit(dev.run(settings, reconcilers="run" in modes, say=lambda text: print(text, flush=True)))
"""


class Dev:
    """A running `qik dev`."""

    def __init__(self, folder: Path, modes: dict[str, str], **environment: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(DEV), json.dumps(modes)],
            env={**os.environ, "PYTHONPATH": ROOT, **environment},
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )

    def notes(self) -> list[list[str]]:
        """Return [service, pid, what it noted]."""
        return [line.split(" ", 2) for line in whole_lines(self.folder / "notes")]

    def began(self, name: str) -> dict[str, str]:
        def told() -> dict[str, str]:
            begun = [
                note[2] for note in self.notes() if note[0] == name and note[2].startswith("began")
            ]
            return dict(json.loads(begun[0].removeprefix("began "))) if begun else {}

        return eventually(told, 20)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Dev]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Dev] = []

    def make(modes: dict[str, str], **environment: str) -> Dev:
        running.append(Dev(tmp_path, modes, **environment))
        return running[-1]

    yield make
    for each in running:
        each.close()


def test_a_server_and_a_database_in_wal_mode_are_brought_along(
    start: Start, tmp_path: Path
) -> None:
    told = start({"work": "works"}).began("work")
    assert told["REDIS_URL"].startswith("unix://")
    assert told["DATABASE_URL"] == f"sqlite:///{tmp_path / '.qik' / 'dev.db'}"
    assert (told["QIK_APP"], told["QIK_PROCESSES"]) == ("shop.jobs", "2")
    with sqlite3.connect(tmp_path / ".qik" / "dev.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_what_the_environment_names_is_used_instead(
    start: Start, redis_url: str, tmp_path: Path
) -> None:
    told = start({"work": "works"}, REDIS_URL=redis_url, DATABASE_URL="sqlite:///mine.db").began(
        "work"
    )
    assert (told["REDIS_URL"], told["DATABASE_URL"]) == (redis_url, "sqlite:///mine.db")
    assert not (tmp_path / ".qik" / "dev.db").exists()


def test_ctrl_c_reaches_every_service_once_and_dev_leaves_with_0(start: Start) -> None:
    running = start({"work": "works"})
    running.began("work")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(10) == 0
    assert [note[2] for note in running.notes()[1:]] == ["SIGTERM"]


def test_a_second_ctrl_c_is_passed_on_and_a_stubborn_service_is_ended(start: Start) -> None:
    running = start({"work": "stubborn"})
    running.began("work")
    running.process.send_signal(signal.SIGINT)
    eventually(lambda: len(running.notes()) == 2)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(10) == 0
    assert [note[2] for note in running.notes()[1:]] == ["SIGTERM", "SIGTERM"]
    assert not alive(int(running.notes()[0][1]))


def test_a_service_that_fails_ends_everything_with_1(start: Start) -> None:
    running = start({"work": "fails"})
    assert running.process.wait(20) == 1
    assert running.process.stdout is not None
    assert "worker has ended with exit code 5" in running.process.stdout.read()


def test_reconcilers_start_after_their_tables_were_made(start: Start) -> None:
    running = start({"work": "works", "upgrade": "ends", "run": "works"})
    told = running.began("run")
    assert told == running.began("work") == running.began("upgrade")
    assert running.notes()[0][0] == "upgrade"


def test_tables_that_cannot_be_made_end_dev_with_1_before_anything_runs(start: Start) -> None:
    running = start({"work": "works", "upgrade": "fails", "run": "works"})
    assert running.process.wait(20) == 1
    assert [note[0] for note in running.notes()] == ["upgrade"]


def test_a_second_dev_in_the_same_folder_is_refused_and_the_first_goes_on(start: Start) -> None:
    first = start({"work": "works"})
    first.began("work")
    second = start({"work": "works"})
    assert second.process.wait(20) == 3
    assert second.process.stdout is not None
    assert "another `qik dev` runs in" in second.process.stdout.read()
    assert first.process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_services_and_server_end_when_dev_is_killed(start: Start) -> None:
    running = start({"work": "works"})
    door = Path(running.began("work")["REDIS_URL"].removeprefix("unix://"))
    running.process.kill()
    eventually(lambda: len(running.notes()) == 2)
    assert running.notes()[1][2] == "SIGTERM"
    eventually(lambda: not alive(int(running.notes()[0][1])))
    eventually(lambda: not _answers(door))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as door:
        return door.connect_ex(str(path)) == 0
