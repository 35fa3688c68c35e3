"""docs/reference/commands.md and the commands; what all of them have in common."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import qik_core.cli
import reconciler.cli
from qik_core.cli.group import Verbs
from tests import forks, manual
from tests.waiting import busy

WITHOUT_DATA = {"completion", "dev", "run", "web", "work"}
"""Commands that print no data: they run until they are ended, or write for a shell."""
EVERY = {
    path: command
    for name, main in (("qik", qik_core.cli.main), ("reconciler", reconciler.cli.main))
    for path, command in manual.commands(name, main)
    if not isinstance(command, click.Group)
}


def test_the_page_of_commands_is_as_the_commands_are() -> None:
    assert manual.PAGE.read_text("utf-8") == manual.page(), "run: python -m tests.manual"


def test_every_command_that_prints_data_prints_it_as_json_too() -> None:
    lacking = [
        path
        for path, command in EVERY.items()
        if path.split()[1] not in WITHOUT_DATA
        and not any(param.name == "as_json" for param in command.params)
    ]
    assert lacking == []


@pytest.mark.parametrize(
    "words",
    [
        ("status",), ("queues",), ("queues", "--by", "class"), ("queues", "jobs"), ("scheduled",),
        ("retries",), ("dead",), ("held",), ("busy",), ("processes",), ("top", "-n", "1"), ("doctor",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_list_as_json_is_one_object_and_nothing_else(
    words: tuple[str, ...], redis_url: str, tmp_path: Path
) -> None:
    env = {**os.environ, "REDIS_URL": redis_url}
    told = forks.run(forks.QIK, (*words, "--json"), cwd=tmp_path, env=env)
    assert isinstance(json.loads(told.stdout), dict)


def test_verbs_are_the_same_in_every_group() -> None:
    groups = {
        path.removeprefix("qik "): set(command.commands) - {"list", "jobs", "show"}
        for path, command in manual.commands("qik", qik_core.cli.main)
        if isinstance(command, Verbs)
    }
    assert groups == {
        "queues": {"delete", "bury"},
        "scheduled": {"advance", "delete", "bury"},
        "retries": {"retry", "delete", "bury"},
        "dead": {"retry", "delete"},
        "held": {"delete"},
    }
    for name in (f"qik {group} {verb}" for group, verbs in groups.items() for verb in verbs):
        names = {param.name for param in EVERY[name].params}
        assert names >= {"words", "everything", "dry_run", "yes", "as_json"}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ("status",)),
        (1, ("cancel", "0" * 24)),
        (1, ("dead", "retry", "class:Nobody", "--yes")),
        (1, ("retries", "show", "0" * 24)),
        (2, ("staus",)),
        (2, ("retries", "delete")),
        (2, ("retries", "clas:Charge")),
        (3, ("scheduled", "delete", "--all")),
        (4, ("status", "--redis-url", "redis://127.0.0.1:1/0")),
        (4, ("retries", "delete", "--all", "--yes", "--redis-url", "redis://127.0.0.1:1/0")),
    ],
    ids=lambda value: value if isinstance(value, int) else "-".join(value[:2]),
)
def test_exit_codes_are_those_of_the_page(
    code: int, words: tuple[str, ...], redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        "from qik_core import Job\nclass Due(Job):\n    def perform(self, n: int) -> None: ..."
    )
    env = {**os.environ, "REDIS_URL": redis_url}
    forks.run(forks.QIK, ("enqueue", "shop:Due", "1", "--in", "60"), cwd=tmp_path, env=env)
    assert forks.run(forks.QIK, words, cwd=tmp_path, env=env).returncode == code


def test_a_database_that_is_away_is_exit_5(redis_url: str, tmp_path: Path) -> None:
    env = {**os.environ, "REDIS_URL": redis_url, "DATABASE_URL": f"sqlite:///{tmp_path}/no/home.db"}
    assert forks.run(forks.RECONCILER, ("status",), cwd=tmp_path, env=env).returncode == 5


def timed(*words: str, cwd: Path) -> tuple[float, int]:
    """Return how long a command takes, and its exit code."""
    before = time.monotonic()
    told = forks.run(forks.QIK, words, cwd=cwd, env=os.environ)
    return time.monotonic() - before, told.returncode


@pytest.mark.parametrize(
    "words",
    [("queues",), ("retries",), ("busy",), ("pause", "x"), ("cancel", "0" * 24), ("stop", "--yes")],
    ids=" ".join,
)
def test_a_redis_that_does_not_answer_is_given_up_within_3_seconds(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        bare, _ = timed("--version", cwd=tmp_path)
        took, code = timed(*words, "--redis-url", url, cwd=tmp_path)
        assert code == 4
        assert took - bare < 3 * busy()


@pytest.mark.parametrize("package", ["qik_core.cli", "reconciler.cli"])
def test_help_imports_little_beside_click(package: str) -> None:
    code = (
        f"import sys; bare = set(sys.modules); import click; clicked = set(sys.modules); import {package};"
        "ours = set(sys.modules) - clicked; print(len(ours), sorted(each.partition('.')[0] for each in ours))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, _, names = out.stdout.partition(" ")
    assert int(count) < 30, names
    assert not {"redis", "hiredis", "msgspec", "rich", "sqlalchemy"} & set(names.split("'"))
