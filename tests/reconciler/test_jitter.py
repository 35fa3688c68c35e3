from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.jitter import delays, rising

DIGESTS = [f"{number:022d}".encode() for number in range(10_000)]


def test_repeating_a_pass_finds_the_same_instants() -> None:
    first = [1_000.0 + each for each in delays(DIGESTS, 60.0, 1_000.0)]
    later = [1_007.5 + each for each in delays(DIGESTS, 60.0, 1_007.5)]

    for one, other in zip(first, later, strict=True):
        assert other == pytest.approx(one) or other == pytest.approx(one + 60.0)


def test_instants_are_spread_evenly_over_the_window() -> None:
    bins = Counter(int(each) for each in delays(DIGESTS, 60.0, 12_345.0))

    mean = len(DIGESTS) / 60
    assert len(bins) == 60
    assert max(bins.values()) <= 1.4 * mean
    assert min(bins.values()) >= 0.6 * mean


def test_the_middle_of_a_window_does_not_make_half_of_the_jobs_due_at_once() -> None:
    soon = [each for each in delays(DIGESTS, 60.0, 60.0 * 1_000 + 30.0) if each < 1.0]

    assert len(soon) < 0.05 * len(DIGESTS)


@given(st.floats(0.001, 1e6), st.floats(0, 4e9))
def test_a_delay_is_within_its_window(window: float, now: float) -> None:
    for each in delays(DIGESTS[:20], window, now):
        assert 0 <= each < window


def test_another_window_gives_other_instants() -> None:
    assert delays(DIGESTS[:5], 60.0, 0.0) != [each * 2 for each in delays(DIGESTS[:5], 30.0, 0.0)]


def test_rising_order_names_places_by_their_delay() -> None:
    assert rising([3.0, 1.0, 2.0]) == [1, 2, 0]
