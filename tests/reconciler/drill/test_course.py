"""How a drill sees that a fault has healed."""

from __future__ import annotations

from qik_core.drilling import Census
from reconciler.drill.course import Healing
from reconciler.drill.kinds import Kind
from reconciler.drill.strikes import Sight, Struck


def seen(at: float, pending: str, told: str = "") -> Sight:
    return Sight(at, Census(), dict.fromkeys(pending, "row"), frozenset(told))


def test_a_row_has_healed_when_it_is_told_again_or_done() -> None:
    healing = Healing.of(Kind.QUEUED, Struck(1.0, 1.0, frozenset("abc"), 0))

    assert not healing.look(seen(2.0, "abc"), {})
    assert not healing.look(seen(3.0, "abc", "a"), {})
    assert not healing.look(seen(4.0, "abc", "b"), {})
    assert healing.look(seen(5.0, "ab"), {})

    assert (healing.fault.first, healing.fault.healed, healing.fault.took) == (3.0, 5.0, 4.0)
    assert not healing.look(seen(6.0, "abc"), {})  # said once


def test_a_run_that_was_cut_short_has_healed_when_it_began_again_whenever_that_is_seen() -> None:
    healing = Healing.of(Kind.FREEZE, Struck(1.0, 1.0, frozenset("ab"), 2, by_run=True))

    assert not healing.look(seen(9.0, "ab", "ab"), {"a": 4.0})
    assert healing.look(seen(9.1, "ab", "ab"), {"a": 4.0, "b": 5.0})

    assert (healing.fault.first, healing.fault.healed) == (4.0, 5.0)


def test_a_fault_that_hit_nothing_is_over_at_once() -> None:
    healing = Healing.of(Kind.LOCKS, Struck(1.0, 1.0, frozenset(), 0))

    assert healing.look(seen(1.1, "ab"), {})
    assert healing.fault.healed == 1.1
