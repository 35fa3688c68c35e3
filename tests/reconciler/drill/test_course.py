"""How a drill sees that a fault has healed, that all is done, and that it never will be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from qik_core.drilling import Census, Place, Scratch
from reconciler.drill import conduct
from reconciler.drill.course import Course, Healing
from reconciler.drill.errors import NotDrained
from reconciler.drill.evidence import Sample
from reconciler.drill.kinds import Kind
from reconciler.drill.rows import Pending
from reconciler.drill.strikes import Sight, Struck


def seen(
    at: float,
    pending: str,
    told: str = "",
    held: Mapping[str, str] | None = None,
    within: float = 0.0,
) -> Sight:
    rows = {key: Pending(f"row {key}", within) for key in pending}
    return Sight(at, Census(), rows, frozenset(told), held or {})


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


def test_a_row_that_passes_leave_out_on_purpose_is_owed_nothing() -> None:
    healing = Healing.of(Kind.LISTS, Struck(1.0, 1.0, frozenset("ab"), 0))

    assert not healing.look(seen(2.0, "ab", "a"), {})
    assert healing.look(seen(3.0, "ab", "a", {"b": "quarantined"}), {})


class Watched(Course):
    """A course that sees what it is given, each look so many seconds after the one before."""

    def __init__(self, sights: Sequence[Sight]) -> None:
        super().__init__(0.0, [], Silent())
        self.stage = SimpleNamespace(runs=())  # type: ignore[assignment]
        self.sights = sights
        self.looks = 0

    def now(self) -> float:
        return self.sights[max(self.looks - 1, 0) % len(self.sights)].at

    def look(self) -> Sight:
        self.looks += 1
        return self.sights[min(self.looks, len(self.sights)) - 1]


class Silent:
    """Shows nothing."""

    def show(self, sample: Sample, healing: str) -> None: ...

    def say(self, text: str) -> None: ...


def is_done(sight: Sight) -> bool:
    return not sight.pending


def test_what_does_not_move_is_waited_for_as_long_as_its_reconciler_may_take() -> None:
    seconds = [0, 10, 35, 300, 389, 391]
    quick = Watched([seen(float(at), "a") for at in seconds])
    slow = Watched([seen(float(at), "a", within=360.0) for at in seconds])
    shadow = Watched([seen(float(at), "a", held={"a": "shadow"}, within=360.0) for at in seconds])

    assert quick.drain(is_done).at == 35.0
    assert slow.drain(is_done).at == 391.0
    assert shadow.drain(is_done).at == 35.0


def test_work_that_goes_on_and_on_is_given_up_with_what_is_left() -> None:
    letters = "abcd" * 20
    sights = [seen(20.0 * at, letters[: 1 + at % 3]) for at in range(40)]
    course = Watched(sights)

    with pytest.raises(NotDrained, match=r"rows are pending .* 600 s after the last row was added"):
        course.drain(is_done)

    assert course.looks == 32


def test_a_drill_that_is_given_up_is_judged_by_what_was_seen() -> None:
    sights = [seen(20.0 * at, "ab"[: 1 + at % 2]) for at in range(40)]

    last, why = conduct._drained(Watched(sights), is_done)

    assert why.startswith("NotDrained: ")
    assert last.pending


def test_all_is_done_when_only_rows_are_left_that_no_pass_will_tell() -> None:
    none = Scratch("redis://nowhere")

    for why, done in {"shadow": True, "quarantined": True, "late": True, "waiting": False}.items():
        sight = seen(1.0, "a", held={"a": why})
        assert conduct._is_done(none, sight, own=False) is done


def test_what_is_left_is_lost_held_back_or_told() -> None:
    stage = SimpleNamespace(scratch=SimpleNamespace(locks=lambda: 1))
    course = Watched([])
    course.stage = stage  # type: ignore[assignment]
    census = Census({Place.QUEUED: Counter([b"c"])})
    sight = replace(seen(1.0, "abc", "c", {"b": "over_share"}), census=census)

    left = course.left(sight)

    assert (left.untold, left.told, left.held) == (
        ("row a",),
        ("row c",),
        {"over_share": ("row b",)},
    )
