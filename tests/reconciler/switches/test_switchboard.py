from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from qik_core.passes import Passes
from qik_core.switches import Condition, Field, Operator, Snapshot
from reconciler import audit
from reconciler import registry as reconcilers
from reconciler.switches import switchboard as module
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.publishing import NotPublished, following
from reconciler.switches.table import Table
from reconciler.tables import switch
from tests.reconciler.shop import Item, items
from tests.reconciler.switches.boards import BY, FLAG, WORK, Process, Says, audited, published
from tests.waiting import eventually


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """The statements are tested on each database where they are."""
    return sqlite_url


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


def test_a_provider_that_was_added_and_never_answered_holds_up_nothing_that_people_say(
    seam: Passes, raw: Any
) -> None:
    before = Snapshot(int(time.time() * 1000), {})
    seam.publish(before)

    new, _ = following(before, {"sql": WORK}, time.time(), complete=False, reconciled=())

    assert new is not None
    assert seam.publish(new) == new.version
    assert "disable_work" in published(raw).rules


def test_rules_that_do_not_fit_hold_up_no_others_and_are_named(
    process: Callable[..., Process], home: Engine, raw: Any
) -> None:
    one = process("one", Says(WORK))
    many = tuple(f"{number:07d}" for number in range(60_000))
    wide = (replace(FLAG, where=(Condition(Field.TENANT, Operator.IN, many),)),)

    one.hears({**WORK, "disable_a": wide, "disable_b": wide, "disable_mail": (FLAG,)})
    one.settled()

    assert sorted(published(raw).rules) == ["disable_b", "disable_mail", "disable_work"]
    one.settled()
    assert "disable_a is not followed" in Table(home).read().health["unleash"].problem

    Switcher(home, None).disable(Order(flag="disable_hand", by=BY))
    one.hears({"disable_a": wide, "disable_mail": (FLAG,)})
    one.settled()
    one.settled()
    assert sorted(published(raw).rules) == ["disable_a", "disable_hand", "disable_mail"]
    assert Table(home).read().health["unleash"].problem == ""


def test_news_that_redis_refuses_for_a_newer_word_are_published_after_it(
    process: Callable[..., Process], seam: Passes, raw: Any
) -> None:
    one = process("one", Says({}))
    one.hears(WORK)
    one.board.keep()
    seam.publish(Snapshot(published(raw).version + 600_000, {}))

    with pytest.raises(NotPublished, match="Redis kept its switches"):
        one.board.publish()

    one.look()
    one.settled()
    assert "disable_work" in published(raw).rules
