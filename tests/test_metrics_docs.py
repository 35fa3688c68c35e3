"""docs/reference/metrics.md has exactly the metrics that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qik_core.probes.families import WORKERS, Family
from qik_core.tallies import End
from reconciler.families import RECONCILERS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reference/metrics.md").read_text()
_ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \| (.*?) \|$", re.MULTILINE)
FAMILIES = (*WORKERS, *RECONCILERS)


def row(family: Family) -> tuple[str, str, str, str]:
    labels = ", ".join(f"`{each}`" for each in family.labels) or "–"
    return family.name, family.kind, labels, family.help


def test_the_page_has_every_metric_and_no_other() -> None:
    assert sorted(_ROW.findall(PAGE)) == sorted(map(row, FAMILIES))


def test_no_two_metrics_have_one_name() -> None:
    names = [each.name for each in FAMILIES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("end", End)
def test_the_page_says_what_each_end_means(end: End) -> None:
    assert re.search(rf"^\| (`\w+`, )?`{end}`", PAGE, re.MULTILINE)
