from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reconciler.errors import SqlUnavailable, StatementTimeout
from reconciler.pages import SMALLEST, Pages
from tests.waiting import eventually

Position = tuple[Any, ...]


class Numbers:
    """Rows of one number each, 0 to `last`; `do` is called before each page, with its first number and its size."""

    def __init__(self, last: int, do: Callable[[int, int], object] = lambda *_: None) -> None:
        self.last = last
        self.do = do
        self.read_by: list[threading.Thread] = []

    def read(self, after: Position | None, limit: int) -> Sequence[tuple[int]]:
        first = 0 if after is None else after[0] + 1
        self.read_by.append(threading.current_thread())
        self.do(first, limit)
        return [(each,) for each in range(first, min(first + limit, self.last + 1))]

    def position(self, row: tuple[int]) -> Position:
        return row


def count(rows: Sequence[Any]) -> int:
    return len(rows)


def test_the_next_page_is_read_and_made_into_something_while_the_last_one_is_told() -> None:
    begun: list[int] = []
    pages = Pages(Numbers(24, lambda first, _: begun.append(first)), count, 10, None)

    first = pages.read()
    assert first is not None
    eventually(lambda: begun == [0, 10])
    assert (first.rows[-1], first.made, pages.ended) == ((9,), 10, False)
    second, third = pages.read(), pages.read()
    assert second is not None
    assert third is not None
    assert ([*second.rows, *third.rows][-1], third.made, pages.ended) == ((24,), 5, True)
    assert begun == [0, 10, 20]


def test_a_short_page_costs_no_thread() -> None:
    numbers = Numbers(3)
    pages = Pages(numbers, count, 10, None)

    assert pages.read() is not None
    assert numbers.read_by == [threading.current_thread()]


def test_a_page_begins_behind_its_position() -> None:
    page = Pages(Numbers(9), count, 10, (6,)).read()

    assert page is not None
    assert page.rows == [(7,), (8,), (9,)]


def test_a_page_that_is_too_slow_is_tried_again_at_half_the_size_until_it_is_not() -> None:
    def slow(_: int, size: int) -> None:
        if size > 100:
            raise StatementTimeout("slow")

    pages = Pages(Numbers(299, slow), count, 300, None)
    sizes = []
    rows = 0
    while not pages.ended:
        page = pages.read()
        sizes.append(pages.size)
        rows += 0 if page is None else page.made

    assert sizes[:3] == [150, 75, 75]
    assert rows == 300


def test_a_page_that_is_too_slow_at_the_smallest_size_twice_in_a_row_is_given_up() -> None:
    def slow(*_: object) -> None:
        raise StatementTimeout("slow")

    pages = Pages(Numbers(999, slow), count, 2 * SMALLEST, None)

    assert [pages.read(), pages.read()] == [None, None]
    with pytest.raises(StatementTimeout):
        pages.read()


def test_what_goes_wrong_ahead_is_raised_where_the_page_is_asked_for() -> None:
    def gone(first: int, _: int) -> None:
        if first:
            raise SqlUnavailable("gone")

    pages = Pages(Numbers(19, gone), count, 10, None)

    assert pages.read() is not None
    with pytest.raises(SqlUnavailable, match="gone"):
        pages.read()


def test_the_end_waits_for_a_page_that_is_being_read_but_not_for_ever() -> None:
    reading, go = threading.Event(), threading.Event()

    def held(first: int, _: int) -> None:
        if first:
            reading.set()
            go.wait(10)

    numbers = Numbers(29, held)
    pages = Pages(numbers, count, 10, None)
    pages.read()
    assert reading.wait(10)

    pages.close(0.01)
    assert numbers.read_by[-1].is_alive()
    threading.Timer(0.05, go.set).start()
    pages.close(10)
    assert go.is_set()
    eventually(lambda: not numbers.read_by[-1].is_alive())
    assert len(numbers.read_by) == 2
