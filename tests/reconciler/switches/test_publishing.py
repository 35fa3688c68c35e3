from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qik_core.switches import LARGEST, Condition, Field, Operator, Rule, Snapshot
from reconciler.switches.provider import Rules
from reconciler.switches.publishing import HANDS, Following, following, too_large
from tests.reconciler.switches.boards import FLAG, WORK

HAND = Rule(source="sql", who="ana")
NOW = 1_000.0


def of(size: int, rule: Rule = FLAG) -> Rule:
    """Return a rule with a list of tenants of about so many bytes."""
    tenants = tuple(f"{number:07d}" for number in range(size // 10))
    return replace(rule, where=(Condition(Field.TENANT, Operator.IN, tenants),))


def after(published: Snapshot, known: Mapping[str, Rules]) -> Following:
    return following(published, known, NOW, complete=True, reconciled={"Work"})


def test_rules_that_grow_beyond_a_snapshot_stay_as_they_were_and_all_others_go_through() -> None:
    small, large = of(1_000), of(900_000)
    before = Snapshot(1, {"disable_a": (small,), "disable_b": (large,)})
    known = {
        "unleash": {
            "disable_a": (of(300_000),),
            "disable_b": (large,),
            "disable_c": (of(200_000),),
            **WORK,
        },
        "sql": {"disable_mail": (HAND,)},
    }

    new, left_out = after(before, known)

    assert left_out == ("disable_a", "disable_c")
    assert new is not None
    assert sorted(new.rules) == ["disable_a", "disable_b", "disable_mail", "disable_work"]
    assert (new.rules["disable_a"], new.rules["disable_b"]) == ((small,), (large,))
    assert len(new.dump()) < LARGEST
    assert after(new, known) == (None, left_out)


def test_a_flag_that_nothing_fits_of_is_left_out_and_published_when_there_is_room() -> None:
    known = {"file": {"disable_a": (of(700_000),), "disable_b": (of(600_000),)}}

    first, left_out = after(Snapshot(), known)
    assert first is not None
    assert (list(first.rules), left_out) == (["disable_b"], ("disable_a",))

    second, left_out = after(first, {"file": {"disable_a": (of(700_000),)}})
    assert second is not None
    assert (list(second.rules), left_out) == (["disable_a"], ())


def test_what_was_said_by_hand_before_is_not_what_a_provider_said_before() -> None:
    before = Snapshot(1, {"disable_a": (HAND,), "disable_b": (of(500_000),)})
    known = {"unleash": {"disable_a": (of(600_000),), "disable_b": (of(500_000),)}}

    new, left_out = after(before, known)

    assert new is not None
    assert (list(new.rules), left_out) == (["disable_b"], ("disable_a",))


def test_providers_leave_room_for_what_people_say() -> None:
    full = {f"disable_{number}": (of(9_000),) for number in range(200)}
    before, left_out = after(Snapshot(), {"unleash": full})
    assert before is not None
    assert left_out

    hand = {f"disable_by_hand_{number}": (HAND,) for number in range(HANDS // 300)}
    new, _ = after(before, {"unleash": full, "sql": hand})

    assert new is not None
    assert hand.keys() < new.rules.keys()
    assert before.rules.keys() < new.rules.keys()
    assert too_large(new) == ""
    assert len(new.dump()) < LARGEST


def test_what_people_say_may_be_too_large_and_the_largest_is_named() -> None:
    hand = {f"disable_{size}": (of(size * 1_000, HAND),) for size in (300, 400, 500)}

    new, left_out = after(Snapshot(), {"sql": hand})

    assert new is not None
    assert left_out == ()
    assert "more than 1,000,000: name fewer keys or tenants" in too_large(new)
    assert "the largest is disable_500" in too_large(new)
