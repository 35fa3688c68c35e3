"""The page about the programs' API: its example runs, and what it lists is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qik_core import api
from qik_core.api import State
from qik_core.api.filters import KEYS
from tests.qik_core.api.places import name, put
from tests.qik_core.store.rig import Rig

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "api.md").read_text()


@pytest.mark.usefixtures("default_client")
def test_the_example_runs(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    put(rig, "retry", 1)
    rig.edge(2, queue="billing")
    raw = rig.raw.lindex("queue:billing", 0)
    assert isinstance(raw, bytes)
    rig.raw.lset("queue:billing", 0, raw.replace(b'"retry":25', b'"retry":25,"tags":["import"]'))

    for example in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(example, "api.md", "exec"), {})  # noqa: S102 - our own page

    assert f"{name(2)} Charge [2]" in capsys.readouterr().out


def test_every_name_of_the_api_and_every_word_of_filters_is_on_the_page() -> None:
    words = set(re.findall(r"\w+", PAGE))

    listed = {each for each in api.__all__ if each.endswith(("Set", "List", "Stats", "History"))}
    assert listed - {"JobSet", "QueueStats"} <= words
    assert set(KEYS) | {state.value for state in State} <= words
