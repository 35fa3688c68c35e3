"""What the table comes to: words of Redis written down, changes audited once."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from qik_core.switches import Rule
from reconciler import audit
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.settling import By, adopt, forget, settle
from reconciler.switches.table import NOW, Said, Table, Writer
from tests.reconciler.switches.boards import BY, FLAG, audited, provider_says

AGAIN = By("bo@host", "mended")
ORDER = Order(flag="disable_work", by=BY)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Statements are tested on each database where they are; here it is what they come to."""
    return sqlite_url


def waits(table: Table, percent: float = 100.0) -> Rule:
    """Return a rule that stands in Redis alone, said a minute ago."""
    ago = table.read().now - 60
    return Rule(percent=percent, source="redis", who="cy", reason="old", since=ago)


def adopted(table: Table, rule: Rule) -> dict[str, tuple[Rule, ...]]:
    """Let what waits in Redis be written down; returns what SQL says then."""
    table.change(lambda writer: settle(writer, {}, adopt(writer, {"disable_work": (rule,)})))
    return table.read().of("sql")


@pytest.mark.parametrize("percent", [0.0, 100.0])
def test_an_old_word_of_redis_takes_nothing_back_that_was_said_in_sql_since(
    switcher: Switcher, table: Table, home: Engine, percent: float
) -> None:
    switcher.disable(ORDER)
    before = audited(home), table.read().said

    adopted(table, waits(table, percent))
    assert before == (audited(home), table.read().said)

    switcher.enable("disable_work", AGAIN)
    assert adopted(table, waits(table, percent)) == {}
    assert len(audited(home)) == 2


def test_a_word_of_redis_is_written_down_once_and_not_again_from_an_old_dump(
    switcher: Switcher, table: Table
) -> None:
    word = waits(table)
    assert adopted(table, word)["disable_work"][0].who == "cy"

    switcher.enable("disable_work", AGAIN)

    assert adopted(table, word) == {}


def test_a_word_that_is_passed_over_is_logged_with_who_said_it(
    switcher: Switcher, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    switcher.disable(ORDER)
    with caplog.at_level(logging.WARNING, "reconciler"):
        adopted(table, waits(table))
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert [getattr(line, name) for name in ("switch", "who", "reason")] == [
        *("disable_work", "cy", "old"),
    ]


def test_a_word_that_sql_has_already_is_not_logged_as_passed_over(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    word = waits(table)
    before = adopted(table, word)
    with caplog.at_level(logging.WARNING, "reconciler"):
        assert adopted(table, word) == before
    assert caplog.records == []


def test_a_clock_that_is_some_seconds_behind_that_of_sql_takes_no_word_away(
    switcher: Switcher, table: Table
) -> None:
    switcher.disable(ORDER)
    behind = replace(waits(table), since=table.read().now - 2)

    assert adopted(table, behind)["disable_work"][0].who == "cy"


def test_what_sql_says_to_the_contrary_is_not_taken_back_within_these_seconds(
    switcher: Switcher, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    switcher.disable(ORDER)
    off = replace(waits(table, 0.0), since=table.read().now - 2)
    assert adopted(table, off)["disable_work"][0].who == "ana@host"

    switcher.enable("disable_work", AGAIN)
    assert adopted(table, replace(off, percent=100.0)) == {}
    assert [line.levelno for line in caplog.records] == [logging.WARNING] * 2


def test_a_switch_of_others_that_was_passed_over_by_hand_stays_so_within_these_seconds(
    switcher: Switcher, table: Table
) -> None:
    provider_says(table, disable_work=FLAG)
    switcher.enable("disable_work", AGAIN)
    behind = replace(waits(table), since=table.read().now - 2)

    assert adopted(table, behind)["disable_work"][0].percent == 0.0


def test_a_word_that_was_written_down_and_taken_back_within_these_seconds_stays_taken_back(
    switcher: Switcher, table: Table
) -> None:
    word = replace(waits(table), since=table.read().now)
    assert adopted(table, word)["disable_work"][0].who == "cy"

    switcher.enable("disable_work", AGAIN)

    assert adopted(table, word) == {}


def test_a_word_that_was_written_down_and_replaced_within_these_seconds_does_not_come_back(
    switcher: Switcher, table: Table
) -> None:
    word = replace(waits(table), since=table.read().now)
    assert adopted(table, word)["disable_work"][0].who == "cy"

    switcher.disable(ORDER)

    assert adopted(table, word)["disable_work"][0].who == "ana@host"


def test_what_a_provider_said_since_and_a_time_that_was_over_since_take_no_word_of_redis_back(
    table: Table, home: Engine
) -> None:
    word = waits(table)
    provider_says(table, disable_work=FLAG)
    provider_says(table)
    past = replace(FLAG, source="sql", who="ana", expires_at=table.read().now - 30)

    def was_on(writer: Any) -> None:
        for source in ("sql", NOW):
            writer.put(Said("disable_work", source, (past,), "ana", "", word.since - 60))
        settle(writer, {})

    table.change(was_on)
    assert [each[0] for each in audited(home)] == ["disabled", "enabled", "expired"]

    assert adopted(table, word)["disable_work"][0].who == "cy"


def test_each_change_comes_into_the_audit_once_whoever_sees_it(table: Table, home: Engine) -> None:
    for _ in range(3):
        provider_says(table, disable_work=FLAG)
    for _ in range(3):
        provider_says(table)

    assert [each[::2] for each in audited(home)] == [
        ("disabled", "unleash"),
        ("enabled", "unleash"),
    ]


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
