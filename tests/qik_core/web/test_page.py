"""The page about the dashboard lists what there is, and its example runs."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from qik_core.api import DeadSet
from qik_core.api.paging import named
from qik_core.cli.web import web
from qik_core.store import Store
from qik_core.web import app
from qik_core.web.application import Site as Pages
from qik_core.web.asked import MOST_BODY, MOST_QUERY
from qik_core.web.looks import verbs_of
from qik_core.web.showing import Shower
from tests.qik_core.web.site import Browser, served

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "web.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    part = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\|(.*)\|$", part.split("|---", 1)[1], re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines[1:] if line]


def test_it_lists_every_page_and_what_it_answers_to() -> None:
    told = {
        (path, bool(shows), bool(does))
        for paths, shows, does in rows("Pages")[:16]
        for path in re.findall(r"`([^`]+)`", paths)
    }

    assert told == {
        (page.path, page.show is not None, page.act is not None)
        for page in Pages(None, Shower(), ()).pages
    }


def test_it_lists_every_parameter_and_option() -> None:
    parameters = {row[0].strip("`") for row in rows("`app(…)`")}
    options = {row[0].strip("`") for row in rows("`qik web [APP]`")}

    assert parameters == set(inspect.signature(app).parameters)
    assert options == {opt for each in web.params for opt in each.opts if opt.startswith("--")}


def test_it_says_which_verb_goes_where(redis_url: str) -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|`]+) \|$", PAGE, re.MULTILINE))
    store = Store(redis_url)
    places = ("scheduled", "retries", "dead", "queue:a", "later:a", "suspects:a", "held:A")
    found = {each: verbs_of(named(each, store)) for each in places}

    assert told == {
        "retry": "retries, dead",
        "run": "scheduled, later",
        "delete": "everywhere",
        "bury": "everywhere but dead and held",
    }
    assert [each for each in places if "retry" in found[each]] == ["retries", "dead"]
    assert [each for each in places if "run" in found[each]] == ["scheduled", "later:a"]
    assert [each for each in places if "bury" not in found[each]] == ["dead", "held:A"]
    assert all("delete" in found[each] for each in places)
    assert isinstance(named("dead", store), DeadSet)
    store.close()


def test_its_bounds_are_those_of_the_code() -> None:
    assert f"{MOST_QUERY // 1024} KB of query, {MOST_BODY // 1024} KB of form" in PAGE


@pytest.mark.usefixtures("default_client")
def test_the_example_of_a_tab_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    (tmp_path / "weather_tab.py").write_text(example)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "weather.html").write_text(
        '{% extends "base.html" %}{% block main %}<b>{{ sun }}</b>{% endblock %}'
    )
    monkeypatch.syspath_prepend(tmp_path)
    with served(importlib.import_module("weather_tab").dashboard) as url:
        browser = Browser(url)
        page, data = browser.get("/weather"), browser.get("/api/weather")
        browser.close()

    assert "<h1>Weather</h1>" in page.text
    assert "<b>True</b>" in page.text
    assert '<a href="/weather" aria-current="page">Weather</a>' in page.text
    assert data.json() == {"sun": True}
