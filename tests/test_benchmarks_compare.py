"""Two states of the repository in turn: each with its own code, both by the benchmark that is here."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import click
import pytest
from rich.console import Console

from benchmarks import compare
from benchmarks.bench import ROOT
from benchmarks.compare import Pairs
from benchmarks.names import CaseName, Figure

SMALL = ("--only", "push", "--rounds", "1", "--scale", "0.01")


def _printed(pairs: Pairs) -> str:
    said = io.StringIO()
    Console(file=said, width=200).print(compare.table([pairs], "main"))
    return said.getvalue()


def test_ratios_are_of_pairs_and_have_a_spread() -> None:
    pairs = Pairs(CaseName.PUSH, Figure.RATE, (100.0, 10.0, 50.0), (200.0, 10.0, 60.0), ())
    assert pairs.ratios == (2.0, 1.0, 1.2)
    assert _printed(pairs).split()[-6:] == ["1.20", "x", "1.00", "x", "2.00", "x"]


def test_a_void_round_has_no_ratio() -> None:
    said = _printed(Pairs(CaseName.PUSH, Figure.RATE, (1.0,), (2.0,), ("jobs: 9, not 10",)))
    assert "VOID" in said
    assert "2.00" not in said


def test_a_checkout_has_the_code_of_its_revision_and_the_benchmark_of_here(tmp_path: Path) -> None:
    with compare.checkout("HEAD", tmp_path) as tree:
        names = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
        assert {path.name for path in (tree / "benchmarks").glob("*.py")} == names
        found = subprocess.run(
            [sys.executable, "-c", "import qik_core; print(qik_core.__file__)"],
            cwd=tree,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(tree)},
        )
        assert found.stdout.strip() == str(tree / "qik_core" / "__init__.py")
    assert not tree.exists()


def test_a_run_that_was_killed_stands_in_no_other_runs_way(tmp_path: Path) -> None:
    with compare.checkout("HEAD", tmp_path) as killed, compare.checkout("HEAD", tmp_path) as tree:
        assert killed.exists()
        assert tree.exists()
        assert tree != killed
    assert list(tmp_path.iterdir()) == []


def test_a_revision_that_is_none_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(click.ClickException, match="no-such-revision"),
        compare.checkout("no-such-revision", tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_results_of_an_older_run_are_not_taken_for_those_of_one_that_failed(
    tmp_path: Path,
) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text("")
    with pytest.raises(click.ClickException, match="no-such-case"):
        compare.once(ROOT, file, "no-such-case", 1.0)


def test_a_round_that_does_not_end_is_named_and_ended(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match=r"push in .*: no result in 0 s"):
        compare.once(ROOT, tmp_path / "results.jsonl", "push", 0.001, patience=0.01)


def test_the_command_prints_a_ratio_for_each_case() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "compare", "HEAD", *SMALL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("push"))
    assert row.count(" x") == 3
