"""`reconciler why` beside a real worker: rows whose jobs run, fail, die and end well for nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import create_engine, insert

from tests import forks
from tests.integration.shop import NOTES, Shop
from tests.reconciler.shop import Base, Item
from tests.waiting import eventually

APP = (
    NOTES
    + """
from sqlalchemy import select
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

class Try(Job, unique_for=600, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        while n == 1 and not (HERE / "go").exists():
            time.sleep(0.01)
        if n == 2:
            raise TypeError("no total")

class Die(Job, unique_for=600, retry=0):
    def perform(self, n: int) -> None:
        note("start", n)
        raise KeyError("gone")

class Tries(Reconciler, every=3600):
    pending = derive(Try, select(Item.id).where(Item.rank == 0))

class Deaths(Reconciler, every=3600):
    pending = derive(Die, select(Item.id).where(Item.rank == 1))
"""
)


@pytest.fixture
def commands(shop: Shop, sqlite_url: str) -> Commands:
    return Commands(shop, sqlite_url)


class Commands:
    """`reconciler` in the shop's folder, on a database with items 1 to 4."""

    def __init__(self, shop: Shop, url: str) -> None:
        self.shop = shop
        shop.environment["DATABASE_URL"] = url
        shop.environment["QIK_APP"] = "shop"
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        rows = [{"id": n, "state": "open", "rank": int(n == 4), "version": 1} for n in range(1, 5)]
        with engine.begin() as connection:
            connection.execute(insert(Item), rows)
        engine.dispose()
        self("upgrade")

    def __call__(self, *words: str) -> str:
        folder, env = self.shop.folder, self.shop.environment
        done = forks.run(forks.RECONCILER, words, cwd=folder, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def why(self, *words: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self("why", *words, "--json"))
        cause: dict[str, Any] = said["cause"]
        return {**cause, "jid": said["jid"]}


def test_what_a_worker_does_with_a_row_is_what_why_says(
    shop: Shop, commands: Commands, raw: Any
) -> None:
    shop.work()
    commands("pass", "Tries")
    commands("pass", "Deaths")
    eventually(lambda: set(shop.runs("start")) == {1, 2, 3, 4})
    eventually(lambda: raw.zcard("retry") == raw.zcard("dead") == 1)
    eventually(lambda: any(raw.hlen(key) for key in raw.scan_iter("*:work")))

    running = eventually(
        lambda: (seen := commands.why("Tries", "1"))["details"].get("since") and seen
    )
    retrying, dead = commands.why("Tries", "2"), commands.why("Deaths", "4")
    by_jid = commands.why("--jid", dead["details"]["jid"])

    assert running["reason"] == "running"
    assert running["details"]["process"] in {each.decode() for each in raw.smembers("processes")}
    assert retrying["reason"] == "retrying"
    assert "TypeError: no total" in retrying["text"]
    assert (dead["reason"], by_jid["reason"]) == ("dead", "dead")
    assert "KeyError" in dead["text"]

    commands("pass", "Deaths")
    commands("pass", "Tries")
    waiting, for_nothing = commands.why("Deaths", "4"), commands.why("Tries", "3")

    assert waiting["reason"] == "waiting"
    assert waiting["details"]["failures"] == 1
    assert (for_nothing["reason"], for_nothing["details"]["no_progress"]) == ("waiting", 1)
