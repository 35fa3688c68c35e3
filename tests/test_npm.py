"""How what tests need from npm is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the script looks at, in a path with a space."""
    place = tmp_path / "a checkout"
    (place / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "npm", place / "scripts")
    return place


def run(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", checkout / "scripts" / "npm"],
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
    node(checkout, 'case "$*" in *axe*) ;; *) echo no such registry; exit 1;; esac')

    done = run(checkout, CI="true")

    assert done.returncode == 1
    assert "no such registry" in done.stderr
    assert "npm could not install unleash-server@" in done.stderr
    assert (checkout / ".cache" / "axe" / "stamp").exists()
    assert not (checkout / ".cache" / "unleash" / "stamp").exists()


def test_each_is_installed_once_and_without_scripts_of_packages(checkout: Path) -> None:
    node(checkout, f'echo "$@" >> "{checkout}/calls"')

    assert run(checkout, PROVISION="1").returncode == 0
    again = run(checkout, PROVISION="1")

    assert (again.returncode, again.stderr) == (0, "")
    calls = (checkout / "calls").read_text().splitlines()
    stamps = {
        "axe-core": checkout / ".cache/axe/stamp",
        "unleash-server": checkout / ".cache/unleash/stamp",
    }
    assert [call.split()[-1] for call in calls] == [
        f"{name}@{stamp.read_text().strip()}" for name, stamp in stamps.items()
    ]
    assert all("--ignore-scripts" in call for call in calls)
