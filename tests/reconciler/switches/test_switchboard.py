from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select, update

from qik_core.passes import Passes
from qik_core.store import Store
from qik_core.switches import Rule, Snapshot
from reconciler import audit
from reconciler import registry as reconcilers
from reconciler.errors import SqlUnavailable
from reconciler.switches import switchboard as module
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.provider import Rules
from reconciler.switches.remembered import Remembered
from reconciler.switches.settling import By
from reconciler.switches.switchboard import Switchboard
from reconciler.switches.table import Shelf, Table
from reconciler.tables import switch
from tests.reconciler.shop import Item, items
from tests.waiting import eventually

FLAG = Rule(source="unleash", reason="rollout")
BY = By("ana@host", "double charging")
WORK = {"disable_work": (FLAG,)}


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """The statements are tested on each database where they are."""
    return sqlite_url


class Says:
    """A provider that says what a test lets it say."""

    name = "unleash"

    def __init__(self, rules: Rules | None = None) -> None:
        self.now = rules
        self.problem = ""
        self.changed: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def rules(self) -> Rules | None:
        return self.now

    def health(self) -> str:
        return self.problem

    def close(self) -> None: ...


class Process:
    """One process of reconcilers, whose two threads a test moves by hand."""

    def __init__(self, home: Engine, redis_url: str, name: str = "one", *says: Says) -> None:
        self.says = says
        self.store = Store(redis_url)
        self.board = Switchboard(home, Passes(self.store), says, name)
        for each in says:
            each.start(self.board._hear)
        self.settled()

    def settled(self) -> None:
        """Let each thread have its turn, twice: what one learns the other may have to know."""
        for _ in range(2):
            self.board.keep()
            self.look()

    def look(self) -> None:
        """Let the thread of Redis have its turn, a second after it had its last."""
        self.board._seam._client.gate.board._next = 0.0
        self.board.publish()

    def hears(self, rules: Rules | None) -> None:
        self.says[0].now = rules
        self.says[0].changed()


@pytest.fixture
def process(home: Engine, redis_url: str) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(name: str = "one", *says: Says) -> Process:
        started.append(Process(home, redis_url, name, *says))
        return started[-1]

    yield start
    for each in started:
        each.store.close()


def published(raw: Any) -> Snapshot:
    return Snapshot.parse(raw.get("qik:switches"))


def audited(home: Engine) -> list[tuple[str, str, str]]:
    return [(each.action, each.subject, each.who) for each in audit.read(home, 0.0)]


def test_what_a_provider_says_is_published_kept_in_sql_and_audited_once(
    process: Callable[..., Process], home: Engine, raw: Any
) -> None:
    one = process("one", Says(WORK))
    two = process("two", Says(WORK))
    for each in (one, two, one, two):
        each.settled()

    assert (one.board.leads, two.board.leads) == (True, False)
    (rule,) = published(raw).rules["disable_work"]
    assert (rule.source, rule.reason, rule.since > 0) == ("unleash", "rollout", True)
    assert Table(home).read().of("unleash")["disable_work"] == (rule,)
    assert audited(home) == [("disabled", "disable_work", "unleash")]

    one.hears({})
    one.settled()
    assert published(raw).rules == {}
    assert audited(home)[1:] == [("enabled", "disable_work", "unleash")]


def test_what_is_published_names_the_classes_that_reconcilers_tell(
    process: Callable[..., Process], raw: Any
) -> None:
    with reconcilers.scope():
        items(select(Item.id))
        one = process()
        assert published(raw).reconciled == {"Work"}

    one.settled()
    assert (
        published(raw).reconciled == set()
    )  # its reconciler is gone: what is stopped of it must not be dropped


def test_nothing_new_is_no_new_version(process: Callable[..., Process], raw: Any) -> None:
    one = process("one", Says(WORK))
    version = published(raw).version

    one.settled()

    assert published(raw).version == version


def test_a_redis_that_has_lost_the_switches_has_them_again_at_the_next_look(
    process: Callable[..., Process], raw: Any
) -> None:
    one = process("one", Says(WORK))
    raw.flushall()

    one.board.publish()

    assert "disable_work" in published(raw).rules


def test_garbage_in_redis_is_replaced(process: Callable[..., Process], raw: Any) -> None:
    one = process("one", Says(WORK))
    raw.set("qik:switches", b"<html>")

    one.settled()

    assert "disable_work" in published(raw).rules


def test_another_process_takes_the_lead_of_one_that_is_gone(
    process: Callable[..., Process], home: Engine, raw: Any
) -> None:
    one, two = process("one"), process("two", Says(WORK))
    assert "disable_work" not in published(raw).rules

    with home.begin() as connection:
        connection.execute(update(switch).where(switch.c.name == "#").values(expires_at=1.0))
    two.settled()

    assert two.board.leads
    assert "disable_work" in published(raw).rules
    one.settled()
    assert not one.board.leads

    two.board.release()
    one.settled()
    assert one.board.leads


def test_a_provider_that_was_never_known_leaves_what_is_unknown_to_each_class(
    process: Callable[..., Process], raw: Any
) -> None:
    one = process("one", Says(None))
    assert not published(raw).known

    one.hears({})
    one.settled()

    assert published(raw).known


def test_a_provider_that_does_not_answer_after_a_restart_is_known_from_sql(
    process: Callable[..., Process], home: Engine, raw: Any
) -> None:
    one = process("one", Says(WORK))
    one.board.release()
    raw.flushall()

    mute = Says(None)
    mute.problem = "no answer"
    process("two", mute)

    assert published(raw).known
    assert "disable_work" in published(raw).rules
    health = Table(home).read().health["unleash"]
    assert (health.problem, health.known) == ("no answer", True)
    assert len(audited(home)) == 1


def test_a_provider_that_nobody_asks_any_more_is_forgotten(
    process: Callable[..., Process], home: Engine, raw: Any
) -> None:
    process("one", Says(WORK)).board.release()

    process("two")

    assert published(raw).rules == {}
    assert Table(home).read().health == {}


def test_what_was_said_by_hand_is_published_wherever_it_was_said(
    process: Callable[..., Process], home: Engine, seam: Passes, raw: Any
) -> None:
    one = process("one", Says(WORK))
    Switcher(home, None).enable("disable_work", BY)
    Switcher(home, None).disable(Order(flag="disable_mail", by=BY))

    one.settled()

    assert published(raw).rules["disable_work"][0].percent == 0
    assert published(raw).rules["disable_mail"][0].who == "ana@host"


def test_what_was_said_by_hand_is_not_corrected_by_one_who_has_not_read_it_in_sql_yet(
    process: Callable[..., Process], home: Engine, seam: Passes, raw: Any
) -> None:
    one = process("one", Says({}))
    done = Switcher(home, seam).disable(Order(flag="disable_work", by=BY))

    for _ in range(3):
        one.look()
        assert published(raw).version == done.version

    one.board.keep()
    one.look()
    assert published(raw).version == done.version
    assert "disable_work" in published(raw).rules


def test_a_time_that_is_over_ends_a_switch_and_is_audited(
    process: Callable[..., Process], home: Engine, raw: Any
) -> None:
    one = process()
    raw.hset("qik:switched", "disable_work", 5)
    Switcher(home, None).disable(Order(flag="disable_work", by=BY, expires_in=0.5))
    one.settled()
    raw.hset("qik:switched", "disable_work", 25)

    def gone() -> bool:
        one.settled()
        return published(raw).rules == {}

    eventually(gone, every=0.1)
    one.settled()
    assert audited(home)[-1] == ("expired", "disable_work", "ana@host")
    assert audit.read(home, 0.0)[-1].details["dropped"] == 25
    assert Table(home).read().said == {}


class Away(Table):
    """A home database that does not answer."""

    def read(self) -> Shelf:
        raise SqlUnavailable("away")


def without_sql(one: Process, home: Engine) -> None:
    one.board._table = Away(home)
    one.board._read = one.board._lead_until = float("-inf")  # for so long that nobody leads


def test_while_sql_does_not_answer_news_are_published_and_what_people_said_stays(
    process: Callable[..., Process], home: Engine, raw: Any
) -> None:
    one, two = process("one", Says({})), process("two", Says({}))
    Switcher(home, None).disable(Order(flag="disable_mail", by=BY))
    for each in (one, two):
        each.settled()
        without_sql(each, home)
    version = published(raw).version

    for each in (one, two):
        each.board.publish()
    assert published(raw).version == version

    two.hears(WORK)
    two.board.publish()
    assert sorted(published(raw).rules) == ["disable_mail", "disable_work"]

    one.look()
    assert sorted(published(raw).rules) == ["disable_mail", "disable_work"]

    raw.flushall()
    one.board.publish()
    assert sorted(published(raw).rules) == ["disable_mail", "disable_work"]


def test_a_process_that_does_not_lead_corrects_nothing_that_is_published(
    process: Callable[..., Process], raw: Any
) -> None:
    process("one", Says(WORK))
    two = process("two", Says(WORK))
    version = published(raw).version

    two.hears({})
    two.settled()

    assert published(raw).version == version


def test_what_people_say_is_not_taken_from_an_old_memory_while_redis_knows_better(
    home: Engine, redis_url: str, seam: Passes, raw: Any
) -> None:
    hand = Rule(source="sql", who="ana")
    seam.publish(Snapshot(int(time.time() * 1000), {"disable_mail": (hand,)}))
    old = Remembered()
    old.known = {"sql": {"disable_old": (hand,)}, "unleash": {}}
    says, store = Says({}), Store(redis_url)
    board = Switchboard(home, Passes(store), [says], "one", remembered=old)
    board._table = Away(home)
    board.start()
    try:
        says.now = WORK
        says.changed()

        eventually(lambda: "disable_work" in published(raw).rules)
        assert sorted(published(raw).rules) == ["disable_mail", "disable_work"]
    finally:
        board.stop(5)
        store.close()


def test_what_was_said_while_sql_did_not_answer_is_written_down_by_who_leads(
    process: Callable[..., Process], home: Engine, raw: Any, seam: Passes, tmp_path: Path
) -> None:
    one = process()
    gone = create_engine(f"sqlite:///{tmp_path}/gone/x.db")
    Switcher(gone, seam).disable(Order(flag="disable_work", by=BY))
    assert published(raw).rules["disable_work"][0].source == "redis"

    one.settled()
    one.settled()

    assert published(raw).rules["disable_work"][0].source == "sql"
    assert Table(home).read().of("sql")["disable_work"][0].who == "ana@host"
    assert audited(home) == [("disabled", "disable_work", "ana@host")]


def test_a_redis_that_does_not_answer_holds_up_nothing_in_sql(
    process: Callable[..., Process], home: Engine, redis_server: Any
) -> None:
    one = process("one", Says({}))
    redis_server.stop()
    try:
        one.hears(WORK)
        one.board.keep()
    finally:
        redis_server.start()

    assert audited(home) == [("disabled", "disable_work", "unleash")]


def test_a_rule_of_a_provider_keeps_the_moment_since_when_it_holds(
    process: Callable[..., Process], raw: Any
) -> None:
    one = process("one", Says(WORK))
    since = published(raw).rules["disable_work"][0].since

    one.hears({**WORK, "disable_mail": (replace(FLAG, percent=5.0),)})
    one.settled()

    assert published(raw).rules["disable_work"][0].since == since
    assert abs(published(raw).rules["disable_mail"][0].since - time.time()) < 60
    assert module.EVERY == 1.0
