"""The page that lists the scenarios names tests that there are, and all of them."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "explanation" / "acceptance.md"


def test_the_page_of_the_scenarios_lists_each_test_and_none_besides() -> None:
    listed = set(re.findall(r"`(\w+)::test_scenario_(\d\d)`", PAGE.read_text()))

    there = {
        (path.stem.removeprefix("test_scenarios_"), number)
        for path in HERE.glob("test_scenarios_*.py")
        for number in re.findall(r"^def test_scenario_(\d\d)_", path.read_text(), re.MULTILINE)
    }
    assert listed == there
