"""Two states of this repository, measured in turn by the same benchmark: a revision, and the files as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import click
from rich.table import Table

from benchmarks.bench import ROOT
from benchmarks.names import CaseName, Figure
from benchmarks.report import OURS, Line, of_text
from benchmarks.show import number

FOLDER: Final = ROOT / ".cache" / "compare"
_OUR_OWN: Final = "benchmarks"
_PATIENCE: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """One figure of one case: the values of the revision and of the files here, a pair for each round."""

    case: CaseName
    figure: Figure
    base: tuple[float, ...]
    here: tuple[float, ...]
    void: tuple[str, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """What is here over what was there, round by round."""
        return tuple(here / base for here, base in zip(self.here, self.base, strict=True) if base)


@contextmanager
def checkout(revision: str, folder: Path = FOLDER) -> Iterator[Path]:
    """Yield a checkout of a revision that measures with the benchmark of the files here.

    Raises:
        ClickException: there is no such revision, or no git.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # One of its own for each run: what a run that was killed has left is in nobody's way.
    home = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    tree = home / "base"
    try:
        _git("worktree", "add", "--detach", str(tree), revision)
        shutil.rmtree(tree / _OUR_OWN, ignore_errors=True)
        shutil.copytree(ROOT / _OUR_OWN, tree / _OUR_OWN)
        yield tree
    finally:
        shutil.rmtree(home, ignore_errors=True)
        _git("worktree", "prune")


def once(
    tree: Path, file: Path, case: str, scale: float, patience: float = _PATIENCE
) -> list[Line]:
    """Run one round of ours in a checkout; it has so many seconds. Raises ClickException with what was said."""
    file.unlink(missing_ok=True)
    command = [
        "--only",
        case,
        "--rounds",
        "1",
        "--scale",
        str(scale),
        "--system",
        OURS,
        "--json",
        str(file),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", *command],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise click.ClickException(f"{case} in {tree}: no result in {patience:.0f} s") from error
    if not file.exists():
        raise click.ClickException(f"{case} in {tree}:\n{done.stdout}{done.stderr}")
    return of_text(file.read_text())[0]


def compare(base: Path, cases: Sequence[str], rounds: int, scale: float) -> Iterator[list[Pairs]]:
    """Yield the pairs of each case. In every other round the files here go first."""
    file = base.with_name("results.jsonl")
    for case in cases:
        found: list[dict[Path, list[Line]]] = []
        for round_ in range(rounds):
            turn = (base, ROOT) if round_ % 2 == 0 else (ROOT, base)
            found.append({tree: once(tree, file, case, scale) for tree in turn})
        yield _pairs(found, base)


def _pairs(found: Sequence[dict[Path, list[Line]]], base: Path) -> list[Pairs]:
    pairs = []
    for at, first in enumerate(found[0][base]):
        there, here = ([round_[tree][at] for round_ in found] for tree in (base, ROOT))
        void = {problem for line in (*there, *here) for problem in line.void}
        pairs.append(
            Pairs(
                first.case,
                first.figure,
                tuple(line.value for line in there),
                tuple(line.value for line in here),
                tuple(sorted(void)),
            )
        )
    return pairs


def table(pairs: Sequence[Pairs], revision: str) -> Table:
    """Return the medians, and the ratios with their spread."""
    found = Table(box=None, pad_edge=False)
    for title in ("case", "counted in", revision, "here", "here is", "from", "to"):
        found.add_column(title, justify="left" if title in ("case", "counted in") else "right")
    for pair in pairs:
        found.add_row(*_cells(pair))
    return found


def _cells(pair: Pairs) -> list[str]:
    ratios = pair.ratios or (float("nan"),)
    told = [f"{ratio:.2f} x" for ratio in (median(ratios), min(ratios), max(ratios))]
    values = [number(median(pair.base)), number(median(pair.here))]
    return [pair.case, pair.figure, *(["VOID"] * 5 if pair.void else [*values, *told])]


def _git(*arguments: str) -> None:
    done = subprocess.run(
        ["/usr/bin/env", "git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(f"git {' '.join(arguments)}: {done.stderr.strip()}")
