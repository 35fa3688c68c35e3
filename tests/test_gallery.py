"""Every page of the dashboard in a real browser: whole on a phone, nothing empty, nothing that shuts people out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answers import answers
from tests.axe import complaints
from tests.chromium import Tab, chromium
from tests.gallery import LOOKS, draw, gallery, look_at, main, pages, visit

TABLET = 861
"""Pixels: the narrowest screen on which a table is one."""
EMPTY = (
    "[...document.querySelectorAll('table')].filter(each => !each.querySelector('tbody td')).length"
)


@pytest.fixture
def url(redis_url: str, sqlite_url: str) -> Iterator[str]:
    with gallery(redis_url, sqlite_url) as url:
        yield url


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with chromium(tmp_path / "profile") as tab:
        yield tab


def _wrong(tab: Tab, *widths: int) -> list[str]:
    """Return what is wrong with the page that is open."""
    found = complaints(tab)
    for width in widths:
        tab.size(width, 800)
        if tab.run("document.documentElement.scrollWidth") > width:
            found.append(f"it is wider than a screen of {width} px")
    return [*found, *(["a table is empty"] if tab.run(EMPTY) else [])]


def test_what_shuts_people_out_is_found(tab: Tab) -> None:
    tab.open("data:text/html,<p style='color:%23ccc'>pale</p><input>")

    rules = {each.split(": ")[1] for each in complaints(tab)}

    assert {"color-contrast", "label", "html-has-lang"} <= rules


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_for_everybody(url: str, tab: Tab, look: str) -> None:
    wrong = {}
    for page in pages(url):
        visit(tab, LOOKS[look], url + page.path)
        if found := _wrong(tab, LOOKS[look].width, TABLET):
            wrong[page.path] = found

    assert wrong == {}


@pytest.mark.timeout(300)  # some thirty answers, each looked at three times
def test_every_answer_to_what_people_do_is_for_everybody_too(url: str, tab: Tab) -> None:
    wrong = {}
    for answer in answers(tab, url):
        for name, look in LOOKS.items():
            look_at(tab, look)
            if found := _wrong(tab, look.width):
                wrong[answer.name, name] = found

    assert wrong == {}


def test_a_picture_of_every_page_is_drawn(url: str, tab: Tab, tmp_path: Path) -> None:
    made = draw(tab, url, tmp_path / "pictures", LOOKS["phone"])

    assert {each.stem for each in made} == {page.name for page in pages(url)}
    assert all(each.read_bytes().startswith(b"\x89PNG") for each in made)


def test_where_no_redis_can_be_started_pictures_are_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chromium").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(SystemExit, match=r"no Redis-compatible server .* apt-get install"):
        main([str(tmp_path)])
