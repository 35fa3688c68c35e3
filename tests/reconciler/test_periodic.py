from __future__ import annotations

from reconciler.errors import SqlUnavailable
from reconciler.periodic import Periodic
from tests.waiting import eventually


def test_a_thread_that_fails_goes_on_and_works_again() -> None:
    calls: list[int] = []

    def fail_twice() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise SqlUnavailable("away")

    thread = Periodic("test", 0.001, fail_twice)
    thread.start()
    eventually(lambda: len(calls) > 5)

    assert thread.stop(5.0)


def test_a_thread_outlives_an_error_that_nobody_expected() -> None:
    calls: list[int] = []

    def divide() -> None:
        calls.append(1 // (len(calls) - 1))

    calls.append(0)
    thread = Periodic("test", 0.001, divide)
    thread.start()
    eventually(lambda: thread._failing)
    calls.append(0)
    eventually(lambda: len(calls) > 4)

    assert thread.stop(5.0)


def test_a_thread_that_never_began_can_be_stopped() -> None:
    assert Periodic("test", 1.0, lambda: None).stop(0.1)
