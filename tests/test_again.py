"""What failed beside other tests is judged alone: an accident passes there, a defect does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import FEW, TIMES

ROOT = Path(__file__).parents[1]

FAILS = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_fails_a_few_times(number):
    runs = Path(__file__).with_name(f"runs{{number}}")
    count = len(runs.read_text()) if runs.exists() else 0
    runs.write_text("x" * (count + 1))
    assert count + 1 not in {bad}

def test_passes():
    pass
"""


def again(folder: Path, text: str, *args: str) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_some.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "tests.again", *args],
        cwd=folder,
        # Plugins that are not needed would take most of the time.
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def runs(folder: Path, number: int = 0) -> int:
    return len((folder / f"runs{number}").read_text())


def test_a_failure_that_passes_alone_every_time_is_named_and_forgiven(tmp_path: Path) -> None:
    done = again(tmp_path, FAILS.format(tests=2, bad=[1]), "-p", "xdist", "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "again: 2 failed beside other tests; alone, 3 times each:" in done.stdout
    assert "test_fails_a_few_times[1] passes alone" in done.stdout
    assert runs(tmp_path) == 1 + TIMES


@pytest.mark.parametrize(("bad", "nth"), [([1, 2], "first"), ([1, 4], "third")])
def test_a_failure_that_comes_back_alone_stands(tmp_path: Path, bad: list[int], nth: str) -> None:
    done = again(tmp_path, FAILS.format(tests=1, bad=bad))
    assert done.returncode == 1
    assert f"test_fails_a_few_times[0] fails alone too, the {nth} time" in done.stdout


def test_many_failures_are_no_accident(tmp_path: Path) -> None:
    done = again(tmp_path, FAILS.format(tests=FEW + 1, bad=[1]))
    assert done.returncode == 1
    assert f"again: {FEW + 1} tests failed, more than {FEW}" in done.stdout
    assert runs(tmp_path) == 1


def test_a_run_that_passes_runs_once(tmp_path: Path) -> None:
    done = again(tmp_path, FAILS.format(tests=1, bad=[]))
    assert done.returncode == 0
    assert "again:" not in done.stdout
    assert runs(tmp_path) == 1


def test_what_is_no_failed_test_stands(tmp_path: Path) -> None:
    done = again(tmp_path, "import nothing_of_this_name")
    assert done.returncode not in {0, 1}
    assert "again:" not in done.stdout
