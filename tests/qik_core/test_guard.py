"""The guard, without a real server: what it hands on and what it says."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import alive

GUARD = Path(__file__).parents[2] / "qik_core" / "guard.py"
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
signal.pause()
"""
POLITE = """
import os, signal
signal.signal(signal.SIGINT, lambda *_: os._exit(3))
print("ready", flush=True)
signal.pause()
"""


@contextmanager
def guarded(*command: str, polite: str = "TERM") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD), polite, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def noise(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline().strip()


def test_the_guard_ends_with_the_exit_status_of_its_server() -> None:
    with guarded("sh", "-c", "exit 7") as process:
        assert process.wait() == 7


def test_the_one_line_of_output_names_the_server() -> None:
    with guarded("sh", "-c", "echo noise; echo $$ >&2; kill -TERM $$") as process:
        assert [noise(process), noise(process)] == ["noise", line(process)]
        assert process.wait() == 128 + signal.SIGTERM


def test_a_server_is_asked_with_the_signal_that_was_named() -> None:
    with guarded(sys.executable, "-c", POLITE, polite="INT") as process:
        assert noise(process) == "ready"
        assert process.stdin is not None
        process.stdin.close()

        assert process.wait() == 3


def test_a_server_that_ignores_the_polite_signal_is_killed() -> None:
    with guarded(sys.executable, "-c", STUBBORN) as process:
        pid = int(line(process))
        assert noise(process) == "ready"
        process.send_signal(signal.SIGTERM)

        assert process.wait() == 128 + signal.SIGKILL
        assert not alive(pid)


def test_a_command_that_does_not_exist_ends_the_guard_at_once() -> None:
    with guarded("/no/such/server") as process:
        assert process.wait() != 0
