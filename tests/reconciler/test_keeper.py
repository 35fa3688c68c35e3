from __future__ import annotations

from sqlalchemy import Engine, text

from reconciler.keeper import Keeper
from reconciler.lease import Change, Leases
from reconciler.ledger import Ledger


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
