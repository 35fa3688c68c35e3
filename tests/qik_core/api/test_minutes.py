"""What programs may know of each class: by minute or in tens, with its histogram and the deploys."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qik_core.api import ClassHistory, ClassStats, mark_deploy
from qik_core.errors import ArgumentError
from qik_core.store import keys
from tests.qik_core.store.rig import Rig
from tests.qik_core.store.test_minutes import add, ran

NOW = float(calendar.timegm((2026, 11, 22, 0, 4, 30)))  # an hour that began yesterday


def filled(rig: Rig) -> None:
    for back, eight in ((0, True), (1, False), (59, True)):
        add(rig, ran("A", 3, 1, 500, b0=1, b25=1), at=NOW - 60 * back, eight=eight)
    add(rig, ran("B", 50, 50, 0), at=NOW)
    add(rig, ran("A", 100, 0, 100), ran("Old", 1), at=NOW - 60 * 60)


def test_the_last_hour_of_all_classes_comes_with_what_ran_most_first(rig: Rig) -> None:
    filled(rig)

    stats = ClassStats.read(now=NOW, store=rig.store)

    assert list(stats.classes) == ["B", "A"]
    a, b = stats.classes["A"], stats.classes["B"]
    assert (a.processed, a.failed, a.seconds, a.mean) == (9, 3, 1.5, 0.25)
    assert (b.processed, b.failed, b.mean) == (50, 50, None)
    assert stats.whole
    assert (len(stats.span.starts), stats.span.step) == (60, 1)
    assert stats.span.starts[0] == datetime(2026, 11, 21, 23, 5, tzinfo=UTC)


def test_more_than_an_hour_comes_in_tens(rig: Rig) -> None:
    filled(rig)

    stats = ClassStats.read(480, now=NOW, store=rig.store)
    history = ClassHistory.read("A", 480, now=NOW, store=rig.store)

    assert (len(stats.span.starts), stats.span.step) == (48, 10)
    assert {name: each.processed for name, each in stats.classes.items()} == {
        "A": 109,
        "B": 50,
        "Old": 1,
    }
    assert [each.processed for each in history.runs if each.processed] == [103, 6]
    assert sum(many for _, many in history.histogram) == 6


def test_one_class_comes_by_minute_with_its_histogram(rig: Rig) -> None:
    filled(rig)

    history = ClassHistory.read("A", now=NOW, store=rig.store)

    assert [n for n, each in enumerate(history.runs) if each.processed] == [0, 58, 59]
    assert (history.runs[-1].processed, history.runs[-1].failed, history.runs[-1].mean) == (
        3,
        1,
        0.25,
    )
    assert len(history.histogram) == 26
    assert (history.histogram[0], history.histogram[-1]) == ((0.02, 3), (None, 3))


@pytest.mark.parametrize("name", ["Nobody", "", "A|p", "é" * 300])
def test_a_class_that_nobody_knows_ran_nothing(rig: Rig, name: str) -> None:
    history = ClassHistory.read(name, now=NOW, store=rig.store)

    assert (history.total.processed, history.total.mean, history.deploys) == (0, None, [])
    assert ClassStats.read(now=NOW, store=rig.store).classes == {}


@pytest.mark.parametrize("minutes", [0, -1, 481, 1.5, "60", True])
def test_other_numbers_of_minutes_are_refused(rig: Rig, minutes: Any) -> None:
    with pytest.raises(ArgumentError, match="use 1 to 480"):
        ClassStats.read(minutes, store=rig.store)
    with pytest.raises(ArgumentError, match="use 1 to 480"):
        ClassHistory.read("A", minutes, store=rig.store)


def test_deploys_of_this_time_are_told_and_others_not(rig: Rig) -> None:
    now = datetime.fromtimestamp(NOW, UTC)
    for label, back in (("v1", 70), ("v2", 50), ("v3", 1), ("v4", -5)):
        assert mark_deploy(label, at=now - timedelta(minutes=back), store=rig.store)
    rig.raw.hset(
        keys.marks(NOW),
        mapping={"no time": "x", "2026-11-22T00:01:00": "no zone", b"\xff": b"\xff"},
    )

    found = ClassStats.read(now=NOW, store=rig.store).deploys

    assert [each.label for each in found] == ["v2", "v3"]
    assert found[0].at == datetime(2026, 11, 21, 23, 14, tzinfo=UTC)
    assert ClassHistory.read("A", now=NOW, store=rig.store).deploys == found


def test_a_label_is_short_and_printable_and_a_time_has_its_zone(rig: Rig) -> None:
    for label in ("", "a" * 101, "a\nb", "\x1b[31m", "\ud83d"):
        with pytest.raises(ArgumentError, match="use 1 to 100 printable characters"):
            mark_deploy(label, store=rig.store)
    with pytest.raises(ArgumentError, match="give it a time zone"):
        mark_deploy("v1", at=datetime(2026, 11, 22), store=rig.store)  # noqa: DTZ001  that is what is refused
