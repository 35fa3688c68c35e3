"""A class is switched off by hand, and let run again slowly: real workers, a real `reconciler run`, the commands as typed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, func, select

from qik_core import registry
from qik_core.board import EVERY
from qik_core.client import Client
from qik_core.results import Refused
from qik_core.store import Store
from reconciler import audit
from reconciler.engines import Engines
from reconciler.status import Last, standings
from reconciler.tables import passes
from tests import forks
from tests.integration.shop import NOTES, Shop, drained
from tests.reconciler import tables
from tests.reconciler.shop import Item, fill
from tests.reconciler.whys import utc
from tests.waiting import eventually

APP = (
    NOTES
    + """
from sqlalchemy import create_engine, select, update
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

engine = create_engine(os.environ["DATABASE_URL"])

class Charge(Job, queue="default", unique_for=600):
    def perform(self, item_id: int) -> None:
        note("charge", item_id)
        if not (HERE / "go").exists():
            time.sleep(0.1)
        with engine.begin() as connection:
            connection.execute(update(Item).where(Item.id == item_id).values(state="done"))

class Items(Reconciler, every=0.5, min_age=0):
    pending = derive(Charge, select(Item.id).where(Item.state == "pending"), age=Item.since)
"""
)

SMALLEST = 250
"""Bytes that a job takes in Redis: edges that are kept there would show."""
RUBY = (
    b'{"class":"Charge","args":[%d],"jid":"%024x","queue":"default","retry":true,"enqueued_at":1.5}'
)
"""A job that no client of ours has refused."""


@pytest.fixture
def home(shop: Shop, sqlite_url: str) -> Iterator[Engine]:
    shop.environment["DATABASE_URL"] = sqlite_url
    engines = Engines({"default": sqlite_url})
    tables.make(engines.home())
    yield engines.home()
    engines.dispose()


@pytest.fixture
def reconciling(shop: Shop, home: Engine) -> Iterator[None]:
    command = [sys.executable, "-m", "reconciler.cli", "run", "shop"]
    with (shop.folder / "run.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=shop.folder, env=shop.environment, stderr=log)
    yield
    process.terminate()
    assert process.wait(30) == 0


def typed(shop: Shop, *words: str) -> dict[str, Any]:
    """Type a command of `reconciler`; returns what it printed as JSON."""
    env = {**shop.environment, "QIK_APP": "shop"}
    done = forks.run(forks.RECONCILER, [*words, "--json"], cwd=shop.folder, env=env)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def dropped(shop: Shop) -> int:
    """Return how many jobs the one switch has dropped or refused, as people are told."""
    return int(typed(shop, "switches")["switches"][0]["dropped"])


def last(home: Engine) -> Last:
    (standing,) = standings(home)
    assert standing.last is not None
    return standing.last


class Edges:
    """An application that goes on pushing, fifty times a second."""

    def __init__(self, url: str, keys: range) -> None:
        self.answers: list[Any] = []
        self._ending = threading.Event()
        self._client = Client(Store(url))
        self._keys = keys
        self._thread = threading.Thread(target=self._push)
        self._thread.start()

    def _push(self) -> None:
        for key in self._keys:
            self.answers.append(self._client.push("Charge", [key]))
            if self._ending.wait(0.02):
                break

    def end(self) -> list[Any]:
        self._ending.set()
        self._thread.join(30)
        self._client.store.close()
        return self.answers


@pytest.mark.parametrize("rows", [600, pytest.param(5_000, marks=pytest.mark.slow)])
def test_a_class_is_switched_off_and_let_run_again_and_every_row_is_done_once(
    shop: Shop, home: Engine, reconciling: None, raw: redis.Redis, redis_url: str, rows: int
) -> None:
    """U5: no start later than refresh + 1 s; edges are refused; Redis does not grow; 10 % ± 2 % of keys, the same ones."""
    fill(home, range(1, rows + 1), since=utc(minutes=10))
    eventually(lambda: raw.llen("queue:default") == rows, 60)
    shop.work("-c", "2")
    eventually(lambda: len(shop.runs("charge")) > 5, 60)

    off = typed(shop, "disable", "Charge", "--reason", "double charging", "--wait", "60")
    published = off["version"] / 1000 - time.time() + time.monotonic()
    assert (off["processes"], off["seen"], off["told_again"]) == (1, 1, {"Charge": ["Items"]})
    nothing_starts(shop, home, raw, redis_url, rows)
    assert max(at for _, _, at in shop.notes("charge")) < published + EVERY + 1
    done = set(shop.runs("charge"))
    left = rows - len(done)
    eventually(lambda: last(home).codes == {"refused": left}, 30)
    assert last(home).details["pending"] == left
    assert dropped(shop) >= left  # what was queued, and the edges

    shop.go()
    typed(shop, "disable", "Charge", "--reason", "10 % again", "--percent", "90", "--wait", "60")
    tenth = a_share_runs(shop, home, rows, done)
    assert abs(len(tenth) / left - 0.1) < (0.02 if rows > 1_000 else 0.04)
    typed(shop, "disable", "Charge", "--reason", "off", "--wait", "60")
    typed(shop, "disable", "Charge", "--reason", "10 % once more", "--percent", "90")
    no_more_run(shop, home)
    assert set(shop.runs("charge")) == done | tenth, "the same keys each time"

    typed(shop, "enable", "Charge", "--reason", "mended", "--wait", "60")
    eventually(lambda: len(shop.runs("charge")) == rows, 120)
    eventually(lambda: pending(home) == 0, 30)
    assert set(shop.runs("charge").values()) == {1}
    acts = [(each.action, each.reason) for each in audit.read(home, 0.0, subject="disable_charge")]
    assert acts == [
        ("disabled", "double charging"),
        ("disabled", "10 % again"),
        ("disabled", "off"),
        ("disabled", "10 % once more"),
        ("enabled", "mended"),
    ]


def nothing_starts(shop: Shop, home: Engine, raw: redis.Redis, url: str, rows: int) -> None:
    """Push on, until what was queued is gone and the oldest row has visibly grown older."""
    with registry.scope(empty=True):
        edges = Edges(url, range(1, 10 * rows))
        eventually(lambda: raw.llen("queue:default") == 0, 60)
        eventually(lambda: last(home).outcome == "gated", 30)
        first, size = last(home), dataset(raw)
        before = len(edges.answers)
        eventually(lambda: oldest(last(home)) > oldest(first), 30)
        eventually(lambda: len(edges.answers) >= before + 300, 60)
        assert dataset(raw) < size + 300 * SMALLEST
        assert not [*raw.keys("queue:*"), *raw.keys("qik:held*")]
        answers = edges.end()
    assert first.reason.startswith("switched off by disable_charge (sql): double charging")
    assert set(answers) == {Refused("switch disable_charge", "double charging")}


def dataset(raw: redis.Redis) -> int:
    """Return the bytes that keys and values take, without what connections do."""
    return int(raw.info("memory")["used_memory_dataset"])


def a_share_runs(shop: Shop, home: Engine, rows: int, before: set[int]) -> set[int]:
    """Wait until all those have run that the switch lets go, and see that no other pass lets go of more."""
    eventually(lambda: set(shop.runs("charge")) > before, 60)
    eventually(lambda: last(home).codes == {"refused": rows - len(shop.runs("charge"))}, 60)
    return no_more_run(shop, home) - before


def no_more_run(shop: Shop, home: Engine) -> set[int]:
    """See that two more passes let nothing go; returns what has run."""
    now, ended = set(shop.runs("charge")), newest(home)
    eventually(lambda: newest(home) > ended + 2, 30)
    assert set(shop.runs("charge")) == now
    return now


def oldest(passed: Last) -> float:
    return float(passed.details["oldest_pending_age"] or 0)


def newest(home: Engine) -> int:
    with home.connect() as connection:
        return int(connection.execute(select(func.max(passes.c.id))).scalar_one())


def pending(home: Engine) -> int:
    with home.connect() as connection:
        waiting = select(func.count()).select_from(Item).where(Item.state == "pending")
        return int(connection.execute(waiting).scalar_one())


def test_a_switch_by_hand_reaches_a_worker_that_lost_redis_meanwhile(
    shop: Shop, home: Engine, reconciling: None, raw: redis.Redis
) -> None:
    fill(home, range(1, 6), since=utc(minutes=10))
    eventually(lambda: raw.llen("queue:default") == 5, 60)
    typed(shop, "disable", "Charge", "--reason", "why not", "--wait", "0")
    raw.flushall()

    shop.work()

    eventually(lambda: last(home).outcome == "gated", 30)
    eventually(lambda: raw.exists("qik:switches"), 30)
    eventually(drained(raw), 30)  # what was told before anybody knew the switch again
    before = dropped(shop)
    raw.lpush("queue:default", *(RUBY % (n, n) for n in range(1, 6)))
    eventually(lambda: not raw.llen("queue:default"), 30, "the worker drops what it fetches")
    eventually(drained(raw), 30)
    assert not shop.runs("charge")
    assert dropped(shop) == before + 5
