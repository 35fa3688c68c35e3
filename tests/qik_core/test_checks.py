"""Questions about rows, asked by many threads at once."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from qik_core import registry
from qik_core.checks import Checks
from qik_core.desk import BLIND, FRESH, MOST, PATIENCE
from qik_core.payload import Payload
from qik_core.rows import Asked, Standing
from qik_core.store.ended import EndedKind
from tests.qik_core.telling import (
    Clock,
    Table,
    asked,
    before,
    clock,
    desk,
    field,
    job,
    row,
    threads,
)
from tests.waiting import eventually

__all__ = ["clock", "desk", "row", "threads"]

PENDING, GONE, UNKNOWN = Standing.PENDING, Standing.GONE, Standing.UNKNOWN


pytestmark = pytest.mark.usefixtures("row")


# --- one question --------------------------------------------------------------------


def test_a_row_that_matches_is_pending_and_one_that_does_not_is_gone(desk: Checks) -> None:
    table = Table(1)

    assert [before(desk, table, n) for n in (1, 2)] == [PENDING, GONE]
    assert [desk.after(table, asked(n)) for n in (1, 2)] == [PENDING, GONE]
    assert desk.take_unchecked() == 0


def test_a_class_that_is_not_checked_is_not_asked_for(desk: Checks) -> None:
    table = Table()
    table.checks = table.progresses = False

    assert before(desk, table, 1) is PENDING
    assert not desk.expects(table, "Row")
    assert table.looks == []


# --- many in one -----------------------------------------------------------------------


def ask_all(
    desk: Checks, table: Table, threads: ThreadPoolExecutor, numbers: Sequence[int]
) -> list[Future[Standing]]:
    """Let the first one ask, and the others come while its question is under way."""
    table.gate.clear()
    first = threads.submit(before, desk, table, numbers[0])
    eventually(lambda: len(table.looks) == 1)
    rest = [threads.submit(before, desk, table, number) for number in numbers[1:]]
    eventually(lambda: desk._desk("Row").waiting == len(rest))
    return [first, *rest]


def test_threads_that_come_while_a_question_is_under_way_are_asked_for_by_the_next_one(
    desk: Checks, threads: ThreadPoolExecutor
) -> None:
    table = Table(*range(0, 30, 2))
    answers = ask_all(desk, table, threads, range(30))
    table.gate.set()

    assert [each.result(10) for each in answers] == [GONE if n % 2 else PENDING for n in range(30)]
    assert [sorted(look) for look in table.looks] == [[0], list(range(1, 30))]


def test_the_jobs_in_the_pocket_are_asked_for_along_and_each_answer_is_used_once(
    desk: Checks,
) -> None:
    table = Table(1, 2)
    desk.ahead = lambda: [job(2), job(3), job(4, "Other"), job(5, args=["x"]), job(6, args=[])]

    assert before(desk, table, 1) is PENDING
    assert [before(desk, table, n) for n in (2, 3)] == [PENDING, GONE]
    assert table.looks == [[1, 2, 3]]
    table.pending.clear()
    assert before(desk, table, 2) is GONE


def test_what_was_answered_in_advance_is_good_for_a_second(desk: Checks, clock: Clock) -> None:
    table = Table(1, 2, 3)
    desk.ahead = lambda: [job(2), job(3)]
    before(desk, table, 1)
    table.pending.clear()

    clock.now += FRESH
    assert before(desk, table, 2) is PENDING
    clock.now += 0.01
    assert before(desk, table, 3) is GONE


def test_what_is_known_already_is_not_asked_for_again(desk: Checks) -> None:
    table = Table(1, 2)
    desk.ahead = lambda: [job(2)]
    before(desk, table, 1)
    before(desk, table, 9)

    assert table.looks == [[1, 2], [9]]


def test_after_a_run_nothing_counts_that_was_asked_before_its_end(
    desk: Checks, threads: ThreadPoolExecutor
) -> None:
    table = Table(1, 2)
    desk.ahead = lambda: [job(1)]
    before(desk, table, 2)
    table.pending.clear()

    assert desk.after(table, asked(1)) is GONE
    table.pending.add(1)
    table.gate.clear()
    one = threads.submit(desk.after, table, asked(1))
    eventually(lambda: len(table.looks) == 3)
    two = threads.submit(desk.after, table, asked(1))
    eventually(lambda: desk._desk("Row").waiting)
    table.gate.set()
    one.result(10)
    table.pending.clear()  # both were read by now, or the second reads this
    assert two.result(10) in (PENDING, GONE)
    assert len(table.looks) == 4


def test_one_question_is_about_at_most_250_jobs(desk: Checks) -> None:
    table = Table()
    desk.ahead = lambda: [job(n) for n in range(1, 1_000)]
    before(desk, table, 0)

    assert len(table.looks[0]) == MOST
    assert desk._desk("Row").recall(field(1)) is GONE


def test_what_was_answered_and_never_used_is_forgotten(desk: Checks, clock: Clock) -> None:
    table = Table()
    desk.ahead = lambda: [job(n) for n in range(1, 100)]
    before(desk, table, 0)
    clock.now += FRESH + 0.1
    desk.ahead = tuple
    before(desk, table, 0)

    assert desk._desk("Row").known == 0


def test_classes_do_not_wait_for_each_other(desk: Checks, threads: ThreadPoolExecutor) -> None:
    stuck, free = Table(), Table(1)
    stuck.gate.clear()
    hangs = threads.submit(before, desk, stuck, 1)
    eventually(lambda: stuck.looks)

    assert desk.before(free, Asked("Other", (1,), ""), b"2.1") is PENDING
    stuck.gate.set()
    assert hangs.result(10) is GONE


# --- when nothing can be known -----------------------------------------------------------


def test_after_an_answer_that_says_nothing_none_is_asked_for_a_second(
    desk: Checks, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(1)
    table.down = True
    with caplog.at_level(logging.WARNING):
        assert [before(desk, table, n) for n in (1, 2, 3)] == [UNKNOWN] * 3
    assert len(table.looks) == 1
    assert desk.take_unchecked() == 3
    assert desk.take_unchecked() == 0
    assert [each.message for each in caplog.records] == [
        "the rows of jobs cannot be asked for: the jobs run unchecked"
    ]

    table.down = False
    clock.now += BLIND
    assert before(desk, table, 1) is PENDING


def test_a_question_that_took_long_in_vain_is_not_repeated_for_as_long(
    desk: Checks, clock: Clock
) -> None:
    table = Table()

    def look(asked: Sequence[Asked], /) -> Sequence[Standing]:
        clock.now += 5
        return [UNKNOWN] * len(asked)

    table.look = look  # type: ignore[method-assign]
    before(desk, table, 1)
    table = Table(1)
    clock.now += 4.9
    assert before(desk, table, 1) is UNKNOWN
    clock.now += 0.2
    assert before(desk, table, 1) is PENDING


def test_one_row_that_cannot_be_known_does_not_blind_the_class(desk: Checks) -> None:
    table = Table(1, 2)
    ask = table.look

    def look(asked: Sequence[Asked], /) -> Sequence[Standing]:
        return [UNKNOWN if each.args[0] == 1 else ask([each])[0] for each in asked]

    table.look = look  # type: ignore[method-assign]
    desk.ahead = lambda: [job(2)]
    assert [before(desk, table, n) for n in (1, 2, 3)] == [UNKNOWN, PENDING, GONE]


def test_a_database_that_hangs_holds_one_thread_and_the_others_for_a_moment(
    threads: ThreadPoolExecutor,
) -> None:
    desk = Checks(registry.find)
    table = Table(*range(10))
    answers = ask_all(desk, table, threads, range(10))

    assert {each.result(10 * PATIENCE) for each in answers[1:]} == {UNKNOWN}
    assert (
        before(desk, table, 11) is UNKNOWN
    )  # at once: that question is older than anybody's patience
    assert not answers[0].done()
    assert len(table.looks) == 1
    table.gate.set()
    assert answers[0].result(10) is PENDING
    assert desk._desk("Row").waiting == 0


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_what_breaks_while_asking_is_told_and_the_job_runs(
    desk: Checks, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(1)
    table.fails = error

    assert before(desk, table, 1) is UNKNOWN
    assert "a defect" in caplog.text


@pytest.mark.parametrize("method", ["reconciled", "checked", "progress"])
def test_a_defect_in_what_knows_rows_ends_no_job(
    desk: Checks, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str, /) -> bool:
        raise KeyError(name)

    table = Table(1)
    setattr(table, method, broken)
    checks = Checks(registry.find, lambda: table)
    answers = checks.seam_of("Row"), before(checks, table, 1), checks.expects(table, "Row")

    expected = {
        "reconciled": (None, PENDING, True),
        "checked": (table, UNKNOWN, True),
        "progress": (table, PENDING, False),
    }
    assert answers == expected[method]
    assert "check of rows met a defect" in caplog.text


def test_a_class_that_can_never_be_asked_for_is_logged_once_a_minute(
    desk: Checks, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(1)
    table.down = True
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            before(desk, table, 1)
            clock.now += BLIND
    assert (len(table.looks), len(caplog.records)) == (100, 2)


def test_answers_that_are_too_few_are_no_answers(desk: Checks) -> None:
    table = Table(1)
    table.look = lambda asked: []  # type: ignore[method-assign]

    assert before(desk, table, 1) is UNKNOWN


def test_the_answers_keep_apart_under_many_threads(threads: ThreadPoolExecutor) -> None:
    desk = Checks(registry.find)
    table = Table(*range(0, 400, 3))
    numbers = list(range(400)) * 5
    start = threading.Barrier(40)

    def ask(part: int) -> list[bool]:
        start.wait(10)
        return [
            before(desk, table, number) is (GONE if number % 3 else PENDING)
            for number in numbers[part::40]
        ]

    results = [each for part in threads.map(ask, range(40)) for each in part]
    assert len(results) == 2_000
    assert all(results)
    assert sum(map(len, table.looks)) == 2_000


# --- notes ---------------------------------------------------------------------------------


def test_only_classes_with_a_reconciler_have_notes() -> None:
    table = Table()
    payload = Payload.decode(job(7).raw)

    assert Checks(registry.find, lambda: None).note(EndedKind.DIED, payload) == b""
    noted = Checks(registry.find, lambda: table).note(EndedKind.DIED, payload, "E: x")
    kind, _, rest = noted.partition(b" ")
    assert kind == b"died"
    assert json.loads(rest) == {
        "name": "Row",
        "digest": "",
        "args": [7],
        "jid": "j",
        "error": "E: x",
    }
    table.others = frozenset({"Row"})
    assert Checks(registry.find, lambda: table).note(EndedKind.DIED, payload) == b""
