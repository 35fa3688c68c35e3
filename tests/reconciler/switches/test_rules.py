from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from qik_core.errors import BadSnapshot
from qik_core.switches import Condition, Field, Operator, Rule
from reconciler.audit import Action
from reconciler.switches.rules import (
    all_same,
    changes,
    dated,
    merged,
    of_plain,
    plain,
    stops,
    told,
    whom,
)

HAND = Rule(source="sql", who="ana", reason="double charging", since=5.0)
FLAG = Rule(source="unleash", reason="rollout", percent=50.0)
FILE = Rule(source="file")
OVER = Rule(source="sql", who="ana", percent=0.0)
NOW = 100.0


def test_any_provider_that_says_so_stops_a_flag() -> None:
    assert merged({"file": {"disable_x": (FILE,)}, "unleash": {"disable_x": (FLAG,)}}, NOW) == {
        "disable_x": (FILE, FLAG)
    }


@pytest.mark.parametrize("by_hand", [HAND, OVER])
def test_what_was_said_by_hand_goes_before_all_others_either_way(by_hand: Rule) -> None:
    known = {
        "sql": {"disable_x": (by_hand,)},
        "unleash": {"disable_x": (FLAG,), "disable_y": (FLAG,)},
    }

    assert merged(known, NOW) == {"disable_x": (by_hand,), "disable_y": (FLAG,)}


def test_what_was_said_while_sql_did_not_answer_is_newer_than_what_is_in_sql() -> None:
    later = replace(OVER, source="redis")

    assert merged({"redis": {"disable_x": (later,)}, "sql": {"disable_x": (HAND,)}}, NOW) == {
        "disable_x": (later,)
    }


def test_a_rule_whose_time_is_over_leaves_its_flag_to_the_others() -> None:
    over = replace(HAND, expires_at=NOW)

    assert merged({"sql": {"disable_x": (over,)}, "file": {"disable_x": (FILE,)}}, NOW) == {
        "disable_x": (FILE,)
    }
    assert merged({"sql": {"disable_x": (over,)}}, NOW - 1) == {"disable_x": (over,)}
    assert not stops([over], NOW)


def test_the_first_moment_of_a_providers_rule_stays_while_it_says_the_same() -> None:
    first = dated((FLAG,), (), NOW)

    assert first[0].since == NOW
    assert dated((FLAG,), first, NOW + 50) == first
    assert dated((replace(FLAG, percent=10.0),), first, NOW + 50)[0].since == NOW + 50
    assert all_same({"disable_x": (FLAG,)}, {"disable_x": first})
    assert not all_same({"disable_x": (FLAG,)}, {})


def found(before: Any, after: Any, now: float = NOW) -> list[tuple[str, str, str, str]]:
    return [(each.flag, each.action, each.who, each.reason) for each in changes(before, after, now)]


def test_a_change_says_who_did_it_and_why() -> None:
    assert found({}, {"disable_x": (HAND,)}) == [
        ("disable_x", Action.DISABLED, "ana", "double charging")
    ]
    assert found({"disable_x": (FLAG,)}, {}) == [
        ("disable_x", Action.ENABLED, "unleash", "unleash has it no longer")
    ]
    assert found({"disable_x": (FLAG,)}, {"disable_x": (replace(FLAG, percent=90.0),)}) == [
        ("disable_x", Action.DISABLED, "unleash", "rollout")
    ]


def test_a_switch_that_expires_is_no_switch_that_was_taken_back() -> None:
    over = replace(HAND, expires_at=NOW)

    assert found({"disable_x": (over,)}, {"disable_x": (over,)})[0][1] == Action.EXPIRED
    assert found({"disable_x": (over,)}, {}, NOW - 1)[0][1] == Action.ENABLED


def test_a_flag_that_is_passed_over_by_hand_is_one_that_went_off() -> None:
    assert found({"disable_x": (FLAG,)}, {"disable_x": (OVER,)})[0][1] == Action.ENABLED
    assert found({}, {"disable_x": (OVER,)}) == []


def test_rules_that_say_the_same_are_no_change() -> None:
    assert found({"disable_x": (HAND,)}, {"disable_x": (replace(HAND, since=9.0),)}) == []


CONDITIONS = (
    Condition(Field.TENANT, Operator.IN, ("a", "b", "c", "d", "e")),
    Condition(Field.KEY, Operator.NOT_IN, ("7",)),
)


def test_a_rule_reads_as_people_would_say_it() -> None:
    assert whom(HAND) == ""
    assert told(HAND) == "sql, by ana: double charging"
    assert whom(replace(FLAG, where=CONDITIONS)) == (
        "50 % of keys where tenant in a, b, c, and 2 more and key not in 7"
    )
    assert told(replace(FILE, expires_at=0.0)) == "file, until 1970-01-01 00:00:00 UTC"


@pytest.mark.parametrize(
    "rule", [HAND, OVER, replace(FLAG, where=CONDITIONS, expires_at=7.5, cancel=True)]
)
def test_a_rule_is_the_same_after_json(rule: Rule) -> None:
    assert of_plain(json.loads(json.dumps(plain(rule)))) == rule


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {},
        {**plain(HAND), "percent": "50"},
        {**plain(HAND), "percent": 101},
        {**plain(HAND), "percent": 10**400},
        {**plain(HAND), "since": 10**400},
        {**plain(HAND), "expires_at": float("inf")},
        {**plain(HAND), "expires_at": float("nan")},
        {**plain(HAND), "percent": True},
        {**plain(HAND), "who": None},
        {**plain(HAND), "expires_at": "soon"},
        {**plain(HAND), "where": [{"field": "moon", "operator": "in", "values": []}]},
        {**plain(HAND), "where": [{"field": "key", "operator": "in", "values": "7"}]},
        {**plain(HAND), "where": [{"field": "key", "operator": "in", "values": [7]}]},
        {**plain(HAND), "where": 7},
    ],
)
def test_what_is_no_rule_is_refused(broken: Any) -> None:
    with pytest.raises(BadSnapshot):
        of_plain(broken)
