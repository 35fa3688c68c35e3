from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from qik_core.switches import Condition, Field, Operator, Rule, Snapshot
from reconciler.switches.fitting import NEVER, REASON, fitting, legible, unfit
from reconciler.switches.settling import copy, settle
from reconciler.switches.table import Health, Table, Writer

RULE = Rule(source="unleash", reason="rollout")


def of(*tenants: str) -> Rule:
    return replace(RULE, where=(Condition(Field.TENANT, Operator.IN, tenants),))


@pytest.mark.parametrize(
    ("flag", "rule", "said"),
    [
        ("disable_" + "x" * 191, RULE, "no name of a switch"),
        ("disable_\0", RULE, "no name of a switch"),
        ("disable_\ud800", RULE, "no name of a switch"),
        ("disable_é", RULE, "no name of a switch"),
        ("disable_x", replace(RULE, reason="\0"), "NUL"),
        ("disable_x", replace(RULE, reason="\ud800"), "half a character"),
        ("disable_x", replace(RULE, who="\0"), "NUL"),
        ("disable_x", of("acme", "\udce9"), "half a character"),
        ("disable_x", replace(RULE, reason="x" * (REASON + 1)), "at most 16,000"),
        ("disable_x", replace(RULE, expires_at=float("inf")), "1970 to 9999"),
        ("disable_x", replace(RULE, expires_at=float("nan")), "1970 to 9999"),
        ("disable_x", replace(RULE, expires_at=-1.0), "1970 to 9999"),
        ("disable_x", replace(RULE, expires_at=NEVER), "1970 to 9999"),
        ("disable_x", of("x" * 1_000_000), "more than 1,000,000: name fewer"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_what_to_do(flag: str, rule: Rule, said: str) -> None:
    assert said in unfit(flag, (RULE, rule))

    before = {flag: (RULE,), "disable_y": (RULE,)}
    found, refused = fitting({flag: (rule,), "disable_y": (of("a"),)}, {})
    assert (found, len(refused)) == ({"disable_y": (of("a"),)}, 1)
    assert fitting({flag: (rule,)}, before)[0] == {flag: (RULE,)}  # what was said before holds


def test_what_is_refused_is_told_in_a_text_that_can_be_kept() -> None:
    assert legible("disable_\0\ud800 é") == "disable_?? é"
    assert len(legible("é" * 100_000)) == 4_001


def test_the_largest_of_what_is_not_refused_can_be_kept_by_each_database(home: Engine) -> None:
    flag = "disable_" + "x" * 190
    most = replace(of("🛑" * 200_000), reason="🛑" * REASON, expires_at=NEVER - 1, who="w" * 999)
    assert unfit(flag, (most,)) == ""

    def write(writer: Writer) -> None:
        copy(writer, "unleash", {flag: (most,)})
        writer.note("unleash", Health(legible("🛑" * 100_000), 1.0))
        settle(writer, None)

    Table(home).change(write)

    (rule,) = Table(home).read().of("unleash")[flag]
    assert replace(rule, since=0.0) == most
    assert Snapshot.parse(Snapshot(1, {flag: (rule,)}).dump()).rules == {flag: (rule,)}
