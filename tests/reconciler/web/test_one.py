from __future__ import annotations

import threading
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core.embedded import Embedded
from qik_core.store import Store
from qik_core.web.access import Access
from qik_core.web.asked import Ask
from qik_core.web.showing import Shower
from reconciler import runner as runners
from reconciler.passes import Tools
from reconciler.plan import plan
from reconciler.report import Report
from reconciler.web import one as pages
from reconciler.web.asking import Sql
from reconciler.web.one import One
from tests.qik_core.web.site import digest_of
from tests.reconciler.sharded import shard, sharded
from tests.reconciler.shop import Item, fill, items
from tests.reconciler.web.conftest import Site
from tests.reconciler.web.test_reconcilers import ended, led, passed
from tests.waiting import eventually


def declared(data: Any) -> dict[str, str]:
    return dict(data["declared"])


def test_a_reconciler_is_shown_with_its_last_passes_and_what_it_declares(
    site: Site, home: Engine, tools: Tools
) -> None:
    passed(tools)
    led(home)
    browser = site()

    page, data = browser.get("/reconcilers/Items"), browser.get("/api/reconcilers/Items").json()

    (turn,) = data["turns"]
    assert (turn["term"], turn["scanned"], turn["end"]["outcome"]) == (1, 3, "completed")
    assert declared(data) | {"Job": "Work", "Queue": "work", "Passes": "every 1.0 min"} == declared(
        data
    )
    assert declared(data)["Unique for"] == "1.0 h"
    assert "FROM item" in declared(data)["SQL"]
    assert "Run a pass now" in page.text
    assert '<a href="/reconcilers/Items">Items</a>' in browser.get("/reconcilers").text


def test_without_the_application_its_passes_are_shown_and_nothing_can_be_run(
    site: Site, home: Engine
) -> None:
    ended(home, reconciler="Elsewhere")
    browser = site()

    page = browser.get("/reconcilers/Elsewhere")
    answer = browser.post("/reconcilers/Elsewhere", {"verb": "run"})

    assert "runs without the module that defines this reconciler" in page.text
    assert "Run a pass now" not in page.text
    assert answer.status_code == 403  # there is no form on that page
    browser.get("/queues")
    assert (
        "start `reconciler web` with the module"
        in browser.client.get("/reconcilers/Elsewhere/plan").text
    )


def test_an_unknown_reconciler_is_not_found(site: Site) -> None:
    assert site().get("/reconcilers/Nobody").status_code == 404


def test_a_person_who_may_only_look_sees_no_button(site: Site, tools: Tools) -> None:
    passed(tools)

    assert "Run a pass now" not in site(read_only=True).get("/reconcilers/Items").text


def test_a_pass_that_is_run_from_the_page_tells_the_rows(
    site: Site, home: Engine, store: Store, raw: Any
) -> None:
    items(select(Item.id))
    fill(home, [1, 2, 3])
    browser = site()
    browser.get("/reconcilers/Items")

    answer = browser.post("/reconcilers/Items", {"verb": "run"})
    data = browser.get("/api/reconcilers/Items").json()

    assert "Pass of Items: completed" in answer.text
    assert "enqueued:3" in answer.text
    assert raw.llen("queue:work") == 3
    assert [(each["term"], each["end"]["outcome"]) for each in data["turns"]] == [(0, "completed")]


def test_two_passes_that_are_asked_for_at_once_are_one(
    home: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    items(select(Item.id))
    gate, by_hand, said = threading.Event(), runners.by_hand, []

    def slowly(*given: Any) -> Report:
        gate.wait(20)
        return by_hand(*given)

    monkeypatch.setattr(pages, "by_hand", slowly)
    one = One(Sql({"default": home}))
    ask = Ask(store, Access.ADMIN, Shower(), path={"reconciler": "Items"}, form={"verb": ["run"]})

    def run() -> None:
        said.append(one.run(ask).data["said"])

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(said) == 1)
    gate.set()
    for thread in threads:
        thread.join(20)

    assert said[0] == "Pass of Items: one is under way from here already: nothing was begun"
    assert said[1].startswith("Pass of Items: completed")


def test_every_shard_has_its_own_passes_and_all_are_run_where_none_is_named(
    site: Site, tmp_path: Path
) -> None:
    given = {name: shard(tmp_path, name, rows=2) for name in ("eu", "us")}
    sharded(lambda: given)
    browser = site()
    browser.get("/reconcilers/Items")

    browser.post("/reconcilers/Items", {"verb": "run"})
    browser.post("/reconcilers/Items", {"verb": "run", "shard": "us"})
    wrong = browser.post("/reconcilers/Items", {"verb": "run", "shard": "mars"})
    whole, us = (browser.get(f"/api/reconcilers/Items{part}").json() for part in ("", "?shard=us"))

    assert [row["unit"] for row in whole["rows"]] == ["Items/eu", "Items/us"]
    assert [row["unit"] for row in us["rows"]] == ["Items/us"]
    assert len(us["turns"]) == 2
    assert "ended early: Items has no shard 'mars': nothing was begun" in unescape(wrong.text)
    assert browser.get("/reconcilers/Items/plan").status_code == 400


def test_the_plan_says_what_a_pass_would_do_and_changes_nothing(
    site: Site, home: Engine, raw: Any
) -> None:
    items(select(Item.id))
    fill(home, [1, 2, 3])
    browser, before = site(), digest_of(raw)

    page, data = (
        browser.get("/reconcilers/Items/plan"),
        browser.get("/api/reconcilers/Items/plan").json(),
    )

    assert (data["pending"], data["told"], data["would_tell"]) == (3, 0, 3)
    assert data["rows"][0] == {"key": ["1"], "told": False, "delay": 0.0, "left_out": ""}
    assert "3 rows are pending, 0 of them told. A pass would tell 3." in page.text
    assert "FROM item" in page.text
    assert digest_of(raw) == before


def test_keys_under_names_that_must_not_be_seen_are_masked(site: Site, home: Engine) -> None:
    items(select(Item.id))
    fill(home, [1])
    browser = site(redact=["id"])

    data = browser.get("/api/reconcilers/Items/plan").json()

    assert data["rows"][0]["key"] == ["***"]
    assert "args" not in data["rows"][0]


def test_a_plan_without_redis_counts_and_says_that_who_is_told_is_unknown(
    site: Site, home: Engine, redis_server: Embedded
) -> None:
    items(select(Item.id))
    fill(home, [1, 2])
    browser = site()
    redis_server.kill()

    page = browser.get("/reconcilers/Items/plan")
    redis_server.start()

    assert "2 rows are pending, told or not: unknown." in page.text


def test_a_plan_that_takes_long_is_made_once_and_no_page_asks_for_it_again_by_itself(
    site: Site, home: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    items(select(Item.id))
    gate, begun = threading.Event(), []

    def slowly(*given: Any) -> Any:
        begun.append(given)
        gate.wait(30)
        return plan(*given)

    monkeypatch.setattr(pages, "make", slowly)
    browser = site()

    late, second = (browser.get("/reconcilers/Items/plan") for _ in range(2))
    gate.set()

    assert (late.status_code, second.status_code, len(begun)) == (504, 429, 1)
    assert "`reconciler plan Items` waits for it" in unescape(late.text)
    assert "data-hx-trigger" not in late.text.split("<main", 1)[1]
    eventually(lambda: browser.get("/reconcilers/Items/plan").status_code == 200)
