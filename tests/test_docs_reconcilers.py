"""docs/reference/reconcilers.md has a row for each name that the code knows, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qik_core.results import Code
from reconciler import LossKind, OccurrenceOptions, Options, Outcome, report
from reconciler.pending import Columns
from reconciler.rebuilt import State
from reconciler.states import Hold

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "reconcilers.md").read_text()
OWN_CODES = {
    each for name, each in vars(report).items() if name.isupper() and isinstance(each, str)
}
SAID_ELSEWHERE = {"advanced"}  # of edges alone


def names(heading: str) -> set[str]:
    """Return the names in the first column of the table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        ("derive()", {"args", *Columns.__annotations__}),
        ("Class keywords", set(Options.__annotations__)),
        ("Occurrences", {*OccurrenceOptions.__annotations__} - {*Options.__annotations__}),
        ("How a pass ends", {*Outcome}),
        ("Losses of Redis", {*LossKind}),
        ("How a rebuild ends", {*State} - {State.READY}),
        ("What became of each row", {*Code, *Hold, *OWN_CODES} - SAID_ELSEWHERE),
    ],
)
def test_the_reference_names_what_the_code_knows(heading: str, known: set[str]) -> None:
    assert names(heading) == {str(each) for each in known}


DOCS = Path(__file__).parents[1] / "docs"
PROMISES = DOCS / "explanation" / "what-we-do-not-promise.md"


def test_each_test_that_is_said_to_show_a_limit_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PROMISES.read_text())
    root = Path(__file__).parents[1]

    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (root / path).exists() or f"def {name}(" not in (root / path).read_text()
    ]

    assert len(named) > 10
    assert missing == []


def test_every_page_stands_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - {"README.md"}

    missing = [page for page in sorted(pages) if f"({page})" not in index]

    assert [page for page in missing if not page.startswith("decisions/")] == []
