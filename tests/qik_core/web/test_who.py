"""Who somebody is: said at the login, by the application or by a token; kept, shown, and told with what they do."""

# ruff: noqa: S106  passwords of nobody

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from qik_core.web import Access, Ask, Secrets, TabPage, View, Who, app
from qik_core.web.access import Signer
from tests.axe import complaints
from tests.chromium import chromium
from tests.qik_core.store.rig import Rig
from tests.qik_core.web.conftest import Site
from tests.qik_core.web.site import Browser, served

WITH = Secrets(password="correct horse", token="program-1")


class Words:
    """A tab that says who asks it."""

    name = "Words"
    templates = None

    def __init__(self) -> None:
        def words(ask: Ask) -> View:
            return View("said.html", "Said", {"said": ask.who, "back": "/words"})

        def act(ask: Ask) -> View:
            ask.behind("Words", lambda: "said")
            return words(ask)

        self.pages = (TabPage("/words", "Says who asks", words, act),)


def who(browser: Any, **headers: str) -> Any:
    """Return how a page hears of who asks."""
    return browser.get("/api/words", headers=headers).json()["said"]


def test_the_name_of_a_login_is_kept_shown_and_told_with_what_they_do(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    browser = site(secrets=WITH, tabs=[Words()])

    browser.get("/login")
    browser.post("/login", {"password": "correct horse", "name": " Änne B. "})
    page = browser.get("/queues").text
    with caplog.at_level(logging.INFO, "qik_core.web"):
        browser.post("/queues/default", {"verb": "pause"})

    assert '<span class="who">Änne B.</span> <button class="quiet">Log out' in page
    assert who(browser) == "Änne B. (dashboard)"
    (told,) = [each.__dict__ for each in caplog.records if "who" in each.__dict__]
    assert (told["who"], told["page"], told["verb"]) == (
        "Änne B. (dashboard)",
        "/queues/default",
        "pause",
    )


@pytest.mark.parametrize(
    ("page", "form"),
    [("/words", {}), ("/bulk", {"place": "dead", "verb": "delete", "sure": "yes"})],
)
def test_how_something_ended_is_told_with_who_began_it(
    site: Site, caplog: pytest.LogCaptureFixture, page: str, form: dict[str, str]
) -> None:
    browser = site(secrets=WITH, tabs=[Words()])
    browser.get("/login")
    browser.post("/login", {"password": "correct horse", "name": "ada"})
    browser.get("/queues")

    with caplog.at_level(logging.INFO, "qik_core.web"):
        assert browser.post(page, form).status_code == 200

    ends = [each for each in caplog.records if each.getMessage() == "a bulk action ended"]
    assert [each.__dict__["who"] for each in ends] == ["ada (dashboard)"]


def test_the_longest_name_fits_a_phone(site: Site, tmp_path: Path) -> None:
    browser = site(authorize=lambda _: Who(Access.ADMIN, "W" * 60))
    locked = site(secrets=WITH)

    with chromium(tmp_path / "profile") as tab:
        tab.size(390, 800)
        for page in (f"{browser.url}/queues", f"{locked.url}/login"):
            tab.open(page)
            assert tab.run("document.documentElement.scrollWidth") <= 390, page
            assert complaints(tab) == []


def test_nobody_has_to_say_a_name(site: Site) -> None:
    browser = site(secrets=WITH, tabs=[Words()])

    browser.login("correct horse")

    assert who(browser) == "dashboard"
    assert 'class="who"' not in browser.get("/queues").text


@pytest.mark.parametrize(
    "name",
    ["ann\nWARNING forged", "a\x1b[2J", "\u202egro.live", "a\0", "x" * 61, "x" * 10_000],
    ids=["line", "escape", "backwards", "zero", "61", "10 kB"],
)
def test_a_name_that_cannot_be_shown_lets_nobody_in(site: Site, name: str) -> None:
    browser = site(secrets=WITH)
    browser.get("/login")

    answer = browser.post("/login", {"password": "correct horse", "name": name})

    assert answer.status_code == 400
    assert "name has" in answer.text
    assert browser.get("/queues").headers["location"] == "/login"


def test_half_a_character_as_a_name_lets_nobody_in(site: Site) -> None:
    browser = site(secrets=WITH)
    browser.get("/login")
    form = json.dumps({"csrf": browser.token, "password": "correct horse", "name": "\ud800"})
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}

    assert browser.client.post("/login", content=form, headers=headers).status_code == 400


def test_html_in_a_name_is_shown_as_text(site: Site) -> None:
    browser = site(secrets=WITH, tabs=[Words()])
    browser.get("/login")
    browser.post("/login", {"password": "correct horse", "name": "</span><script>alert(1)"})

    page = browser.get("/words").text

    assert "<script>alert" not in page
    assert page.count("&lt;/span&gt;&lt;script&gt;alert(1)") == 2


def test_the_longest_name_fits_into_the_cookie(site: Site) -> None:
    browser = site(secrets=WITH, tabs=[Words()])
    browser.get("/login")
    browser.post("/login", {"password": "correct horse", "name": "🜨" * 60})

    assert who(browser) == "🜨" * 60 + " (dashboard)"


def test_the_application_says_a_name_and_nothing_hidden_in_it_goes_on(site: Site) -> None:
    browser = site(
        authorize=lambda request: Who(Access.ADMIN, request.headers["x-user"] + "\n\u202e"),
        tabs=[Words()],
    )

    assert who(browser, **{"X-User": "ada"}) == "ada?? (dashboard)"
    assert who(browser, **{"X-User": "x" * 10_000}) == "x" * 60 + " (dashboard)"
    page = browser.get("/queues", headers={"X-User": "a<b"}).text
    assert '<span class="who">a&lt;b??</span>' in page


@pytest.mark.parametrize("answer", [Who("root"), Who(Access.ADMIN, None)])
def test_an_application_that_says_neither_a_level_nor_a_name_lets_nobody_in(
    site: Site, answer: Who
) -> None:
    page = site(authorize=lambda request: answer).client.get("/queues")

    assert page.status_code == 500
    assert "let it answer none, read or admin, or Who(access, name)" in page.text


def test_who_may_only_look_keeps_their_name(site: Site) -> None:
    browser = site(authorize=lambda _: Who(Access.ADMIN, "ada"), read_only=True, tabs=[Words()])

    assert who(browser) == "ada (dashboard)"
    assert browser.post("/words").status_code == 403


def test_a_program_is_called_token(site: Site) -> None:
    browser = site(secrets=WITH, tabs=[Words()])

    assert who(browser, Authorization="Bearer program-1") == "token (dashboard)"


def test_a_cookie_of_the_release_before_is_one_without_a_name() -> None:
    signer = Signer(b"k" * 32)
    cookie = signer.cookie(Who(Access.READ), 1000.0)
    text = cookie.rpartition(".")[0].removesuffix(".")
    before = f"{text}.{signer._sign(text)}"

    session = signer.session(before, 1001.0)

    assert session is not None
    assert (session.access, session.name) == (Access.READ, "")


def test_dashboards_of_one_host_leave_each_other_logged_in(rig: Rig) -> None:
    """Another port, and below another on the same port: a browser sends both cookies there."""
    words = ["correct horse", "another one", "the third one"]
    one, two, below = (app(rig.store, secrets=Secrets(password=word)) for word in words)
    both = Starlette(routes=[Mount("/below", below), Mount("/", two)])
    with served(one) as first, served(both) as second, httpx.Client(trust_env=False) as client:
        places = [first, second, f"{second}/below"]
        browsers = [Browser(place) for place in places]
        for browser, word in zip(browsers, words, strict=True):
            browser.client.cookies = client.cookies.jar
            browser.login(word)

        assert [browser.get("/").status_code for browser in browsers] == [200, 200, 200]
        for browser in browsers:
            browser.close()
