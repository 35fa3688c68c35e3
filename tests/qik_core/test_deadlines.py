from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from qik_core.deadlines import Deadlines
from qik_core.errors import JobTimeout
from tests.waiting import eventually


def started(run: Callable[[], None]) -> None:
    threading.Thread(target=run, daemon=True).start()


def deadlines(stuck: list[bytes], grace: float = 5.0) -> Deadlines:
    return Deadlines(started, stuck.append, grace=grace)


def spin(until: threading.Event | None = None) -> None:
    """Work in Python until interrupted, or until told to end."""
    end = time.monotonic() + 20
    while time.monotonic() < end and not (until is not None and until.is_set()):
        pass


def test_a_run_that_ends_in_time_returns_what_it_returns() -> None:
    assert deadlines([]).run(5.0, b"1.1", lambda: 7) == 7


def test_an_error_of_the_run_is_the_runs_own() -> None:
    with pytest.raises(ZeroDivisionError):
        deadlines([]).run(5.0, b"1.1", lambda: 1 / 0)


def test_a_run_that_takes_too_long_is_interrupted_and_told_its_limit() -> None:
    with pytest.raises(JobTimeout, match=r"timeout of 0\.05 s"):
        deadlines([]).run(0.05, b"1.1", spin)


def test_a_run_may_clean_up_after_its_interruption() -> None:
    cleaned: list[int] = []

    def work() -> None:
        try:
            spin()
        finally:
            cleaned.append(1)

    with pytest.raises(JobTimeout):
        deadlines([]).run(0.05, b"1.1", work)
    assert cleaned == [1]


def test_an_interruption_never_reaches_what_the_thread_does_next() -> None:
    """Runs that end at the very moment of their deadline, many times."""
    watch, late = deadlines([]), 0
    for round_ in range(300):
        until = time.monotonic() + 0.002
        try:
            watch.run(0.002 + (round_ % 7) * 1e-5, b"1.1", lambda until=until: _until(until))  # type: ignore[misc]
        except JobTimeout:
            late += 1
        _until(time.monotonic() + 0.0003)
    assert late < 300


def _until(moment: float) -> None:
    while time.monotonic() < moment:
        pass


def test_a_run_that_does_not_react_is_stuck_and_named() -> None:
    stuck: list[bytes] = []
    watch, over = deadlines(stuck, grace=0.05), threading.Event()

    def ignore() -> None:
        while not over.is_set():
            try:
                spin(over)
            except JobTimeout:
                continue

    thread = threading.Thread(target=lambda: watch.run(0.05, b"1.7", ignore), daemon=True)
    thread.start()
    eventually(lambda: stuck == [b"1.7"])
    over.set()
    thread.join(5)


def test_a_run_elsewhere_is_watched_until_it_says_that_it_is_over() -> None:
    stuck: list[bytes] = []
    seen: list[str] = []
    watch = deadlines(stuck, grace=0.01)
    over = watch.watch(0.01, b"1.1", lambda: seen.append("interrupted"))
    eventually(lambda: stuck == [b"1.1"])
    over()
    assert seen == ["interrupted"]

    quick = watch.watch(0.01, b"1.2", lambda: seen.append("never"))
    quick()
    watch.watch(0.05, b"1.3", lambda: seen.append("last"))
    eventually(lambda: "last" in seen)
    assert "never" not in seen


def test_many_runs_have_their_own_deadlines() -> None:
    watch = deadlines([])
    ended: list[str] = []

    def run(name: str, limit: float) -> None:
        try:
            watch.run(limit, name.encode(), spin)
        except JobTimeout:
            ended.append(name)

    threads = [
        threading.Thread(target=run, args=(name, limit), daemon=True)
        for name, limit in (("b", 0.4), ("a", 0.05))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert ended == ["a", "b"]
