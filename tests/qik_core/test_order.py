from __future__ import annotations

import random
from collections import Counter

import pytest

from qik_core.order import orders
from qik_core.sources import Order

QUEUES = [("high", 6), ("low", 3), ("bulk", 1)]


def drawn(order: Order, times: int = 20_000) -> list[list[str]]:
    draw = orders(QUEUES, order, random.Random(7).random)
    return [list(draw()) for _ in range(times)]


def test_strict_is_the_order_in_the_settings_always() -> None:
    assert {tuple(names) for names in drawn(Order.STRICT, 100)} == {("high", "low", "bulk")}


@pytest.mark.parametrize("order", list(Order))
def test_every_fetch_looks_at_every_queue_once(order: Order) -> None:
    assert all(sorted(names) == ["bulk", "high", "low"] for names in drawn(order, 500))


def test_weights_say_how_often_a_queue_is_looked_at_first() -> None:
    first = Counter(names[0] for names in drawn(Order.WEIGHTED))

    assert first["high"] / 20_000 == pytest.approx(0.6, abs=0.02)
    assert first["low"] / 20_000 == pytest.approx(0.3, abs=0.02)
    assert first["bulk"] / 20_000 == pytest.approx(0.1, abs=0.02)


def test_weights_hold_among_the_queues_that_are_left() -> None:
    second = Counter(names[1] for names in drawn(Order.WEIGHTED) if names[0] == "high")

    assert second["low"] / second.total() == pytest.approx(0.75, abs=0.02)


def test_random_does_not_look_at_weights() -> None:
    first = Counter(names[0] for names in drawn(Order.RANDOM))

    assert all(count / 20_000 == pytest.approx(1 / 3, abs=0.02) for count in first.values())


@pytest.mark.parametrize("order", list(Order))
def test_one_queue_needs_no_dice(order: Order) -> None:
    def no_dice() -> float:
        raise AssertionError

    assert list(orders([("only", 1)], order, no_dice)()) == ["only"]


def test_the_lowest_throw_of_the_dice_is_an_order_too() -> None:
    assert sorted(orders(QUEUES, Order.WEIGHTED, lambda: 0.0)()) == ["bulk", "high", "low"]
