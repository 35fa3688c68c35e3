from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from qik_core.embedded import Embedded
from qik_core.passes import Passes
from qik_core.store import Store
from qik_core.switches import Condition, Field, Operator, Rule, Snapshot
from reconciler import audit
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.settling import By, adopt, copy, forget, settle
from reconciler.switches.table import NOW, Health, Said, Table, Writer

BY = By("ana@host", "double charging")
AGAIN = By("bo@host", "mended")
ORDER = Order(flag="disable_work", by=BY)
FLAG = Rule(source="unleash", reason="rollout")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Statements are tested on each database where they are; here it is what they come to."""
    return sqlite_url


@pytest.fixture
def table(home: Engine) -> Table:
    return Table(home)


@pytest.fixture
def switcher(home: Engine, seam: Passes) -> Switcher:
    return Switcher(home, seam)


@pytest.fixture
def nowhere(tmp_path: Any) -> Engine:
    """A database that does not answer."""
    return create_engine(f"sqlite:///{tmp_path}/gone/x.db")


def fresh(redis_url: str) -> Snapshot:
    """Return what a process that starts now goes by."""
    return Passes(Store(redis_url)).switches()


def audited(home: Engine) -> list[tuple[str, str, str]]:
    return [(each.action, each.who, each.reason) for each in audit.read(home, 0.0)]


def provider_says(table: Table, **flags: Rule) -> None:
    """Let a process of reconcilers have copied what a flag service says."""
    rules = {flag: (rule,) for flag, rule in flags.items()}

    def write(writer: Any) -> None:
        copy(writer, "unleash", rules)
        writer.note("unleash", Health("", writer.before.now))
        settle(writer, {})

    table.change(write)


def test_what_is_disabled_is_in_sql_in_the_audit_and_in_redis_at_once(
    switcher: Switcher, table: Table, home: Engine, redis_url: str
) -> None:
    done = switcher.disable(
        replace(
            ORDER,
            percent=90.0,
            expires_in=7_200,
            where=(Condition(Field.TENANT, Operator.IN, ("a",)),),
        )
    )

    (rule,) = table.read().of("sql")["disable_work"]
    assert (rule.percent, rule.who, rule.reason) == (90.0, "ana@host", "double charging")
    assert rule.expires_at == pytest.approx(time.time() + 7_200, abs=60)
    assert (done.in_sql, done.now, done.before, done.errors) == (True, (rule,), (), [])
    assert audited(home) == [("disabled", "ana@host", "double charging")]
    published = fresh(redis_url)
    assert published.rules["disable_work"] == (rule,)
    assert (published.version, published.known) == (done.version, True)


def test_what_is_enabled_is_gone_and_the_audit_says_how_many_it_stopped(
    switcher: Switcher, table: Table, home: Engine, raw: Any, redis_url: str
) -> None:
    raw.hset("qik:switched", "disable_work", 100)
    switcher.disable(ORDER)
    raw.hset("qik:switched", "disable_work", 142)

    done = switcher.enable("disable_work", AGAIN)

    assert (done.now, done.before[0].who) == ((), "ana@host")
    assert table.read().said == {}
    assert fresh(redis_url).rules == {}
    off = audit.read(home, 0.0)[-1]
    assert (off.action, off.who, off.reason) == ("enabled", "bo@host", "mended")
    assert off.details["dropped"] == 42
    assert off.details["on_for"] >= 0
    assert off.details["before"][0]["reason"] == "double charging"


def test_a_second_word_replaces_the_first_and_counts_on(
    switcher: Switcher, home: Engine, raw: Any
) -> None:
    switcher.disable(ORDER)
    raw.hset("qik:switched", "disable_work", 7)

    done = switcher.disable(replace(ORDER, by=AGAIN, percent=50.0))
    switcher.enable("disable_work", BY)

    assert (done.before[0].percent, done.now[0].percent) == (100.0, 50.0)
    assert [each[0] for each in audited(home)] == ["disabled", "disabled", "enabled"]
    assert audit.read(home, 0.0)[-1].details["dropped"] == 7


def test_to_enable_what_a_provider_has_off_passes_it_over_until_that_is_taken_back(
    switcher: Switcher, table: Table, home: Engine, redis_url: str
) -> None:
    provider_says(table, disable_work=FLAG)

    done = switcher.enable("disable_work", AGAIN, expires_in=60)

    assert (done.before[0].source, done.now[0].percent) == ("unleash", 0.0)
    (over,) = fresh(redis_url).rules["disable_work"]
    assert (over.source, over.percent) == ("sql", 0.0)
    assert over.expires_at is not None
    assert fresh(redis_url).stop("Work", "work", "x", now=time.time()) is None
    assert audited(home) == [
        ("disabled", "unleash", "rollout"),
        ("enabled", "bo@host", "mended"),
    ]

    provider_says(table)
    switcher.enable("disable_work", AGAIN)
    assert table.read().said == {}


def test_to_enable_what_is_not_off_changes_nothing_and_says_nothing(
    switcher: Switcher, table: Table, home: Engine
) -> None:
    done = switcher.enable("disable_work", AGAIN)

    assert (done.before, done.now, table.read().said, audited(home)) == ((), (), {}, [])


def test_what_others_publish_stays_where_no_process_of_reconcilers_has_told_sql_of_it(
    switcher: Switcher, seam: Passes, redis_url: str
) -> None:
    seam.publish(
        Snapshot(5, {"disable_other": (FLAG,)}, known=True, reconciled=frozenset({"Work"}))
    )

    switcher.disable(ORDER)

    published = fresh(redis_url)
    assert sorted(published.rules) == ["disable_other", "disable_work"]
    assert published.reconciled == {"Work"}


def test_without_redis_it_is_written_all_the_same(
    home: Engine, table: Table, redis_server: Embedded, seam: Passes
) -> None:
    redis_server.stop()
    try:
        done = Switcher(home, seam).disable(ORDER)
    finally:
        redis_server.start()

    assert (done.in_sql, done.version, len(done.errors)) == (True, None, 1)
    assert "disable_work" in table.read().of("sql")
    assert audited(home) == [("disabled", "ana@host", "double charging")]


def test_without_sql_it_stands_in_redis_until_somebody_can_write_it_down(
    nowhere: Engine, seam: Passes, table: Table, home: Engine, redis_url: str
) -> None:
    switcher = Switcher(home, seam)
    switcher.disable(replace(ORDER, flag="disable_old"))

    lost = Switcher(nowhere, seam)
    done = lost.disable(ORDER)
    lost.enable("disable_old", AGAIN)

    assert (done.in_sql, done.now[0].source, len(done.errors)) == (False, "redis", 1)
    published = fresh(redis_url)
    assert published.stop("Work", "work", "x", now=time.time()) is not None
    assert published.stop("Old", "work", "x", now=time.time()) is None

    waiting = {flag: rules for flag, rules in published.rules.items() if rules[0].source == "redis"}
    table.change(lambda writer: settle(writer, {}, adopt(writer, waiting)))
    assert list(table.read().of("sql")) == ["disable_work"]
    assert table.read().of("sql")["disable_work"][0].reason == "double charging"
    assert audited(home)[1:] == [
        ("enabled", "bo@host", "mended"),
        ("disabled", "ana@host", "double charging"),
    ]


def test_two_who_publish_at_the_same_moment_end_with_the_newer_word(
    home: Engine, seam: Passes, redis_url: str
) -> None:
    class Racing(Passes):
        def publish(self, snapshot: Snapshot) -> int:
            if not fresh(redis_url).version:
                seam.publish(Snapshot(snapshot.version + 5_000, {}))  # from what it knew before
            return super().publish(snapshot)

    done = Switcher(home, Racing(seam._store)).disable(ORDER)

    assert "disable_work" in fresh(redis_url).rules
    assert fresh(redis_url).version == done.version


# --- settling -----------------------------------------------------------------------------------


def test_each_change_comes_into_the_audit_once_whoever_sees_it(table: Table, home: Engine) -> None:
    for _ in range(3):
        provider_says(table, disable_work=FLAG)
    for _ in range(3):
        provider_says(table)

    assert [each[:2] for each in audited(home)] == [("disabled", "unleash"), ("enabled", "unleash")]


def test_a_switch_that_expires_is_audited_with_what_it_stopped(table: Table, home: Engine) -> None:
    past = replace(FLAG, source="sql", who="ana", expires_at=1.0)

    def was_on(writer: Any) -> None:
        for source in ("sql", NOW):
            writer.put(Said("disable_work", source, (past,), "ana", "", writer.before.now - 9, 5))

    table.change(was_on)

    table.change(lambda writer: settle(writer, {"disable_work": 12}))

    (entry,) = audit.read(home, 0.0)
    assert (entry.action, entry.who, entry.details["dropped"]) == ("expired", "ana", 7)
    assert "it was on because: rollout" in entry.reason
    assert table.read().said == {}


def test_a_provider_that_is_not_asked_any_more_stops_nothing(table: Table, home: Engine) -> None:
    provider_says(table, disable_work=FLAG)

    def gone(writer: Writer) -> None:
        forget(writer, "unleash")
        settle(writer, None)

    table.change(gone)

    assert (table.read().said, table.read().health) == ({}, {})
    assert [each[0] for each in audited(home)] == ["disabled", "enabled"]
    assert audit.read(home, 0.0)[-1].details["dropped"] is None
