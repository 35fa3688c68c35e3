"""`qik web`: refuses what would stand open; serves, and shows what is there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

import httpx
import pytest
import redis
from click.testing import CliRunner

from qik_core import cli, settings
from tests.waiting import eventually


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.use(None)


@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.example.com"])  # noqa: S104
def test_it_refuses_to_be_reached_from_elsewhere_without_a_password(host: str) -> None:
    done = CliRunner().invoke(cli.main, ["web", "--host", host])
    settings.use(None)

    assert done.exit_code == 3
    assert "set QIK_WEB_PASSWORD" in done.output


@pytest.mark.usefixtures("_plain")
def test_a_short_password_is_refused_and_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QIK_WEB_PASSWORD", "hush")

    done = CliRunner().invoke(cli.main, ["web"])
    settings.use(None)

    assert done.exit_code == 2
    assert "use 8 to 200 characters" in done.output
    assert "hush" not in done.output


@pytest.mark.usefixtures("_plain")
def test_passwords_are_masked_where_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QIK_WEB_PASSWORD", "hush-hush-hush")

    done = CliRunner().invoke(cli.main, ["config"])
    settings.use(None)

    assert "web_password" in done.output
    assert "hush-hush-hush" not in done.output


def test_it_serves_a_page_and_ends_with_a_signal(
    raw: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    raw.sadd("queues", "letters")
    with subprocess.Popen(
        [sys.executable, "-m", "qik_core.cli", "web", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://127.0.0.1:\d+/", process.stdout.readline())
        assert found is not None
        page = eventually(lambda: _got(found[0]), 20.0)
        process.send_signal(signal.SIGTERM)
        process.wait(10)

    assert "letters" in page


def test_it_serves_on_a_socket_that_is_passed(redis_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with subprocess.Popen(
            [sys.executable, "-m", "qik_core.cli", "web", "--fd", str(listener.fileno())],
            cwd=tmp_path,
            env={
                **os.environ,
                "REDIS_URL": redis_url,
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            pass_fds=[listener.fileno()],
        ) as process:
            page = eventually(lambda: _got(url), 20.0)
            process.send_signal(signal.SIGTERM)
            process.wait(10)

    assert "Overview" in page


def _offered(file: socket.socket | IO[str]) -> tuple[int, str]:
    """What `qik web` answers to a descriptor that it is passed."""
    done = subprocess.run(
        [sys.executable, "-m", "qik_core.cli", "web", "--fd", str(file.fileno())],
        pass_fds=[file.fileno()],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_passed_socket_that_can_be_reached_from_elsewhere_needs_a_password_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:  # noqa: S104
        code, said = _offered(listener)

    assert code == 3
    assert "set QIK_WEB_PASSWORD" in said


def test_what_is_no_socket_that_listens_is_refused() -> None:
    with socket.socket() as mute, Path(os.devnull).open() as file:
        answers = [_offered(mute), _offered(file)]

    assert [code for code, _ in answers] == [2, 2]
    assert "no socket that listens" in answers[0][1]
    assert "no open socket" in answers[1][1]


def _got(url: str) -> str:
    try:
        return httpx.get(url, trust_env=False).text
    except httpx.TransportError:
        return ""
