"""How often a server in trouble is asked, and from when on people hear of it."""

from __future__ import annotations

import pytest

from reconciler.switches.pacing import Answers, Pace, pause

PACE = Pace(5.0, 30.0)


def test_a_server_in_trouble_is_asked_ever_less_up_to_a_limit() -> None:
    assert [pause(PACE, failures, 0.0, 0.0) for failures in range(6)] == [5, 5, 10, 20, 30, 30]
    assert pause(PACE, 10_000, 0.0, 0.0) == 30.0
    assert pause(Pace(120.0, 120.0), 9, 0.0, 0.0) == 120.0


def test_a_server_may_ask_for_a_minute_and_not_for_a_day() -> None:
    assert pause(PACE, 1, 45.0, 0.0) == 45.0
    assert pause(PACE, 1, 86_400.0, 0.0) == 60.0


def test_dice_only_make_it_earlier() -> None:
    assert pause(PACE, 0, 0.0, 1.0) == pytest.approx(4.5)
    assert pause(PACE, 1, 0.0, 1.0) == pytest.approx(4.0)


def test_a_question_or_two_without_an_answer_worry_nobody() -> None:
    assert Answers(100.0, "answers 500").stale(5.0, 110.0) == ""
    assert Answers(100.0, "answers 500").stale(5.0, 117.0) == "answers 500, since 17.0 s"
    assert Answers(100.0, "").stale(5.0, 117.0) == "does not answer, since 17.0 s"


def test_who_looks_is_told_of_the_first_question_without_an_answer() -> None:
    assert Answers(100.0, "").said(5.0, 101.0) == ""
    assert Answers(100.0, "answers 500").said(5.0, 101.0) == "answers 500"
    assert Answers(100.0, "answers 500").said(5.0, 117.0) == "answers 500, since 17.0 s"


def test_a_server_that_never_answered_is_named_at_once() -> None:
    assert Answers(None, "").stale(5.0, 117.0) == ""
    assert Answers(None, "answers 500").stale(5.0, 117.0) == "answers 500"
