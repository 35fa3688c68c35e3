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
from tests.waiting import alive, eventually, never, whole_lines

ROOT = str(Path(dev_module.__file__).parent.parent)

# Runs `qik dev` over services that write down what they were told, and what happened to them.
DEV = """
import json, sys
from qik_core import dev
from qik_core.settings import load

service = '''
import json, os, signal, sys, time
from pathlib import Path
name, mode, *rest = sys.argv[1:]
def note(text):
    with open("notes", "a") as file:
        file.write(f"{name} {os.getpid()} {text}\\\\n")
told = {key: os.environ.get(key) for key in ("REDIS_URL", "DATABASE_URL", "QIK_APP", "QIK_PROCESSES")}
note("began " + json.dumps(told))
def asked(number, frame):
    note(signal.Signals(number).name)
    if mode == "slow":
        time.sleep(1)
    if mode != "stubborn":
        sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, asked)
if mode == "fails":
    sys.exit(5)
if mode == "breaks" and "broken" in Path("shop.py").read_text():
    sys.exit(6)
if mode == "serves":
    import http.server, socket
    server = http.server.HTTPServer(("", 0), http.server.SimpleHTTPRequestHandler, False)
    server.socket = socket.socket(fileno=int(rest[-1]))
    print("what it prints itself")
    server.serve_forever()
if mode == "ends":
    sys.exit(0)
while True:
    time.sleep(60)
'''
modes = json.loads(sys.argv[1])
dev._python = lambda module, command, *rest: (sys.executable, "-S", "-c", service, command, modes[command], *rest)
dev._GRACE = 1.0
dev._has_reconcilers = lambda: True
settings = load({"app": "shop", "processes": 2, "shutdown": 0.5})
parts = dev.Parts(
    reconcilers="run" in modes, dashboard="web" in modes, port=int(sys.argv[2]), reload="reload" in modes
)
sys.path.insert(0, "")
sys.exit(dev.run(settings, parts, lambda text: print(text, flush=True)))
"""


class Dev:
    """A running `qik dev`."""

    def __init__(
        self, folder: Path, modes: dict[str, str], port: int = 7410, **environment: str
    ) -> None:
        self.folder = folder
        self.log = folder / f"log{len(list(folder.glob('log*')))}"
        with self.log.open("xb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(DEV), json.dumps(modes), str(port)],
                env={**os.environ, "PYTHONPATH": ROOT, **environment},
                cwd=folder,
                stdout=log,
            )

    def says(self, text: str) -> str:
        """Wait until it has said this; return the rest of the line."""
        return eventually(
            lambda: self.log.read_text().partition(text)[2].partition("\n")[0], 20, text
        )

    def living(self) -> list[int]:
        return [int(note[1]) for note in self.notes() if alive(int(note[1]))]

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
        self.process.wait()


Start = Callable[..., Dev]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Dev] = []

    def make(modes: dict[str, str], port: int = 7410, **environment: str) -> Dev:
        running.append(Dev(tmp_path, modes, port, **environment))
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
    assert (told["QIK_APP"], told["QIK_PROCESSES"]) == ("shop", "2")
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
    assert "worker has ended with exit code 5: everything stops" in running.log.read_text()


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
    assert "another `qik dev` runs in" in second.log.read_text()
    assert first.process.poll() is None


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield int(other.getsockname()[1])


def test_the_address_of_the_dashboard_is_said_last_and_when_it_answers(
    start: Start, taken: int
) -> None:
    running = start({"work": "works", "web": "serves"}, taken)
    url = running.says("dashboard http://127.0.0.1:")
    port = int(running.says(f"port {taken} is taken: the dashboard has "))
    assert url == f"{port}/"
    assert running.log.read_text().endswith(f"{port}/\n")
    assert "what it prints itself" not in running.log.read_text()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(10) == 0
    assert running.living() == []


def test_the_address_of_a_dashboard_that_does_not_answer_is_not_said(
    start: Start, taken: int
) -> None:
    running = start({"work": "works", "web": "works"}, taken)
    running.began("web")
    never(lambda: "dashboard http" in running.log.read_text(), 1.5)


def test_where_the_extra_is_not_installed_the_dashboard_is_left_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not dev_module._has_dashboard(said.append)
    assert said == ["dashboard left out, it needs jinja2: pip install 'qik-core[web]'"]


def test_a_source_file_that_changes_starts_everything_again_on_the_same_port(
    start: Start, tmp_path: Path, taken: int
) -> None:
    source = tmp_path / "shop.py"
    source.write_text("first = 1\n")
    running = start({"work": "works", "web": "serves", "reload": ""}, taken)
    running.says("dashboard http://127.0.0.1:")
    running.began("work")
    before = running.living()
    source.write_text("second = 22\n")
    assert running.says("shop.py changed: ") == "everything starts again"
    eventually(lambda: len(running.living()) == 2 and not set(before) & set(running.living()), 20)
    assert [note[2] for note in running.notes() if note[2].startswith("SIG")] == ["SIGTERM"] * 2
    assert running.log.read_text().count("dashboard http") == 1
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(10) == 0
    assert running.living() == []


def test_an_edit_that_breaks_a_service_is_said_and_the_next_edit_mends_it(
    start: Start, tmp_path: Path
) -> None:
    source = tmp_path / "shop.py"
    source.write_text("first = 1\n")
    running = start({"work": "breaks", "reload": ""})
    running.began("work")
    source.write_text("broken = 22\n")
    assert (
        running.says("worker has ended with exit code 6: ")
        == "it starts again when a source file changes"
    )
    source.write_text("mended = 333\n")
    eventually(running.living, 20)
    assert running.process.poll() is None


def test_ctrl_c_while_everything_starts_again_lets_nothing_start(
    start: Start, tmp_path: Path
) -> None:
    source = tmp_path / "shop.py"
    source.write_text("first = 1\n")
    running = start({"work": "slow", "reload": ""})
    running.began("work")
    source.write_text("second = 22\n")
    eventually(lambda: len(running.notes()) == 2, 20)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) == 0
    assert [note[2] for note in running.notes()[1:]] == ["SIGTERM"]
    assert "ended" not in running.log.read_text()


def test_without_reload_an_edit_changes_nothing(start: Start, tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text("first = 1\n")
    running = start({"work": "works"})
    running.began("work")
    source.write_text("second = 22\n")
    never(lambda: "everything starts again" in running.log.read_text(), 2.0)


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
