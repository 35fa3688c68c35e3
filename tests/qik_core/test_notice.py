from __future__ import annotations

import io
import json
import os
import signal
import socket
import sys
from datetime import datetime
from pathlib import Path

import pytest

from qik_core.notice import Notify, in_words, log, write_as


def test_a_line_is_an_event_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log("ERROR", "child 0 ended", pid=7)
    at, rest = capsys.readouterr().err.split(" ", 1)
    assert rest == f"ERROR {os.getpid()} parent: child 0 ended pid=7\n"
    assert datetime.fromisoformat(at).tzinfo is not None


def test_a_line_is_json_where_the_children_write_json(capsys: pytest.CaptureFixture[str]) -> None:
    write_as("json")
    try:
        log("ERROR", "child 0 ended\n", pid=7, started=["1.2"])
    finally:
        write_as("plain")

    said = json.loads(capsys.readouterr().err)
    assert (said["level"], said["logger"], said["event"]) == ("error", "parent", "child 0 ended\n")
    assert (said["started"], said["child"], said["pid"]) == (["1.2"], 7, os.getpid())


def test_a_closed_stderr_does_not_end_the_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    log("INFO", "unheard")


def test_nothing_is_sent_without_a_service_manager(capsys: pytest.CaptureFixture[str]) -> None:
    notify = Notify({"WATCHDOG_USEC": "nonsense"})
    notify.send("READY=1")
    notify.alive(1.0)
    assert capsys.readouterr().err == ""


def test_a_service_manager_that_is_gone_is_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notify.send("READY=1")
    notify.send("STOPPING=1")
    assert capsys.readouterr().err.count("cannot notify the service manager") == 1


def test_an_abstract_socket_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0qik-test-{os.getpid()}")
        notify = Notify({"NOTIFY_SOCKET": f"@qik-test-{os.getpid()}"})
        notify.send("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_the_watchdog_is_fed_at_half_its_period_and_only_if_it_is_ours(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "s"))
        manager.settimeout(0)
        base = {"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "20000000"}
        notify = Notify({**base, "WATCHDOG_PID": str(os.getpid())})
        for now in (100.0, 105.0, 110.0):
            notify.alive(now)
        assert [manager.recv(100), manager.recv(100)] == [b"WATCHDOG=1"] * 2
        Notify({**base, "WATCHDOG_PID": "1"}).alive(200.0)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_ends_are_told_in_words() -> None:
    assert in_words(3) == "exit code 3"
    assert in_words(-signal.SIGSEGV) == "SIGSEGV"
    assert in_words(-60) == "signal 60"
