from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import create_engine

from qik_core.web.asked import Problem
from reconciler.web.asking import MOST, Sql
from tests.reconciler.web.conftest import Site
from tests.waiting import busy, eventually


def test_a_silent_database_is_said_on_the_page_within_3_seconds(site: Site, silent: str) -> None:
    browser = site({"default": silent})
    before = time.monotonic()

    page = browser.get("/reconcilers")

    assert time.monotonic() - before < 3 * busy()
    assert page.status_code == 503
    assert "SQL does not answer: no answer from SQL within 2." in page.text
    assert 'data-hx-trigger="every 2s"' in page.text


def test_a_database_without_our_tables_is_said_with_the_remedy(site: Site) -> None:
    page = site({"default": create_engine("sqlite://")}).get("/api/reconcilers")

    assert page.status_code == 503
    assert "reconciler upgrade" in page.json()["error"]


def test_a_dashboard_without_a_database_says_which_setting_is_missing(site: Site) -> None:
    page = site({"other": "sqlite://"}).get("/api/reconcilers")

    assert page.status_code == 503
    assert "set DATABASE_URL" in page.json()["error"]


def test_questions_that_nobody_answers_do_not_pile_up() -> None:
    sql, gate = Sql({}), threading.Event()
    for _ in range(MOST):
        sql.ask(lambda _: gate.wait(30))

    with pytest.raises(Problem, match=f"{MOST} questions wait for it already"):
        sql.ask(lambda _: None)

    gate.set()
    assert eventually(lambda: _answered(sql)) == "there again"


def _answered(sql: Sql) -> str | None:
    try:
        return sql.answer(lambda _: "there again")
    except Problem:
        return None
