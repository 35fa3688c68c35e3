from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, select, text, update

from reconciler.errors import NotMigrated, SqlUnavailable
from reconciler.lease import Leases, identity
from reconciler.sql import writing
from reconciler.tables import lease
from tests.waiting import eventually

NAMES = ["a", "b", "c"]


class Watch:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def leases(home: Engine, holder: str, ttl: float = 30.0, **options: Any) -> Leases:
    made = Leases(home, NAMES, ttl, holder=holder, **{"now": Watch(), **options})
    made.register()
    return made


def expire(home: Engine) -> None:
    with writing(home) as connection:
        connection.execute(update(lease).values(expires_at=1.0))


def test_the_first_process_takes_every_lease_in_term_one(home: Engine) -> None:
    one = leases(home, "one")

    change = one.renew()

    assert sorted(change.taken) == NAMES
    assert [one.term(name) for name in NAMES] == [1, 1, 1]


def test_processes_share_leases_out_and_the_one_with_more_gives_what_is_idle(home: Engine) -> None:
    one = leases(home, "one", busy=lambda name: name == "a")
    one.renew()
    two = leases(home, "two")

    two.renew()
    given = one.renew().given
    taken = two.renew().taken

    assert len(given) == 1
    assert "a" not in given
    assert list(taken) == list(given)
    assert one.renew().given == two.renew().given == []


def test_a_process_that_ended_without_a_word_counts_until_its_lease_has_expired(
    home: Engine,
) -> None:
    gone, one = leases(home, "gone", ttl=0.5), leases(home, "one")
    gone.renew()
    one.renew()
    gone.renew()

    eventually(lambda: one.renew().taken and all(one.term(name) for name in NAMES), 5.0)


def test_processes_with_other_reconcilers_do_not_count(home: Engine) -> None:
    other = Leases(home, ["x", "y"], 30.0, holder="other")
    other.register()
    other.renew()

    assert sorted(leases(home, "one").renew().taken) == NAMES


def test_rows_of_processes_do_not_stay(home: Engine) -> None:
    one, crashed = leases(home, "one"), leases(home, "crashed")
    one.renew()
    crashed.renew()
    one.release()
    expire(home)
    leases(home, "new")

    with home.connect() as connection:
        query = select(lease.c.shard).where(lease.c.reconciler.startswith("#"))
        assert connection.execute(query).scalars().all() == ["new"]


def test_a_lease_that_is_held_is_not_taken(home: Engine) -> None:
    leases(home, "one").renew()
    two = leases(home, "two")

    assert two.renew().taken == []
    assert two.term("a") is None


def test_renewing_keeps_the_term(home: Engine) -> None:
    one = leases(home, "one")
    one.renew()

    change = one.renew()

    assert (list(change.taken), list(change.lost)) == ([], [])
    assert one.term("a") == 1


def test_an_expired_lease_is_taken_in_the_next_term_and_its_holder_learns_of_it(
    home: Engine,
) -> None:
    one = leases(home, "one")
    one.renew()
    expire(home)
    two = leases(home, "two")

    assert sorted(two.renew().taken) == NAMES
    assert two.term("a") == 2
    assert sorted(one.renew().lost) == NAMES
    assert one.term("a") is None


def test_expiry_is_judged_by_the_databases_clock_alone(home: Engine) -> None:
    one = leases(home, "one", ttl=0.2)
    one.renew()
    two = leases(home, "two", ttl=30.0)

    eventually(lambda: two.renew().taken, 5.0, "the lease expires in the database")


def test_a_slow_renewal_shortens_the_trust(home: Engine) -> None:
    clock = Watch()
    one = leases(home, "one", ttl=30.0, now=clock)
    slow = one._exchange

    def answer_late(*args: Any) -> Any:
        clock.now += 28.0
        return slow(*args)

    one._exchange = answer_late  # type: ignore[assignment, method-assign]
    one.renew()
    assert one.term("a") == 1

    clock.now += 1.0
    assert one.term("a") is None


def test_trust_ends_by_our_own_clock_before_the_lease_does(home: Engine) -> None:
    clock = Watch()
    one = leases(home, "one", ttl=30.0, now=clock)
    one.renew()

    clock.now += 28.9
    assert one.term("a") == 1
    clock.now += 0.2
    assert one.term("a") is None


def test_a_lease_that_was_not_trusted_for_a_while_counts_as_taken_again(home: Engine) -> None:
    clock = Watch()
    one = leases(home, "one", ttl=30.0, now=clock)
    one.renew()

    clock.now += 60.0
    change = one.renew()

    assert sorted(change.taken) == NAMES
    assert one.term("a") == 1


def test_a_renewal_that_fails_steps_down_from_everything(home: Engine) -> None:
    one = leases(home, "one")
    one.renew()
    with home.begin() as connection:
        connection.execute(text("ALTER TABLE reconciler_lease RENAME TO elsewhere"))

    with pytest.raises(NotMigrated):
        one.renew()

    assert [one.term(name) for name in NAMES] == [None, None, None]


def test_after_stepping_down_a_process_takes_its_own_leases_again_in_a_new_term(
    home: Engine,
) -> None:
    one = leases(home, "one")
    one.renew()
    one.forget()

    assert sorted(one.renew().taken) == NAMES
    assert one.term("a") == 2


def test_leases_given_back_are_free_at_once(home: Engine) -> None:
    one, two = leases(home, "one"), leases(home, "two")
    one.renew()

    one.release()

    assert sorted(two.renew().taken) == NAMES
    assert one.term("a") is None


def test_a_process_that_was_forgotten_cannot_release_its_successor(home: Engine) -> None:
    one, two = leases(home, "one"), leases(home, "two")
    one.renew()
    expire(home)
    two.renew()

    one.release()

    with home.connect() as connection:
        query = select(lease.c.holder).where(lease.c.reconciler.in_(NAMES))
        holders = connection.execute(query).scalars().all()
    assert set(holders) == {"two"}


def test_of_many_processes_that_start_at_once_each_lease_has_one_holder(home: Engine) -> None:
    many = [leases(home, f"p{number}") for number in range(6)]
    gate = threading.Barrier(len(many))

    def take(one: Leases) -> None:
        gate.wait()
        one.renew()

    threads = [threading.Thread(target=take, args=(one,)) for one in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for name in NAMES:
        assert sum(one.term(name) is not None for one in many) == 1


def test_registering_at_once_from_many_processes_makes_one_row_each(home: Engine) -> None:
    threads = [threading.Thread(target=leases, args=(home, f"p{number}")) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with home.connect() as connection:
        query = select(lease.c.reconciler).where(lease.c.shard == "")
        names = connection.execute(query).scalars().all()
    assert sorted(names) == NAMES


def test_a_database_that_is_away_is_said_to_be_so(home: Engine) -> None:
    one = leases(home, "one")
    one.renew()
    one._home = home.execution_options()
    from reconciler.engines import make

    one._home = make("postgresql+psycopg://127.0.0.1:1/x")
    with pytest.raises(SqlUnavailable):
        one.renew()

    assert one.term("a") is None


def test_no_two_starts_have_one_identity() -> None:
    assert len({identity() for _ in range(100)}) == 100
