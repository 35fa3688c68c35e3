"""Kill switches and a real worker: what starts, what is dropped, what is held and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis

from qik_core import registry, settings
from qik_core.client import Client
from qik_core.passes import Passes
from qik_core.results import Enqueued, Refused
from qik_core.settings import Settings
from qik_core.store import Store
from qik_core.switches import Rule, Snapshot
from tests.integration.shop import NOTES, Shop
from tests.probing import free_port, get, samples
from tests.waiting import eventually

APP = (
    NOTES
    + """
class Charge(Job, unique_for=600):
    def perform(self, n: int) -> None:
        note("charge", n)
        time.sleep(0.02)

class Mail(Job, unique_for=600):
    def perform(self, n: int) -> None:
        note("mail", n)
        time.sleep(0.02)

class Long(Job, unique_for=600):
    def perform(self, n: int) -> None:
        note("long", n)
        while not (HERE / "go").exists():
            self.context.checkpoint()
            time.sleep(0.01)
        note("ended", n)
"""
)
WHY = Rule(source="sql", reason="double charging")
TOLD = frozenset({"Charge"})


@pytest.fixture
def passes(redis_url: str) -> Iterator[Passes]:
    settings.use(Settings(redis=redis_url))
    store = Store(redis_url, birth_ms=0)
    yield Passes(store)
    store.close()
    settings.use(None)


def switch(passes: Passes, *flags: str, rule: Rule = WHY) -> int:
    """Publish these switches, and no others; returns their version."""
    rules = dict.fromkeys(flags, (rule,))
    return passes.publish(Snapshot(int(time.time() * 1000), rules, reconciled=TOLD))


def seen(passes: Passes, version: int) -> Callable[[], bool]:
    def look() -> bool:
        versions = passes.switches_seen().values()
        return bool(versions) and all(each == version for each in versions)

    return look


def ran(shop: Shop, event: str) -> list[int]:
    """Return the numbers that ran, in their order."""
    return [n for n, _, _ in sorted(shop.notes(event), key=lambda each: each[2])]


def listening(shop: Shop) -> int:
    """Let the worker answer on a port; returns it."""
    port = free_port()
    shop.environment["QIK_METRICS_PORT"] = str(port)
    return port


def stopped(port: int) -> tuple[float, float]:
    """Return how many charges a worker says that it dropped, and how many mails that it held."""
    seen = samples(get(port, "/metrics").body)
    charge, mail = (
        'qik_jobs_total{class="Charge",end="off"}',
        'qik_jobs_total{class="Mail",end="held"}',
    )
    return seen[charge], seen[mail]


def push_meanwhile(url: str) -> None:
    """Push 200 charges, which are refused, and 20 mails, which are held."""
    with registry.scope(empty=True):
        client = Client(Store(url, birth_ms=0))
        charges = [client.push("Charge", [n]) for n in range(5_000, 5_200)]
        mails = [client.push("Mail", [n]) for n in range(100, 120)]
        client.gate.board.flush()
        client.store.close()
    assert set(charges) == {Refused("switch disable_charge", WHY.reason)}
    assert all(isinstance(each, Enqueued) for each in mails)


def test_a_switch_stops_at_once_what_is_queued_and_what_comes_and_gives_back_what_it_held(
    shop: Shop, raw: redis.Redis, redis_url: str, passes: Passes
) -> None:
    shop.push("Mail", *range(100))
    shop.push("Charge", *range(3_000))
    port = listening(shop)
    shop.work("-c", "1")
    eventually(lambda: shop.notes("mail"))
    version = switch(passes, "disable_charge", "disable_mail")
    published = time.monotonic()
    eventually(seen(passes, version), 30)
    full = raw.info("memory")["used_memory"]
    known = time.monotonic()

    push_meanwhile(redis_url)
    eventually(lambda: raw.llen("queue:default") == 0, 60)
    eventually(lambda: passes.switched_off().get("disable_charge") == 3_200, 30)
    held = 120 - len(ran(shop, "mail"))
    eventually(lambda: [(each.name, each.jobs) for each in passes.held()] == [("Mail", held)], 30)
    assert stopped(port) == (3_000, held - 20)  # the others were refused, or held, by their push

    starts = [at for event in ("mail", "charge") for _, _, at in shop.notes(event)]
    assert max(starts) < known + 1
    assert known - published < 20  # a beat; what the worker itself needs is below a second
    assert ran(shop, "charge") == []
    assert raw.info("memory")["used_memory"] < full * 1.05

    switch(passes)
    eventually(lambda: len(ran(shop, "mail")) == 120, 60)
    order = ran(shop, "mail")
    assert sorted(order) == list(range(120))
    # Some were fetched, and not started, when the switch was seen: those may change places with their neighbours.
    assert all(abs(place - n) <= 5 for place, n in enumerate(order)), f"{order}"
    assert order[50:] == list(range(50, 120))
    eventually(lambda: passes.held() == [], 10)


def test_a_switch_that_says_so_stops_what_runs_and_its_job_is_held_not_lost(
    shop: Shop, passes: Passes
) -> None:
    shop.push("Long", 1)
    shop.work("-c", "1")
    eventually(lambda: shop.notes("long"))
    version = switch(passes, "disable_long")
    eventually(seen(passes, version), 30)
    eventually(lambda: [each.name for each in passes.running("disable_long")] == ["Long"], 30)
    assert passes.running("disable_mail") == []

    switch(passes, "disable_long", rule=replace(WHY, cancel=True))
    eventually(lambda: [each.jobs for each in passes.held()] == [1], 30)
    assert not shop.notes("ended")
    shop.go()
    switch(passes)
    eventually(lambda: ran(shop, "ended") == [1], 30)


def test_a_worker_that_starts_while_a_switch_is_on_starts_nothing_of_it(
    shop: Shop, passes: Passes
) -> None:
    shop.push("Charge", *range(50))
    shop.push("Mail", 1)
    switch(passes, "disable_charge")
    shop.work()
    eventually(lambda: ran(shop, "mail") == [1], 30)
    eventually(lambda: passes.switched_off().get("disable_charge") == 50, 30)
    assert ran(shop, "charge") == []
