"""A command that is a fork is a process of its own: what it says, changes and breaks is its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import forks
from tests.waiting import alive, eventually


def run(folder: Path, code: str, timeout: float = 60.0, **environment: str) -> tuple[int, str, str]:
    env = {"PATH": os.environ["PATH"], **environment}
    done = forks.run_code(forks.QIK, code, cwd=folder, env=env, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def test_a_fork_has_its_folder_its_environment_its_output_and_its_exit_code(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "print(os.getcwd(), sorted(os.environ), sys.stdin.read() == '')\n"
        "print('no', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )

    ended = run(tmp_path, code, WHO="me")

    assert ended == (7, f"{tmp_path} ['PATH', 'WHO'] True\n", "no\n")


def test_an_error_that_nobody_catches_is_printed_and_ends_a_fork_with_1(tmp_path: Path) -> None:
    code, _, said = run(tmp_path, "1 / 0")

    assert code == 1
    assert said.endswith("ZeroDivisionError: division by zero\n")


def test_what_a_fork_imports_and_changes_is_not_there_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys\nsys.mark = 5\n")

    run(tmp_path, "import mine")
    _, said, _ = run(tmp_path, "import sys; print('mine' in sys.modules, hasattr(sys, 'mark'))")

    assert said == "False False\n"


def test_words_are_those_of_the_command(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "COLUMNS": "200"}

    helped = forks.run(forks.QIK, ["pause", "--help"], cwd=tmp_path, env=env)
    mistyped = forks.run(forks.QIK, ["puase"], cwd=tmp_path, env=env)

    assert helped.stdout.startswith("Usage: qik pause ")
    assert (mistyped.returncode, "Did you mean" in mistyped.stderr) == (2, True)


def test_a_fork_that_takes_too_long_is_ended_and_the_next_one_runs(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), file=open('pid', 'w'), flush=True); time.sleep(600)"
    run(tmp_path, "pass")

    with pytest.raises(subprocess.TimeoutExpired):
        run(tmp_path, code, timeout=2.0)

    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not alive(pid))
    assert run(tmp_path, "print(5)") == (0, "5\n", "")
