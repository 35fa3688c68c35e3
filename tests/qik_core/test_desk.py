"""What is left at a desk: questions whose answer nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from qik_core import registry
from qik_core.checks import Checks
from qik_core.desk import BLIND, PATIENCE
from qik_core.rows import Standing
from tests.qik_core.telling import Clock, Table, asked, before, clock, desk, row, threads
from tests.waiting import eventually

__all__ = ["clock", "desk", "row", "threads"]

PENDING, GONE, UNKNOWN = Standing.PENDING, Standing.GONE, Standing.UNKNOWN


pytestmark = pytest.mark.usefixtures("row")


# --- what is left at a desk ----------------------------------------------------------------


class Answers:
    """Takes answers from other threads."""

    def __init__(self) -> None:
        self.of: dict[int, list[Standing]] = {}
        self.threads: set[str] = set()

    def take(self, number: int) -> Callable[[Standing], None]:
        def deliver(said: Standing) -> None:
            self.threads.add(threading.current_thread().name)
            self.of.setdefault(number, []).append(said)

        return deliver


def leave(desk: Checks, table: Table, answers: Answers, *numbers: int) -> None:
    for number in numbers:
        desk.afterwards(table, asked(number), answers.take(number))


def test_what_is_left_is_answered_from_another_thread_many_in_one_question() -> None:
    desk, table, answers = Checks(registry.find), Table(*range(0, 400, 2)), Answers()
    table.gate.clear()
    leave(desk, table, answers, 0)
    eventually(lambda: table.looks)
    leave(desk, table, answers, *range(1, 400))
    assert answers.of == {}
    table.gate.set()

    eventually(lambda: len(answers.of) == 400)
    assert answers.of == {n: [GONE if n % 2 else PENDING] for n in range(400)}
    assert [len(look) for look in table.looks] == [1, 250, 149]
    assert answers.threads == {"rows-Row"}


def test_a_thread_that_asks_takes_along_what_was_left(threads: ThreadPoolExecutor) -> None:
    desk, table, answers = Checks(registry.find), Table(1), Answers()
    table.gate.clear()
    first = threads.submit(before, desk, table, 5)
    eventually(lambda: table.looks)
    leave(desk, table, answers, 1, 2)
    table.gate.set()

    assert first.result(10) is GONE
    eventually(lambda: answers.of == {1: [PENDING], 2: [GONE]})


def test_what_is_left_while_nothing_can_be_known_is_answered_at_once(
    desk: Checks, clock: Clock
) -> None:
    table, answers = Table(1), Answers()
    table.down = True
    before(desk, table, 9)
    leave(desk, table, answers, 1)
    assert answers.of == {1: [UNKNOWN]}
    assert len(table.looks) == 1

    clock.now += BLIND
    table.down = False
    leave(desk, table, answers, 2)
    eventually(lambda: answers.of == {1: [UNKNOWN], 2: [GONE]})


def test_what_was_left_behind_a_question_that_hangs_is_given_up(desk: Checks, clock: Clock) -> None:
    table, answers = Table(1), Answers()
    table.gate.clear()
    leave(desk, table, answers, 1)
    eventually(lambda: table.looks)
    leave(desk, table, answers, 2, 3)
    assert answers.of == {}

    clock.now += PATIENCE + 0.1
    leave(desk, table, answers, 4)
    assert answers.of == {2: [UNKNOWN], 3: [UNKNOWN], 4: [UNKNOWN]}
    table.gate.set()
    eventually(lambda: answers.of.get(1) == [PENDING])


def test_what_was_left_when_a_question_failed_is_not_asked_for_in_vain(
    desk: Checks, clock: Clock
) -> None:
    table, answers = Table(1), Answers()
    table.gate.clear()
    table.down = True
    leave(desk, table, answers, 1)
    eventually(lambda: table.looks)
    leave(desk, table, answers, 2)
    table.gate.set()

    eventually(lambda: answers.of == {1: [UNKNOWN], 2: [UNKNOWN]})
    assert len(table.looks) == 1


def test_a_desk_that_is_closed_ends_its_thread_behind_what_was_left() -> None:
    desk, table, answers = Checks(registry.find), Table(1), Answers()
    table.gate.clear()
    leave(desk, table, answers, 1)
    eventually(lambda: table.looks)
    leave(desk, table, answers, 2)
    desk.close()
    thread = desk._desk("Row")._left
    assert thread is not None
    table.gate.set()

    thread.join(10)
    assert not thread.is_alive()
    assert answers.of == {1: [PENDING], 2: [GONE]}
