from __future__ import annotations

import json
import threading
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import Engine, select, update

from qik_core.switches import Condition, Field, Operator, Rule
from reconciler.switches.rules import plain
from reconciler.switches.settling import settle
from reconciler.switches.table import Health, Said, Table, Writer
from reconciler.tables import switch
from tests.waiting import eventually

RULE = Rule(
    source="sql",
    who="ana",
    reason="why",
    percent=90.0,
    expires_at=2e9,
    where=(Condition(Field.TENANT, Operator.IN, ("a", "é")),),
)
SAID = Said(flag="disable_x", source="sql", rules=(RULE,), who="ana", reason="why", at=7.0)
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def table(home: Engine) -> Table:
    return Table(home)


def test_what_was_said_is_read_by_flag_and_source_until_it_is_dropped(table: Table) -> None:
    other = replace(SAID, source="unleash", rules=(Rule(source="unleash"),), counted=5)

    def say(writer: Writer) -> None:
        writer.put(SAID)
        writer.put(other)
        writer.put(replace(SAID, rules=()))
        writer.put(SAID)

    table.change(say)

    shelf = table.read()
    assert shelf.said == {("disable_x", "sql"): SAID, ("disable_x", "unleash"): other}
    assert shelf.known() == {"sql": {"disable_x": (RULE,)}, "unleash": {"disable_x": other.rules}}
    table.change(lambda writer: writer.drop("disable_x", "sql"))
    assert list(table.read().said) == [("disable_x", "unleash")]


def test_how_a_provider_is_is_noted_and_forgotten(table: Table) -> None:
    for problem in ("", "no answer"):
        known = Health(problem, 5.0, known=not problem)
        table.change(partial(Writer.note, provider="unleash", health=known))
        assert table.read().health == {"unleash": known}
    assert table.read().known() == {"unleash": {}}

    table.change(lambda writer: writer.forget("unleash"))

    assert table.read().health == {}


def test_one_process_leads_until_it_is_silent_or_gives_the_lead_back(
    table: Table, home: Engine
) -> None:
    assert table.read().publisher == ""
    assert table.lead("one", 30.0)
    assert not table.lead("two", 30.0)
    assert table.lead("one", 30.0)
    assert table.read().publisher == "one"

    with home.begin() as connection:
        connection.execute(update(switch).values(expires_at=1.0))
    assert table.read().publisher == ""
    assert table.lead("two", 30.0)

    table.give("one")
    assert table.read().publisher == "two"
    table.give("two")
    assert table.lead("one", 30.0)


def test_changes_are_made_one_after_the_other_and_none_is_lost(table: Table) -> None:
    threads = 4
    ready = threading.Barrier(threads)

    def count() -> None:
        ready.wait(20)
        for _ in range(3):
            table.change(add)

    def add(writer: Writer) -> None:
        before = writer.before.said.get(("disable_x", "sql"), replace(SAID, counted=0))
        writer.put(replace(before, counted=(before.counted or 0) + 1))

    made = [threading.Thread(target=count) for _ in range(threads)]
    for each in made:
        each.start()
    for each in made:
        each.join(60)

    assert table.read().said["disable_x", "sql"].counted == 3 * threads


@SQLITE
def test_a_transaction_shows_what_it_has_written_and_what_was_there_before(table: Table) -> None:
    def look(writer: Writer) -> tuple[int, int]:
        writer.put(SAID)
        return len(writer.before.said), len(writer.shelf.said)

    assert table.change(look) == (0, 1)


UNREAD = [
    "",
    "[]",
    "{",
    "[" * 100_000,
    "{}",
    '{"rules": 7}',
    '{"rules": []}',
    '{"rules": [7]}',
    '{"rules": [{"percent": 5}]}',
    json.dumps({"rules": [plain(RULE) | {"percent": 10**400}]}),
    json.dumps({"rules": [plain(RULE) | {"since": float("inf")}]}),
]


def broken(table: Table, home: Engine, said: Said, value: str) -> Said:
    """Write something, and something that nobody can read in place of its rules."""
    table.change(lambda writer: writer.put(said))
    with home.begin() as connection:
        connection.execute(update(switch).where(switch.c.source == "sql").values(value=value))
    return table.read().said["disable_x", "sql"]


@SQLITE
@pytest.mark.parametrize("value", UNREAD)
def test_a_switch_that_was_on_and_cannot_be_read_stops_everything_until_its_time_is_over(
    table: Table, home: Engine, value: str
) -> None:
    (rule,) = broken(table, home, SAID, value).rules

    assert (rule.percent, rule.where, rule.expires_at) == (100.0, (), 2e9)
    assert (rule.source, rule.who, rule.since) == ("sql", "ana", 7.0)
    assert (
        rule.reason
        == "why (its rules in SQL cannot be read: it stops everything, disable or enable it anew)"
    )


@SQLITE
def test_a_count_that_cannot_be_read_is_not_known(table: Table, home: Engine) -> None:
    said = broken(table, home, SAID, json.dumps({"rules": [plain(RULE)], "counted": "many"}))

    assert said == SAID


@SQLITE
@pytest.mark.parametrize("value", UNREAD[:7:3])
def test_a_switch_that_was_passed_over_and_cannot_be_read_is_passed_over_still(
    table: Table, home: Engine, value: str
) -> None:
    over = replace(SAID, rules=(replace(RULE, percent=0.0),))

    (rule,) = broken(table, home, over, value).rules

    assert (rule.percent, rule.expires_at, rule.who) == (0.0, 2e9, "ana")


@SQLITE
@pytest.mark.parametrize("value", UNREAD[:7:3])
def test_a_switch_that_cannot_be_read_is_kept_as_it_is(
    table: Table, home: Engine, value: str
) -> None:
    broken(table, home, replace(SAID, rules=(replace(RULE, expires_at=None),)), value)

    table.change(lambda writer: settle(writer, None))

    with home.connect() as connection:
        kept = connection.execute(select(switch.c.value).where(switch.c.source == "sql"))
        assert kept.scalars().all() == [value]


def test_a_long_list_of_tenants_fits(table: Table) -> None:
    many = replace(
        RULE, where=(Condition(Field.TENANT, Operator.IN, tuple(map(str, range(20_000)))),)
    )

    table.change(lambda writer: writer.put(replace(SAID, rules=(many,))))

    assert eventually(lambda: table.read().of("sql")["disable_x"]) == (many,)
