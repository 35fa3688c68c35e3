"""What Unleash says, as rules: compared with what its own engine answers, wherever both can."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from qik_core.switches import Condition, Context, Field, Operator, Rule, Snapshot
from reconciler.switches import features
from reconciler.switches.features import BadDocument, Ground, Names
from reconciler.switches.polling import Door, Link
from tests.unleash.stub import constraint, document, feature, rollout

NAMES = Names(
    {"Charge": "billing", "ChargeAll": "billing", "Mail": "slow", "MailAll": "slow"},
    {"OpenInvoices": "Charge"},
)
GROUND = Ground(NAMES, {"appName": "shop", "environment": "default"})
TENANTS = ("acme", "Acme-2", "zoo")
KEYS = ("1", "2", '["acme",7]', "")


def engine(text: str) -> Link:
    """UnleashClient with this document, and no server."""
    door = Door("http://127.0.0.1:9/api", "t", "shop", "tests", 5.0)
    return Link(door, text, lambda fresh: fresh)


def read(text: str) -> features.Reading:
    return features.translate(features.parse(text), GROUND)


def stops(
    rules: Mapping[str, tuple[Rule, ...]], context: Mapping[str, str], ident: str = "x"
) -> bool:
    found = Snapshot(1, rules).stop(
        context["class"],
        context["queue"],
        ident,
        Context(context.get("tenant"), context.get("key"), context.get("reconciler")),
        now=0.0,
    )
    return found is not None


def any_context(dice: random.Random) -> dict[str, str]:
    name = dice.choice(list(NAMES.queues))
    return {
        "class": name,
        "queue": NAMES.queues[name],
        "tenant": dice.choice(TENANTS),
        "key": dice.choice(KEYS),
        "reconciler": "OpenInvoices",
    }


def any_constraint(dice: random.Random) -> dict[str, Any]:
    values = {
        "class": ("Charge", "Mail", "All", "mail", ""),
        "queue": ("slow", "bill", "SLOW"),
        "tenant": TENANTS,
        "key": KEYS,
        "reconciler": ("OpenInvoices", "Open"),
        "appName": ("shop", "other", "sh"),
        "environment": ("default", "development"),
    }
    name = dice.choice(list(values))
    operators = ["IN", "NOT_IN"]
    if name not in {"tenant", "key"}:
        operators += ["STR_STARTS_WITH", "STR_ENDS_WITH", "STR_CONTAINS"]
    operator = dice.choice(operators)
    least = 1 if operator.startswith("STR") else 0
    return constraint(
        name,
        operator,
        *dice.sample(values[name], k=dice.randint(least, len(values[name]))),
        inverted=dice.random() < 0.3,
        caseInsensitive=dice.random() < 0.3,
    )


def any_strategy(dice: random.Random) -> dict[str, Any]:
    constraints = [any_constraint(dice) for _ in range(dice.randint(0, 3))]
    made = rollout(dice.choice((0, 100, 100, 100)), *constraints)
    if dice.random() < 0.3:
        made["segments"] = dice.sample((1, 2), k=dice.randint(1, 2))
    if dice.random() < 0.2:
        made |= {"name": "default", "parameters": {}}
    return made


def any_document(dice: random.Random) -> str:
    flags = ("disable_charge", "disable_queue_slow", "disable_reconciler_open_invoices")
    made = [
        feature(
            flag,
            *(any_strategy(dice) for _ in range(dice.randint(0, 3))),
            enabled=dice.random() < 0.9,
        )
        for flag in flags
    ]
    segments = [{"id": n, "name": "s", "constraints": [any_constraint(dice)]} for n in (1, 2)]
    return document(*made, feature("another_flag", rollout()), segments=segments)


def test_rules_stop_what_the_engine_says_for_thousands_of_contexts_and_documents() -> None:
    dice, seen = random.Random(5), {True: 0, False: 0}
    for number in range(120):
        text = any_document(dice)
        reading, link = read(text), engine(text)
        assert not reading.asked
        for _ in range(25):
            context = any_context(dice)
            for flag, applies in (
                ("disable_charge", context["class"] == "Charge"),
                ("disable_queue_slow", context["queue"] == "slow"),
                ("disable_reconciler_open_invoices", True),
            ):
                if not applies:
                    continue
                alone = {name: rules for name, rules in reading.rules.items() if name == flag}
                said = link.ask(flag, context)
                assert stops(alone, context) is said, (number, flag, context, text)
                seen[said] += 1
    assert min(seen.values()) > 1_000  # both answers were often right


def test_a_percentage_stops_that_share_of_keys_always_the_same_ones_and_fewer_as_it_falls() -> None:
    keys = [f"key-{number}" for number in range(10_000)]
    context = {"class": "Charge", "queue": "billing"}
    stopped: dict[int, set[str]] = {}
    for percent in (90, 50, 10):
        rules = read(document(feature("disable_charge", rollout(percent)))).rules
        stopped[percent] = {key for key in keys if stops(rules, context, key)}
        assert stopped[percent] == {key for key in keys if stops(rules, context, key)}
        assert abs(len(stopped[percent]) / 100 - percent) < 2
    assert stopped[10] < stopped[50] < stopped[90]


def test_a_percentage_is_as_large_as_the_engines_own() -> None:
    text = document(feature("disable_charge", rollout(30, stickiness="key")))
    link, rules = engine(text), read(text).rules
    context = {"class": "Charge", "queue": "billing"}

    theirs = sum(link.ask("disable_charge", {**context, "key": f"k{n}"}) for n in range(3_000))
    ours = sum(stops(rules, context, f"k{n}") for n in range(3_000))

    assert abs(theirs - 900) < 90
    assert abs(ours - 900) < 90


@pytest.mark.parametrize(
    ("strategy", "percent"),
    [
        ({"name": "default", "parameters": {}}, 100.0),
        ({"name": "gradualRolloutRandom", "parameters": {"percentage": "30"}}, 30.0),
        (
            {"name": "gradualRolloutUserId", "parameters": {"percentage": "40", "groupId": "g"}},
            40.0,
        ),
        ({"name": "gradualRolloutSessionId", "parameters": {"percentage": "50"}}, 50.0),
        (rollout(60), 60.0),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_each_strategy_with_a_share_becomes_a_rule_of_that_share(
    strategy: dict[str, Any], percent: float
) -> None:
    reading = read(document(feature("disable_mail", strategy)))

    assert [rule.percent for rule in reading.rules["disable_mail"]] == [percent]
    assert reading.asked == {}


def test_a_rule_names_its_source_and_the_description_of_its_flag() -> None:
    text = document(
        feature("disable_mail", description="the mail provider is down"), feature("disable_charge")
    )

    rules = read(text).rules

    assert rules["disable_mail"] == (
        Rule(source="unleash", who="unleash", reason="the mail provider is down"),
    )
    assert rules["disable_charge"][0].reason == "disable_charge is on in Unleash"


def test_a_flag_that_is_off_or_of_another_name_becomes_no_rule() -> None:
    text = document(
        feature("disable_mail", enabled=False),
        feature("enable_mail"),
        feature("disable_charge", rollout(0)),
    )

    assert read(text) == features.Reading({}, {}, ())


def test_stickiness_by_something_else_than_the_key_is_noted() -> None:
    reading = read(document(feature("disable_mail", rollout(50, stickiness="tenant"))))

    assert reading.rules["disable_mail"][0].percent == 50.0
    assert reading.notes == ("disable_mail stops 50 % of the keys, and is not sticky by tenant",)


UNTOLD = {
    "strategy weatherIsBad": feature("disable_mail", {"name": "weatherIsBad", "parameters": {}}),
    "strategy userWithId": feature(
        "disable_mail", {"name": "userWithId", "parameters": {"userIds": "Mail,x"}}
    ),
    "STR_STARTS_WITH on tenant": feature(
        "disable_mail", rollout(100, constraint("tenant", "STR_STARTS_WITH", "a"))
    ),
    "NUM_GT on amount": feature(
        "disable_mail", rollout(100, constraint("amount", "NUM_GT", value="5"))
    ),
    "DATE_AFTER on currentTime": feature(
        "disable_mail",
        rollout(100, constraint("currentTime", "DATE_AFTER", value="2020-01-01T00:00:00Z")),
    ),
    "STR_CONTAINS on class without values": feature(
        "disable_mail", rollout(100, constraint("class", "STR_CONTAINS", inverted=True))
    ),
    "segment 99, which is not there": feature("disable_mail", rollout(100, segments=[99])),
    "flexibleRollout of 'x' %": feature("disable_mail", rollout("x")),
    "a dependency on another flag": feature(
        "disable_mail", rollout(), dependencies=[{"feature": "outage"}]
    ),
}
STOPPED = {"strategy userWithId", "DATE_AFTER on currentTime", "a dependency on another flag"}


@pytest.mark.parametrize("why", UNTOLD)
def test_what_is_no_rule_is_asked_class_by_class_and_noted(why: str) -> None:
    text = document(UNTOLD[why], feature("outage"))

    reading = read(text)
    link = engine(features.for_engine(text, reading.asked))
    contexts = features.contexts(NAMES)["disable_mail"]
    said = features.answers("disable_mail", contexts, link.ask)

    assert reading.rules == {}
    assert reading.notes == (f"disable_mail is decided class by class, as it has {why}",)
    assert [rule.where for rule in said] == ([()] if why in STOPPED else [])


def test_a_flag_of_a_queue_that_fits_some_classes_stops_those() -> None:
    text = document(
        feature("disable_queue_slow", {"name": "userWithId", "parameters": {"userIds": "MailAll"}})
    )

    said = features.answers(
        "disable_queue_slow",
        features.contexts(NAMES)["disable_queue_slow"],
        engine(text).ask,
    )

    assert [rule.where for rule in said] == [(Condition(Field.CLASS, Operator.IN, ("MailAll",)),)]


def test_strategies_that_became_rules_are_not_asked_again() -> None:
    custom = {"name": "weatherIsBad", "parameters": {}}
    text = document(feature("disable_mail", rollout(50), custom, rollout(10)))
    reading = read(text)

    left = json.loads(features.for_engine(text, reading.asked))

    assert reading.asked == {"disable_mail": (1,)}
    assert [rule.percent for rule in reading.rules["disable_mail"]] == [50.0, 10.0]
    assert left["features"][0]["strategies"] == [custom]


def test_a_flag_that_others_depend_on_is_left_whole_for_the_engine() -> None:
    custom = {"name": "weatherIsBad", "parameters": {}}
    parent = feature("disable_mail", rollout(), custom)
    text = document(parent, feature("disable_charge", dependencies=[{"feature": "disable_mail"}]))
    reading = read(text)

    link = engine(features.for_engine(text, reading.asked))

    assert link.ask("disable_charge", {"class": "Charge"})


def test_every_flag_that_an_application_can_have_has_contexts() -> None:
    found = features.contexts(NAMES)

    assert sorted(found) == [
        "disable_charge",
        "disable_charge_all",
        "disable_mail",
        "disable_mail_all",
        "disable_queue_billing",
        "disable_queue_slow",
        "disable_reconciler_open_invoices",
    ]
    assert [each["class"] for each in found["disable_queue_slow"]] == ["Mail", "MailAll"]
    assert found["disable_reconciler_open_invoices"][0]["reconciler"] == "OpenInvoices"


def test_queues_that_no_class_names_are_compared_too() -> None:
    more = Names(NAMES.queues, NAMES.reconcilers, frozenset({"slower"}))
    text = document(
        feature("disable_mail", rollout(100, constraint("queue", "STR_CONTAINS", "slow")))
    )

    (rule,) = features.translate(features.parse(text), Ground(more, {})).rules["disable_mail"]

    assert rule.where == (Condition(Field.QUEUE, Operator.IN, ("slow", "slower")),)
    assert list(features.strays(["disable_queue_slower", "disable_queue_slowe"], more)) == [
        "disable_queue_slowe is on and stops nothing of this application: is disable_queue_slower meant?"
    ]


BAD = {
    "html": "<!DOCTYPE html><title>Sign in</title>",
    "cut": document(feature("disable_mail", rollout()))[:-40],
    "empty": "",
    "null": "null",
    "list": "[]",
    "no features": '{"version":2}',
    "features of another kind": '{"version":2,"features":{}}',
    "no version": '{"features":[]}',
    "a feature without a name": '{"version":2,"features":[{"enabled":true}]}',
    "enabled as text": '{"version":2,"features":[{"name":"x","enabled":"yes"}]}',
    "strategies of another kind": '{"version":2,"features":[{"name":"disable_x","enabled":true,"strategies":5}]}',
    "deep": "[" * 100_000,
    "half a character": '{"version":2,"features":[{"name":"\ud800","enabled":true}]}',
    "an error": '{"name":"NotFoundError","message":"no such path"}',
}


@pytest.mark.parametrize("how", BAD)
def test_what_is_no_answer_of_unleash_is_refused(how: str) -> None:
    with pytest.raises(BadDocument, match="no features of Unleash"):
        features.parse(BAD[how])


def test_what_other_flags_look_like_is_none_of_our_business() -> None:
    text = document(
        feature("disable_mail"), {"name": "x", "enabled": True, "strategies": "of tomorrow"}
    )

    assert list(features.parse(text).features) == ["disable_mail"]
