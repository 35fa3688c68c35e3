"""Both type checkers accept what users write, and reject exactly the lines that were planted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GOOD = [HERE / f"good{each}.py" for each in ("", "_engine", "_reconcilers", "_shards")]
PLANTED = {
    HERE / "planted.py": 26,
    HERE / "planted_reconcilers.py": 22,
    HERE / "planted_shards.py": 6,
}
"""The files with errors, and how many each has."""


def planted_lines(path: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := re.search(r"# ([ER]\d+)\b", line):
            found[number] = match[1]
    return found


def mypy(path: Path) -> dict[int, str]:
    """Line number → message of the first error on it."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--hide-error-context",
        str(path),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=170
    )
    errors: dict[int, str] = {}
    for line in done.stdout.splitlines():
        if match := re.match(r"(.+?):(\d+): error: (.*)", line):
            assert Path(ROOT, match[1]) == path, line
            errors.setdefault(int(match[2]), match[3])
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert bool(errors) == bool(done.returncode), done.stdout
    return errors


@pytest.fixture(scope="module")
def pyright(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, dict[int, str]]:
    """File → line number → message of the first error on it, by one run over all files."""
    folder, paths = tmp_path_factory.mktemp("pyright"), [*GOOD, *PLANTED]
    project = folder / "pyrightconfig.json"
    project.write_text(
        json.dumps(
            {
                "include": [os.path.relpath(path, folder) for path in paths],
                "extraPaths": [str(ROOT)],
                "typeCheckingMode": "strict",
                "pythonVersion": "3.11",
                "reportUnusedExpression": False,
                "reportUnknownLambdaType": False,
            }
        )
    )
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "--outputjson", "-p", str(project)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["summary"]["filesAnalyzed"] == len(paths), done.stdout
    errors: dict[Path, dict[int, str]] = {path: {} for path in paths}
    for each in report["generalDiagnostics"]:
        if each["severity"] == "error":
            errors[Path(each["file"])].setdefault(
                each["range"]["start"]["line"] + 1, each["message"]
            )
    return errors


@pytest.mark.parametrize(("path", "count"), PLANTED.items(), ids=lambda each: str(each)[-20:])
def test_every_kind_of_error_is_planted_once(path: Path, count: int) -> None:
    numbers = [int(each[1:]) for each in planted_lines(path).values()]

    assert sorted(numbers) == list(range(1, count + 1))


@pytest.mark.parametrize("good", GOOD, ids=lambda path: path.stem)
def test_mypy_accepts_what_users_write(good: Path) -> None:
    assert mypy(good) == {}


@pytest.mark.parametrize("planted", PLANTED, ids=lambda path: path.stem)
def test_mypy_rejects_exactly_the_planted_lines(planted: Path) -> None:
    assert sorted(mypy(planted)) == sorted(planted_lines(planted))


@pytest.mark.parametrize("good", GOOD, ids=lambda path: path.stem)
def test_pyright_accepts_what_users_write(good: Path, pyright: dict[Path, dict[int, str]]) -> None:
    assert pyright[good] == {}


@pytest.mark.parametrize("planted", PLANTED, ids=lambda path: path.stem)
def test_pyright_rejects_exactly_the_planted_lines(
    planted: Path, pyright: dict[Path, dict[int, str]]
) -> None:
    assert sorted(pyright[planted]) == sorted(planted_lines(planted))


def test_what_users_write_can_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(f'tests.typing.{each.stem}' for each in GOOD)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.returncode == 0
