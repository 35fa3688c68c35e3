"""What a drill sees of a Redis, and does to it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from qik_core.drilling import Place, Scratch, Snapshot
from qik_core.errors import StoreError
from qik_core.store.exchange import Kind
from qik_core.store.link import Link
from tests.qik_core.store.rig import Rig, digest, other


@pytest.fixture
def rig(redis_url: str, raw: redis.Redis) -> Rig:
    return Rig(redis_url, raw)


@pytest.fixture
def scratch(redis_url: str) -> Iterator[Scratch]:
    made = Scratch(redis_url)
    yield made
    made.close()


def test_every_job_is_seen_where_it_is(rig: Rig, scratch: Scratch) -> None:
    rig.push(1, 2, 3, 4)
    rig.push(5, delays=[3600.0])
    rig.tell(6, delays=[3600.0])
    rig.push(7, unique=False)
    worker = rig.worker()
    first, second, *_ = worker.fetch(3)
    worker.exchange(other(first, Kind.RETRY, 3600.0), other(second, Kind.DEAD), want=0)

    census = scratch.census()

    assert census.at(Place.RETRYING) == {digest(1)}
    assert census.at(Place.DEAD) == {digest(2)}
    assert census.at(Place.RUNNING) == {digest(3)}
    assert census.at(Place.QUEUED) == {digest(4)}
    assert census.at(Place.SCHEDULED) == {digest(5), digest(6)}
    assert census.count(Place.QUEUED) == 2  # one of them without a lock
    assert census.count() == 7
    assert census.alive == {digest(each) for each in (1, 3, 4, 5, 6)}
    assert scratch.locks() == rig.locks() == 5


def test_a_wiped_redis_is_empty(rig: Rig, raw: redis.Redis, scratch: Scratch) -> None:
    rig.push(*range(400))
    raw.set("foreign", 1)

    assert scratch.wipe() > 3

    assert raw.dbsize() == 0
    assert scratch.wipe() == 0
    assert scratch.census().count() == 0


def test_lists_go_and_their_locks_stay_and_the_other_way_round(
    rig: Rig, raw: redis.Redis, scratch: Scratch
) -> None:
    rig.push(1, 2)
    rig.push(3, queue="other")

    assert scratch.drop_lists() == 2
    assert scratch.census().count() == 0
    assert rig.locks() == 3

    rig.push(4)
    assert scratch.drop_locks() == 1
    assert not list(raw.scan_iter("qik:unique:*"))
    assert scratch.census().at(Place.QUEUED) == {digest(4)}


def test_an_old_snapshot_comes_back_whole_and_nothing_newer_stays(
    rig: Rig, raw: redis.Redis, scratch: Scratch
) -> None:
    rig.push(1, 2)
    raw.set("short", "lived", px=60_000)
    keys = sorted(raw.scan_iter())
    before = {key: raw.dump(key) for key in keys}
    snapshot = scratch.snapshot()
    rig.worker().fetch()
    rig.push(3, queue="newer")

    assert scratch.restore(snapshot) == len(before)

    assert sorted(raw.scan_iter()) == keys
    assert {key: raw.dump(key) for key in keys} == before
    assert 0 < raw.pttl("short") <= 60_000
    assert raw.ttl("queue:default") == -1
    assert rig.queued() == [f"{1:024x}", f"{2:024x}"]


def test_a_snapshot_that_cannot_come_back_leaves_no_transaction_open(
    rig: Rig, raw: redis.Redis, scratch: Scratch
) -> None:
    rig.push(1)
    snapshot = scratch.snapshot()
    limit = scratch.limit(1)

    with pytest.raises(StoreError) as raised:
        scratch.restore(snapshot)
    assert "mixture" not in str(raised.value)  # nothing was done

    scratch.limit(limit)
    assert scratch.residents().keys == raw.dbsize()


def test_a_key_of_a_snapshot_that_is_refused_is_an_error_and_not_done(
    rig: Rig, scratch: Scratch
) -> None:
    rig.push(1)
    entries = scratch.snapshot().entries

    with pytest.raises(StoreError, match=r"mixture.*refused .'RESTORE', b'broken'.*DUMP payload"):
        scratch.restore(Snapshot([*entries, (b"broken", 0, b"no dump")]))

    assert scratch.restore(Snapshot(entries)) == len(entries)


@pytest.mark.parametrize("seen", [True, False], ids=["seen before", "new"])
def test_no_key_that_comes_while_a_redis_is_broken_outlives_it(
    raw: redis.Redis, scratch: Scratch, monkeypatch: pytest.MonkeyPatch, *, seen: bool
) -> None:
    call = Link.call
    tries = []

    def late(link: Link, *args: Any, **rest: Any) -> Any:
        if args[0] == "UNLINK":
            tries.append(args)
            raw.set("late" if seen else f"late {len(tries) // 3}", 1)
        return call(link, *args, **rest)

    raw.set("early", 1)
    snapshot = scratch.snapshot()
    raw.set("late", 1)
    scratch.wipe()
    monkeypatch.setattr(Link, "call", late)

    scratch.restore(snapshot)
    assert raw.keys() == [b"early"]
    assert scratch.wipe() > 0
    assert raw.dbsize() == 0
    assert seen is (len(tries) == 2)


def test_a_redis_into_which_others_write_all_the_time_is_not_called_empty(
    raw: redis.Redis, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, numbers = Link.call, itertools.count()

    def late(link: Link, *args: Any, **rest: Any) -> Any:
        if args[0] == "UNLINK":
            raw.set(f"session:{next(numbers)}", 1)
        return call(link, *args, **rest)

    raw.set("early", 1)
    monkeypatch.setattr(Link, "call", late)

    with pytest.raises(StoreError, match=r"^new keys.*who else uses it"):
        scratch.wipe()
    with pytest.raises(StoreError, match=r"mixture.*who else uses it"):
        scratch.restore(scratch.snapshot())


def test_memory_is_limited_and_given_back(raw: redis.Redis, scratch: Scratch) -> None:
    assert scratch.limit(1) == 0
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        raw.set("a", 1)

    assert scratch.limit(0) == 1
    raw.set("a", 1)


def test_residents_are_counted_and_some_of_them_named(raw: redis.Redis, scratch: Scratch) -> None:
    assert scratch.residents().keys == 0

    raw.mset({f"app:{number}": 1 for number in range(7)})

    found = scratch.residents()
    assert found.keys == 7
    assert found.names == ("app:0", "app:1", "app:2", "app:3", "app:4")
    assert scratch.server().split()[0] in ("valkey", "redis")
