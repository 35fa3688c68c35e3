"""A tab of another package: its pages stand behind the same gate, in HTML and in JSON."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from qik_core.errors import StoreError
from qik_core.web import Ask, Card, Problem, Tab, TabPage, Tone, View
from tests.qik_core.web.conftest import Site
from tests.waiting import eventually

TEMPLATE = """{% extends "base.html" %}{% block main %}<p id="word">{{ word }}</p>
<form method="post" action="{{ base }}/words/x"><input type="hidden" name="csrf" value="{{ csrf }}"></form>{% endblock %}"""


@dataclass(frozen=True)
class Words:
    templates: Path | None
    pages: tuple[TabPage, ...]
    name: str = "Words"


@dataclass(frozen=True)
class Told(Words):
    says: Callable[[Ask], Sequence[Card]] = lambda _: ()

    def cards(self, ask: Ask) -> Sequence[Card]:
        return self.says(ask)


def fails(error: Exception) -> Callable[[Ask], Sequence[Card]]:
    """What cards are of a tab that has none."""

    def cards(_: Ask) -> Sequence[Card]:
        raise error

    return cards


@pytest.fixture
def tab(tmp_path: Path) -> Tab:
    (tmp_path / "word.html").write_text(TEMPLATE)

    def show(ask: Ask) -> View:
        return View(
            "word.html",
            "A word",
            {"word": f"{ask.text('queue') or 'none'} {ask.number('count', 7)}"},
        )

    def say(ask: Ask) -> View:
        return View("said.html", "Said", {"said": f"said by {ask.access}", "back": "/words"})

    pages = (
        TabPage("/words", "All words", show, params=("count",)),
        TabPage("/words/{queue}", "One word", show, say),
    )
    return Words(tmp_path, pages)


def test_its_pages_are_shown_with_ours_as_html_and_as_json(site: Site, tab: Tab) -> None:
    browser = site(tabs=[tab])

    page = browser.get("/words?count=3")

    assert '<p id="word">none 3</p>' in page.text
    assert '<a href="/words" aria-current="page">Words</a>' in page.text
    assert '<a href="/words">Words</a>' in browser.get("/").text
    assert browser.get("/api/words/blue").json() == {"word": "blue 7"}
    assert "/words/{queue}" in browser.get("/api/openapi.json").json()["paths"]


def test_its_texts_are_escaped_and_its_parameters_bounded(site: Site, tab: Tab) -> None:
    browser = site(tabs=[tab])

    assert "<script>" not in browser.get("/words/<script>").text.split("<main", 1)[1]
    assert browser.get("/words?count=1000").status_code == 400


def test_its_actions_stand_behind_the_same_gate(site: Site, tab: Tab) -> None:
    browser, reader = site(tabs=[tab]), site(tabs=[tab], read_only=True)
    browser.get("/words")
    reader.get("/words")

    assert "said by admin" in browser.post("/words/x").text
    assert browser.client.post("/words/x").status_code == 403
    assert reader.post("/words/x").status_code == 403
    assert browser.client.delete(
        "/words/x", headers={"Sec-Fetch-Site": "same-origin"}
    ).status_code in (403, 405)


def test_what_outlasts_its_page_goes_on_behind_and_pages_say_how_it_ended(
    site: Site, tab: Tab, tmp_path: Path
) -> None:
    gate = threading.Event()

    def rest() -> str:
        gate.wait(20)
        return "all words are said"

    def say(ask: Ask) -> View:
        done, said = ask.behind("Words", rest)
        return View("said.html", "Said", {"said": said, "done": done, "back": "/words"})

    pages = (TabPage("/words", "All words", tab.pages[0].show, say, fields=("verb",)),)
    browser = site(tabs=[Words(tmp_path, pages)])
    browser.get("/words")
    answer = browser.post("/api/words").json()
    going = browser.get("/words").text
    gate.set()

    assert (answer["done"], answer["said"]) == (False, "going on")
    assert "Words: going on" in going
    eventually(lambda: "Words: all words are said" in browser.get("/words").text)
    described = browser.get("/api/openapi.json").json()["paths"]["/words"]["post"]
    body = described["requestBody"]["content"]["application/json"]["schema"]
    assert list(body["properties"]) == ["verb"]


def test_its_cards_stand_on_the_overview_as_html_and_as_json(site: Site, tab: Tab) -> None:
    told = [Card("Words", "1,234", "/words?count=3", Tone.WARN), Card("Plain", "<b>" * 99)]
    browser = site(tabs=[Told(None, tuple(tab.pages), says=lambda _: told)], path="/jobs")

    page, cards = browser.get("/jobs/").text, browser.get("/jobs/api/").json()["cards"]

    assert cards[0] == {"name": "Words", "value": "1,234", "path": "/words?count=3", "tone": "warn"}
    words = '<dt><a href="/jobs/words?count=3">Words</a></dt><dd class="warn">1,234</dd>'
    assert words in page
    assert '<div class="words"><dt>Plain</dt><dd>&lt;b&gt;' in page
    assert "<b>" not in page.split("<main", 1)[1]
    assert len(cards[1]["value"]) <= 300


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Problem(503, "nobody answers"), "nobody answers"),
        (StoreError("gone"), "Redis does not answer: gone"),
        (ZeroDivisionError("1 / 0"), "failed: the log of the dashboard says why"),
    ],
)
def test_a_tab_that_cannot_give_its_cards_says_why_and_the_rest_of_the_overview_stands(
    site: Site, tab: Tab, error: Exception, said: str
) -> None:
    pages = tuple(tab.pages)
    fine = Told(None, pages, "Fine", lambda _: [Card("Number", "7")])
    browser = site(tabs=[Told(None, pages, says=fails(error)), fine])

    answer = browser.get("/api/")

    assert answer.status_code == 200
    assert answer.json()["queues"] == []
    broken, number = answer.json()["cards"]
    assert broken == {"name": "Words", "value": said, "path": "/words", "tone": "bad"}
    assert number["value"] == "7"


def test_an_overview_with_cards_is_asked_for_as_often_as_the_totals(site: Site, tab: Tab) -> None:
    told = Told(None, tuple(tab.pages), says=lambda _: [Card("Number", "7")])

    live = site(tabs=[told]).get("/").text.split('id="live"', 1)[1].split(">", 1)[0]

    assert 'data-hx-trigger="every 2s"' in live
