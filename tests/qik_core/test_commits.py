from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qik_core import commits
from qik_core.commits import Deferred, State
from qik_core.errors import NotEnqueued, QikError
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


class Sessions:
    """Stands where `reconciler` would: a session is any object."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []

    def defer(self, session: object, push: Deferred[Any]) -> None:
        self.waiting.append(push)

    def take(self, session: object) -> list[Deferred[Any]]:
        taken, self.waiting = self.waiting, []
        return taken

    def is_reconciled(self, job: str) -> bool:
        return False


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Sessions:
    sessions = Sessions()
    monkeypatch.setattr(commits, "_load", lambda: sessions)
    monkeypatch.setattr(commits, "_count", lambda jobs: None)
    return sessions


def test_without_reconciler_the_error_says_what_to_import() -> None:
    code = (
        "from tests.qik_core.jobs_of_tests import TakesInt\n"
        "try: TakesInt.after_commit(object()).perform_async(7)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("QikError after_commit has nothing that knows SQLAlchemy's")
    assert "`import reconciler`" in done.stdout


def test_pushes_are_delivered_in_their_order_and_each_keeps_its_answer(sessions: Sessions) -> None:
    order: list[int] = []

    def took(number: int) -> int:
        order.append(number)
        return number

    pushes = [Deferred("Job", [str(n)], partial(took, n)) for n in range(5)]

    commits.deliver(pushes)

    assert order == [each.result() for each in pushes] == list(range(5))
    assert {each.state for each in pushes} == {State.ANSWERED}


def test_an_interrupt_comes_out_and_what_is_left_goes_on_in_the_background(
    sessions: Sessions,
) -> None:
    ran = threading.Event()

    def interrupted() -> None:
        raise KeyboardInterrupt

    first, second = Deferred("Job", ["a"], interrupted), Deferred("Job", ["b"], ran.set)

    with pytest.raises(KeyboardInterrupt):
        commits.deliver([first, second])

    assert ran.wait(10)
    eventually(lambda: second.state is State.ANSWERED)
    with pytest.raises(KeyboardInterrupt):
        first.result()


def test_what_takes_longer_than_a_commit_may_wait_goes_on_in_the_background(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "PATIENCE", 0.0)
    threads: list[str] = []
    pushes = [
        Deferred("Job", [str(n)], lambda: threads.append(threading.current_thread().name))
        for n in range(3)
    ]

    commits.deliver(pushes)
    for each in pushes:
        each.result(timeout=10)

    assert {name.rpartition("_")[0] for name in threads} == {"qik-aio"}


def test_a_deferred_push_says_where_it_is(sessions: Sessions) -> None:
    one = Deferred("Charge", ["abc"], lambda: 7)
    many = Deferred("Charge", ["abc", "def"], lambda: 7)

    assert (repr(one), repr(many)) == (
        "<Deferred Charge abc waiting>",
        "<Deferred 2 Charge waiting>",
    )
    assert (one.jid, many.jid, Deferred("Charge", [], lambda: 7).jid) == ("abc", "abc", "")
    with pytest.raises(QikError, match="2 Charge waits for its transaction"):
        many.result()
    one.drop()
    with pytest.raises(NotEnqueued, match="Charge abc was not pushed: its transaction was rolled"):
        one.result()
