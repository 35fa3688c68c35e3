from __future__ import annotations

from typing import Any

import pytest

from qik_core.errors import WrongType
from qik_core.results import Code
from qik_core.store.flush import FlushStore, Home, Place, home_of
from qik_core.store.link import Link
from qik_core.store.rolls import Roll
from tests.qik_core.store.rig import Rig, jid

QUEUE = Home(Place.QUEUED, b"queue:default")
FOREIGN = b'{"class":"Ruby","jid":"abc","args":[]}'


@pytest.fixture
def flush(rig: Rig) -> FlushStore:
    made = FlushStore(rig.store, "alice")
    assert made.turn() == ""
    return made


def aside(flush: FlushStore, home: Home = QUEUE) -> Home:
    """Put a list aside; return where it is."""
    flush.aside(home)
    (found,) = flush.asides()
    return found


def sort(flush: FlushStore, home: Home, gone: str) -> bool:
    """Sort the next jobs: x is removed, anything else goes back."""
    length, raws = flush.head(home)
    assert len(raws) >= len(gone)
    return flush.sort(home, length, [each == "x" for each in gone])


def state(rig: Rig, key: int) -> str:
    return (rig.lock(key) or "-")[0]


# --- aside ---------------------------------------------------------------------------------------


def test_a_list_that_is_aside_is_fetched_by_nobody_and_its_locks_stay(
    rig: Rig, flush: FlushStore
) -> None:
    rig.push(1, 2, 3)

    where = aside(flush)

    assert where.trash.startswith(b"qik:trash:")
    assert where.trash.endswith(b":queue:default")
    assert rig.worker().fetch() == []
    assert [state(rig, key) for key in (1, 2, 3)] == ["q", "q", "q"]
    assert rig.tell(9, keys=[1]) == [Code.DUPLICATE_QUEUED]
    assert rig.store.audit(["default"]) == 0, "nobody has deleted anything"
    assert rig.raw.smembers("qik:aside") == {where.trash}


def test_what_comes_to_a_queue_while_its_list_is_aside_goes_aside_next_to_it(
    rig: Rig, flush: FlushStore
) -> None:
    rig.push(1)
    flush.aside(QUEUE)
    rig.push(2)
    flush.aside(QUEUE)

    assert len(flush.asides()) == 2


def test_an_empty_list_does_not_go_aside(flush: FlushStore) -> None:
    assert flush.aside(QUEUE) == 0
    assert flush.asides() == []


def test_a_list_from_which_somebody_has_deleted_goes_aside_and_calls_for_a_roll(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1, 2)
    raw.rpop("queue:default")

    aside(flush)

    assert raw.get("qik:roll") == b"1"


def test_suspects_go_aside_and_come_back_as_suspects(rig: Rig, flush: FlushStore, raw: Any) -> None:
    rig.push(1)
    raw.rename("queue:default", "qik:suspect:default")
    raw.rename("qik:n:queue:default", "qik:n:qik:suspect:default")
    raw.sadd("qik:suspects", "default")

    where = aside(flush, Home(Place.QUEUED, b"qik:suspect:default"))
    assert not raw.sismember("qik:suspects", "default")
    sort(flush, where, "b")

    assert raw.sismember("qik:suspects", "default")
    assert raw.llen("qik:suspect:default") == 1
    assert raw.get("qik:n:qik:suspect:default") == b"1"


def test_a_key_of_another_type_is_no_list_and_is_left_alone(flush: FlushStore, raw: Any) -> None:
    raw.set("queue:default", "mine")
    raw.set("qik:later:default", "mine")

    assert [each.key for each in flush.homes()] == []
    with pytest.raises(WrongType, match="queue:default"):
        flush.aside(QUEUE)
    assert raw.get("queue:default") == b"mine"


# --- sort ----------------------------------------------------------------------------------------


def test_jobs_are_removed_with_their_locks_and_the_others_go_back_in_their_order(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(*range(1, 7))
    before = rig.queued()
    locks = [rig.lock(key) for key in range(1, 7)]
    where = aside(flush)

    sort(flush, where, "bxb")
    sort(flush, where, "xbb")

    gone = [jid(5).decode(), jid(3).decode()]
    assert rig.queued() == [each for each in before if each not in gone]
    assert [rig.lock(key) for key in (1, 2, 4, 6)] == [locks[each - 1] for each in (1, 2, 4, 6)]
    assert rig.lock(5) is rig.lock(3) is None
    assert raw.get("qik:n:queue:default") == b"4"
    assert flush.asides() == []
    assert not raw.exists("qik:aside")
    assert rig.tell(33, keys=[3]) == [Code.ENQUEUED]


def test_a_step_that_was_done_already_is_done_once(rig: Rig, flush: FlushStore) -> None:
    rig.push(1, 2, 3)
    where = aside(flush)
    length, _ = flush.head(where)

    assert flush.sort(where, length, [True])
    assert not flush.sort(where, length, [True]), "as when it is sent again"
    assert flush.head(where)[0] == 2


def test_a_job_that_goes_back_without_a_lock_gets_one_unless_another_holds_the_key(
    rig: Rig, flush: FlushStore
) -> None:
    rig.push(1, 2)
    where = aside(flush)
    flush.renew(rig.store.look().loss)
    rig.push(21, keys=[2])

    sort(flush, where, "bb")

    assert (rig.lock(1) or "").endswith(jid(1).decode())
    assert (rig.lock(2) or "").endswith(jid(21).decode())
    assert state(rig, 1) == "q"


def test_the_lock_of_a_run_stays_when_another_copy_of_its_job_is_removed(
    rig: Rig, flush: FlushStore
) -> None:
    rig.push(1)
    (job,) = rig.worker().fetch()
    rig.raw.lpush("queue:default", job.raw)
    where = aside(flush)

    sort(flush, where, "x")

    assert state(rig, 1) == "r"


def test_what_others_have_pushed_goes_back_as_it_was(rig: Rig, flush: FlushStore, raw: Any) -> None:
    raw.lpush("queue:default", FOREIGN, b"no json", b'{"qik":"-","jid":"","x":1}')
    before = raw.lrange("queue:default", 0, -1)
    where = aside(flush)

    sort(flush, where, "bbb")

    assert raw.lrange("queue:default", 0, -1) == before
    assert raw.get("qik:n:queue:default") == b"1", "as a push by hand counts what begins as ours"


def test_a_queue_that_has_become_another_type_takes_nothing_and_loses_nothing(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1)
    where = aside(flush)
    raw.set("queue:default", "mine")

    with pytest.raises(WrongType):
        sort(flush, where, "b")
    assert raw.llen(where.trash) == 1


def test_a_process_that_sleeps_is_woken_by_what_comes_back(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1)
    where = aside(flush)
    rig.worker().fetch()

    sort(flush, where, "b")

    assert raw.exists("qik:wake:host:1:aaaa")


# --- everything ----------------------------------------------------------------------------------


def test_a_new_loss_id_voids_all_locks_and_is_made_once(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1)
    before = rig.store.look()

    first = flush.renew(before.loss)
    second = flush.renew(before.loss)

    assert first.loss != before.loss
    assert first.generation != before.generation
    assert second == first == rig.store.look()
    assert rig.locks() == 0
    assert not raw.exists(f"qik:unique:{before.generation}")
    seconds, micros = raw.time()
    assert 0 <= seconds * 1000 + micros / 1000 - first.birth_ms < 60_000


def test_a_new_loss_id_ends_a_roll_under_way(rig: Rig, flush: FlushStore, raw: Any) -> None:
    roll = Roll(rig.link, rig.store.candidate, "me")
    assert roll.begin()
    before = rig.store.look()

    flush.renew(before.loss)

    assert not roll.walk()
    after = rig.store.look()
    assert after.previous is None
    assert list(raw.scan_iter("qik:unique:*")) == [f"qik:unique:{after.generation}".encode()]


def test_what_stays_in_a_sorted_set_gets_its_lock_again_as_it_was(
    rig: Rig, flush: FlushStore
) -> None:
    rig.push(1, delays=[60])
    rig.tell(2, delays=[90])
    records = [rig.lock(1), rig.lock(2)]
    flush.renew(rig.store.look().loss)

    for home in flush.homes():
        for window in flush.windows(home):
            flush.keep(home, [each.raw for each in window.entries], window.at)

    assert [rig.lock(1), rig.lock(2)] == records
    assert rig.edge(11, keys=[1]) == [Code.ADVANCED]


def test_what_has_left_a_sorted_set_gets_no_lock(rig: Rig, flush: FlushStore, raw: Any) -> None:
    rig.push(1, delays=[60])
    (raws,) = raw.zrange("schedule", 0, -1)
    flush.renew(rig.store.look().loss)
    raw.delete("schedule")

    flush.keep(Home(Place.SCHEDULED, b"schedule"), [raws], None)

    assert rig.locks() == 0


# --- a roll meets what is aside ------------------------------------------------------------------


def test_a_roll_keeps_the_locks_of_jobs_that_are_aside_while_a_flush_takes_them(
    rig: Rig, flush: FlushStore
) -> None:
    rig.push(*range(1, 401))
    rig.push(*range(401, 701))
    where = aside(flush)
    walked: list[int] = []

    class Between(Link):
        """Lets the flush take a step behind each step of the walk."""

        def run(self, name: str, *rest: Any) -> Any:
            answer = super().run(name, *rest)
            if name == "roll_walk" and rest[0] == (where.trash,) and not walked:
                walked.append(1)
                sort(flush, where, "x" * 100)
            return answer

    roll = Roll(Between(rig.url), rig.store.candidate, "me")
    assert roll.begin()

    assert roll.walk()
    assert roll.end() == 0

    assert walked
    assert rig.locks() == 600


def test_names_that_are_nobodys_queue_are_no_place_for_jobs() -> None:
    assert home_of(b"queue:a b") is None
    assert home_of(b"queues") is None
    assert home_of(b"qik2:later:x") is None
    assert home_of(b"queue:mail") == Home(Place.QUEUED, b"queue:mail")
    assert home_of(b"qik:held:Mail+") == Home(Place.HELD, b"qik:held:Mail+")
