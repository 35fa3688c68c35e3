from __future__ import annotations

import io
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from qik_core.notice import Log, Notify, in_words


def test_a_line_is_a_sentence_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    Log(as_json=False)("error", "child 0 ended", pid=7)
    line = capsys.readouterr().err
    assert line.endswith(f" [error] parent {os.getpid()}: child 0 ended pid=7\n")


def test_a_line_can_be_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    Log(as_json=True)("info", 'says "x"', pid=7)
    assert json.loads(capsys.readouterr().err).items() >= {
        ("level", "info"),
        ("event", 'says "x"'),
        ("pid", 7),
    }


def test_a_closed_stderr_does_not_end_the_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    Log(as_json=False)("info", "unheard")


def test_nothing_is_sent_without_a_service_manager(capsys: pytest.CaptureFixture[str]) -> None:
    notify = Notify({"WATCHDOG_USEC": "nonsense"}, Log(as_json=False))
    notify.send("READY=1")
    notify.alive(1.0)
    assert capsys.readouterr().err == ""


def test_a_service_manager_that_is_gone_is_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}, Log(as_json=False))
    notify.send("READY=1")
    notify.send("STOPPING=1")
    assert capsys.readouterr().err.count("cannot notify the service manager") == 1


def test_an_abstract_socket_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0qik-test-{os.getpid()}")
        notify = Notify({"NOTIFY_SOCKET": f"@qik-test-{os.getpid()}"}, Log(as_json=False))
        notify.send("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_the_watchdog_is_fed_at_half_its_period_and_only_if_it_is_ours(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "s"))
        manager.settimeout(0)
        base = {"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "20000000"}
        notify = Notify({**base, "WATCHDOG_PID": str(os.getpid())}, Log(as_json=False))
        for now in (100.0, 105.0, 110.0):
            notify.alive(now)
        assert [manager.recv(100), manager.recv(100)] == [b"WATCHDOG=1"] * 2
        Notify({**base, "WATCHDOG_PID": "1"}, Log(as_json=False)).alive(200.0)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_ends_are_told_in_words() -> None:
    assert in_words(3) == "exit code 3"
    assert in_words(-signal.SIGSEGV) == "SIGSEGV"
    assert in_words(-60) == "signal 60"
