from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from qik_core.passes import Passes
from qik_core.web import Access, Who
from reconciler.definition import Definition
from reconciler.options import Quarantine
from reconciler.quarantine import RowStates
from reconciler.sql import writing
from reconciler.tables import audit, row_state
from tests.qik_core.web.site import Browser
from tests.qik_core.web.test_hostile import HOSTILE
from tests.reconciler.ends import end, push
from tests.reconciler.shop import Item, items
from tests.reconciler.web.conftest import Site

POLICY = Quarantine(after=2)


@pytest.fixture
def definition() -> Definition:
    return items(select(Item.id), quarantine=POLICY)


@pytest.fixture
def states(home: Engine, seam: Passes) -> RowStates:
    return RowStates(home, seam)


def died(raw: Any, states: RowStates, definition: Definition, *keys: int, times: int = 2) -> None:
    for key in keys:
        for _ in range(times):
            end(raw, definition, (key,), error="ValueError: no such account")
    states.drain()


def audited(home: Engine) -> list[Any]:
    with home.connect() as connection:
        return list(connection.execute(select(audit).order_by(audit.c.id)))


def held(home: Engine) -> list[str]:
    """The keys of rows that are held back."""
    with home.connect() as connection:
        rows = connection.execute(select(row_state.c.key).where(row_state.c.job_class != "#"))
        return sorted(row.key for row in rows)


def rows_of(browser: Browser, more: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = browser.get(f"/api/quarantine?class=Work{more}").json()["rows"]
    return sorted(rows, key=lambda row: str(row["key"]))


def test_jobs_are_listed_by_how_many_rows_are_held_back(
    site: Site, raw: Any, states: RowStates, definition: Definition
) -> None:
    died(raw, states, definition, 1, 2)
    died(raw, states, definition, 3, times=1)
    browser = site()

    page, data = browser.get("/quarantine"), browser.get("/api/quarantine").json()

    assert data["classes"] == [{"class": "Work", "quarantined": 2, "waiting": 1}]
    assert '<a href="/quarantine?class=Work">Work</a>' in page.text


def test_without_rows_that_are_held_back_the_page_says_so(site: Site) -> None:
    assert "No row is held back." in site().get("/quarantine").text


def test_rows_of_a_job_are_shown_with_how_they_ended(
    site: Site, raw: Any, states: RowStates, definition: Definition
) -> None:
    died(raw, states, definition, 1)
    died(raw, states, definition, 2, times=1)
    browser = site()

    one, two = rows_of(browser)
    page = browser.get("/quarantine?class=Work").text

    assert (one["key"], one["state"], one["reason"], one["failures"]) == (
        "1",
        "quarantined",
        "died",
        2,
    )
    assert one["error"] == "ValueError: no such account"
    assert (one["next_at"], two["state"], two["next_at"] is not None) == (None, "waiting", True)
    assert [row["key"] for row in rows_of(browser, "&state=quarantined")] == ["1"]
    assert page.count("Release…") == 2
    assert "ValueError: no such account" in page
    assert browser.get("/quarantine?class=Work&state=dead").status_code == 400


def test_many_rows_come_page_by_page(
    site: Site, raw: Any, states: RowStates, definition: Definition
) -> None:
    died(raw, states, definition, *range(1, 151), times=1)
    browser = site()

    first = browser.get("/api/quarantine?class=Work").json()
    second = browser.get(f"/api/quarantine?class=Work&after={first['after']}").json()

    assert (len(first["rows"]), len(second["rows"]), second["after"]) == (100, 50, "")
    keys = {row["key"] for row in [*first["rows"], *second["rows"]]}
    assert keys == {str(each) for each in range(1, 151)}
    assert "Go on" in browser.get("/quarantine?class=Work").text


def test_a_row_is_released_with_a_reason_after_its_page_has_asked(
    site: Site, home: Engine, raw: Any, states: RowStates, definition: Definition
) -> None:
    died(raw, states, definition, 1, 2)
    browser = site(authorize=lambda _: Who(Access.ADMIN, "ann"))
    row = rows_of(browser)[0]
    form = {"verb": "release", "class": "Work", "row": row["row"], "mark": row["mark"]}

    browser.get("/quarantine?class=Work")
    question = browser.post("/quarantine", form)
    still = held(home)
    nameless = browser.post("/quarantine", {**form, "sure": "yes"})
    done = browser.post("/quarantine", {**form, "sure": "yes", "reason": "account is back"})

    assert "Release row <b>1</b> of Work" in question.text
    assert still == ["1", "2"]
    assert (nameless.status_code, "there is no reason" in nameless.text) == (400, True)
    assert "1 row is released: the next pass tells it" in done.text
    assert held(home) == ["2"]
    (entry,) = audited(home)
    assert (entry.who, entry.action) == ("ann (dashboard)", "quarantine.release")
    assert (entry.subject, entry.reason) == ("Items 1", "account is back")


def test_a_second_click_and_a_row_that_has_changed_since_change_nothing(
    site: Site, home: Engine, raw: Any, states: RowStates, definition: Definition
) -> None:
    died(raw, states, definition, 1, 2)
    browser = site()
    one, two = rows_of(browser)
    browser.get("/quarantine?class=Work")

    def release(row: dict[str, Any]) -> str:
        rest = {"row": row["row"], "mark": row["mark"], "sure": "yes", "reason": "again"}
        return browser.post("/quarantine", {"verb": "release", "class": "Work", **rest}).text

    first, second = release(one), release(one)
    with writing(home) as connection:
        connection.execute(update(row_state).values(last_at=row_state.c.last_at + 5))
    changed = release(two)

    assert "1 row is released" in first
    assert "nothing was changed" in second
    assert "nothing was changed" in changed
    assert held(home) == ["2"]
    assert len(audited(home)) == 1


def test_all_quarantined_rows_of_a_job_are_released_after_their_number_was_said(
    site: Site, home: Engine, raw: Any, states: RowStates, definition: Definition
) -> None:
    died(raw, states, definition, 1, 2, 3)
    died(raw, states, definition, 4, times=1)
    browser = site()
    form = {"verb": "release", "class": "Work"}

    browser.get("/quarantine?class=Work")
    question = browser.post("/quarantine", form)
    before = held(home)
    done = browser.post("/quarantine", {**form, "sure": "yes", "reason": "mended in 1.2"})

    assert "Release all 3 quarantined rows of Work" in question.text
    assert before == ["1", "2", "3", "4"]
    assert "3 rows are released" in done.text
    assert held(home) == ["4"]
    (entry,) = audited(home)
    assert (entry.subject, entry.reason) == ("Items", "mended in 1.2")
    assert json.loads(entry.details)["rows"] == 3


def test_what_is_no_act_is_refused(
    site: Site, raw: Any, states: RowStates, definition: Definition
) -> None:
    died(raw, states, definition, 1)
    browser = site()
    browser.get("/switches")

    asked = [
        browser.post("/quarantine", form)
        for form in (
            {"verb": "delete", "class": "Work"},
            {"verb": "release"},
            {"verb": "release", "class": "#", "row": "drained"},
            {"verb": "release", "class": "Work", "row": "x"},
        )
    ]

    assert [each.status_code for each in asked] == [400, 400, 400, 404]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_in_every_field_are_shown_as_texts(
    site: Site, home: Engine, raw: Any, states: RowStates, text: str
) -> None:
    push(raw, "Work", "d" * 22, [text])
    states.drain()
    fields = {"job_class": text, "shard": text, "key": text, "error": text, "last_jid": text}
    with writing(home) as connection:
        ours = row_state.c.job_class == "Work"
        connection.execute(update(row_state).where(ours).values(**fields))
    browser = site()

    pages = [browser.get("/quarantine"), browser.get("/quarantine", params={"class": text})]
    pages.append(browser.post("/quarantine", {"verb": "release", "class": text, "row": "d" * 22}))

    assert {each.status_code for each in pages} == {200}
    assert not [each for each in pages if "<script>" in each.text or "<img" in each.text]


def test_keys_under_names_that_must_not_be_seen_are_masked(
    site: Site, raw: Any, states: RowStates, definition: Definition
) -> None:
    died(raw, states, definition, 41)

    hidden = site(redact=["item_id"])

    assert [row["key"] for row in rows_of(hidden)] == ["***"]
    assert ">41<" not in hidden.get("/quarantine?class=Work").text
