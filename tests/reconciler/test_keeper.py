from __future__ import annotations

from sqlalchemy import Engine, text

from reconciler.errors import SqlUnavailable
from reconciler.keeper import Keeper, Periodic
from reconciler.lease import Change, Leases
from reconciler.ledger import Ledger
from tests.waiting import eventually


def keeper(home: Engine, holder: str) -> tuple[Keeper, list[Change]]:
    leases = Leases(home, ["a", "b"], 30.0, holder=holder)
    leases.register()
    changes: list[Change] = []
    return Keeper(leases, Ledger(home, holder), 0.01, changes.append), changes


def test_the_keeper_tells_of_what_was_taken_and_stays_silent_about_what_was_kept(
    home: Engine,
) -> None:
    one, changes = keeper(home, "one")
    one.once()
    one.once()

    assert [sorted(each.taken) for each in changes] == [["a", "b"]]


def test_the_keeper_tells_of_what_was_lost(home: Engine) -> None:
    one, changes = keeper(home, "one")
    one.once()
    with home.begin() as connection:
        connection.execute(
            text("UPDATE reconciler_lease SET holder = 'two', term = 9, expires_at = 1e12")
        )
    one.once()

    assert sorted(changes[-1].lost) == ["a", "b"]


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
