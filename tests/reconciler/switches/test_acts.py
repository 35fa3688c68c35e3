from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from qik_core.embedded import Embedded
from qik_core.passes import Passes
from qik_core.store import Store
from qik_core.switches import Condition, Field, Operator, Snapshot
from reconciler import audit
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.fitting import UnfitSwitch
from reconciler.switches.publishing import NotPublished
from reconciler.switches.settling import By, adopt, settle
from reconciler.switches.table import Table
from tests.reconciler.switches.boards import BY, FLAG, provider_says

AGAIN = By("bo@host", "mended")
ORDER = Order(flag="disable_work", by=BY)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Statements are tested on each database where they are; here it is what they come to."""
    return sqlite_url


@pytest.fixture
def nowhere(tmp_path: Any) -> Engine:
    """A database that does not answer."""
    return create_engine(f"sqlite:///{tmp_path}/gone/x.db")


def fresh(redis_url: str) -> Snapshot:
    """Return what a process that starts now goes by."""
    return Passes(Store(redis_url)).switches()


def audited(home: Engine) -> list[tuple[str, str, str]]:
    return [(each.action, each.who, each.reason) for each in audit.read(home, 0.0)]


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


def many(size: int) -> tuple[Condition, ...]:
    """Return a condition of about so many bytes."""
    tenants = tuple(f"{number:07d}" for number in range(size // 10))
    return (Condition(Field.TENANT, Operator.IN, tenants),)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (replace(ORDER, flag="disable_" + "x" * 200), "no name of a switch"),
        (replace(ORDER, by=By("ana", "\udce9")), "half a character"),
        (replace(ORDER, by=By("ana", "x" * 20_000)), "at most 16,000"),
        (replace(ORDER, expires_in=1e300), "1970 to 9999"),
        (replace(ORDER, where=many(1_100_000)), "more than 1,000,000: name fewer"),
        (replace(ORDER, where=many(900_000)), "the largest is disable_work"),
    ],
)
def test_what_could_not_be_kept_or_published_is_refused_before_anything_is_written(
    switcher: Switcher, home: Engine, raw: Any, nowhere: Engine, order: Order, said: str
) -> None:
    table = Table(home)
    switcher.disable(replace(ORDER, flag="disable_wide", where=many(200_000)))
    before = audited(home), table.read().said, raw.get("qik:switches")

    for each in (switcher, Switcher(home, None), Switcher(nowhere, switcher.seam)):
        done = each.disable(order)
        assert (done.in_sql, done.version) == (False, None)
        assert isinstance(done.errors[-1], UnfitSwitch)
        assert said in str(done.errors[-1])

    assert before == (audited(home), table.read().said, raw.get("qik:switches"))
    assert switcher.disable(ORDER).version is not None
    assert switcher.enable("disable_wide", By("ana", "\ud800")).version is None
    assert switcher.enable("disable_wide", BY).version is not None


def test_a_redis_that_keeps_another_word_has_not_taken_this_one_and_that_is_said(
    home: Engine, seam: Passes, redis_url: str
) -> None:
    class Outrun(Passes):
        def publish(self, snapshot: Snapshot) -> int:
            seam.publish(Snapshot(snapshot.version + 5_000, {}))
            return super().publish(snapshot)

    done = Switcher(home, Outrun(seam._store)).disable(ORDER)

    assert (done.in_sql, done.version) == (True, None)
    assert isinstance(done.errors[0], NotPublished)
    assert "disable_work" not in fresh(redis_url).rules
