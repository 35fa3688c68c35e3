"""The page about the dashboard lists the pages of reconcilers, and each stands behind the one gate."""

# ruff: noqa: S106  passwords of nobody

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core.passes import Passes
from qik_core.web import Secrets
from qik_core.web.tabs import TabPage
from reconciler.passes import Pass, Tools
from reconciler.quarantine import RowStates
from reconciler.tables import metadata
from reconciler.web import tabs
from tests.qik_core.web.site import digest_of
from tests.qik_core.web.test_gate import METHODS
from tests.reconciler.ends import push
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.web.conftest import Site

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "web.md").read_text()


def pages() -> Iterator[TabPage]:
    """Every page of every tab."""
    for tab in tabs({}):
        yield from tab.pages


def paths() -> Iterator[str]:
    """Every path, as HTML and as JSON."""
    for page in pages():
        path = re.sub(r"\{(\w+)\}", r"x-\1", page.path)
        yield path
        yield f"/api{path}"


def test_it_lists_every_page_of_the_tabs_and_what_it_answers_to() -> None:
    part = PAGE.split("## Pages of reconcilers\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in re.findall(r"^\| `.*$", part, re.MULTILINE)]

    told = {
        (path, bool(shows.strip()), bool(does.strip()))
        for first, shows, does in rows
        for path in re.findall(r"`([^`]+)`", first)
    }

    assert told == {(each.path, each.show is not None, each.act is not None) for each in pages()}


@pytest.mark.parametrize("method", METHODS)
def test_without_credentials_every_route_answers_401_or_the_login(site: Site, method: str) -> None:
    browser = site(secrets=Secrets(password="correct horse"))

    for path in paths():
        answer = browser.client.request(method, path)
        to_login = answer.status_code == 303 and answer.headers["location"] == "/login"
        assert to_login or answer.status_code in (401, 403), (path, answer.status_code)


def test_who_may_only_look_gets_403_on_every_route_that_could_change_something(site: Site) -> None:
    browser = site(read_only=True)
    browser.get("/")

    for path in paths():
        for method in METHODS[2:]:
            headers = {"Sec-Fetch-Site": "same-origin"}
            form = {"csrf": browser.token, "sure": "yes"}
            answer = browser.client.request(method, path, headers=headers, data=form)
            assert answer.status_code == 403, (method, path)


def test_the_document_of_the_api_describes_every_page(site: Site) -> None:
    described = site().get("/api/openapi.json").json()["paths"]

    assert {each.path for each in pages()} <= set(described)


def test_all_pages_together_leave_redis_and_sql_as_they_are(
    site: Site, home: Engine, raw: Any, tools: Tools, seam: Passes
) -> None:
    definition = items(select(Item.id))
    fill(home, [1, 2, 3])
    Pass(definition, tools, 1, lambda: None).run()
    push(raw, "Work", "d" * 22, [7])
    RowStates(home, seam).drain()
    push(raw, "Work", "e" * 22, [8])
    browser = site()
    before = digest_of(raw), rows_of(home)

    for path in paths():
        real = path.replace("x-reconciler", "Items")
        for method in ("GET", "HEAD"):
            answer = browser.client.request(
                method, f"{real}?class=Work&verb=release&verb=run&sure=yes&reason=x&_method=POST"
            )
            assert answer.status_code == 200, (method, real, answer.text)

    assert (digest_of(raw), rows_of(home)) == before


def rows_of(home: Engine) -> dict[str, list[Any]]:
    """Every row of every table of ours."""
    with home.connect() as connection:
        return {
            name: list(connection.execute(select(table))) for name, table in metadata.tables.items()
        }
