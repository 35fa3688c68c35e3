"""A flush of lists of held jobs, to which others push meanwhile; and of lists whose count is none."""

from __future__ import annotations

from typing import Any

import pytest

from qik_core.store.flush import FlushStore, Home, Place, TurnLost
from qik_core.store.records import Claim
from tests.qik_core.store.rig import Rig, jid
from tests.qik_core.store.test_flush import QUEUE, aside, sort, state


@pytest.fixture
def flush(rig: Rig) -> FlushStore:
    made = FlushStore(rig.store, "alice")
    assert made.turn() == ""
    return made


HELD = Home(Place.HELD, b"qik:held:Charge")


def held(rig: Rig, count: int) -> None:
    """Let so many jobs be held."""
    for start in range(1, count + 1, 400):
        rig.push(*range(start, min(start + 400, count + 1)))
    rig.raw.rename("queue:default", HELD.key)
    rig.raw.delete("qik:n:queue:default")
    rig.raw.hset("qik:held", "Charge", sum(map(len, rig.raw.lrange(HELD.key, 0, -1))))


def push(rig: Rig, *numbers: int) -> None:
    """Let more jobs be held, at the end where pushes arrive."""
    for start in range(0, len(numbers), 400):
        rig.push(*numbers[start : start + 400], queue="more")
    for raw in rig.raw.lrange("queue:more", 0, -1)[::-1]:
        rig.raw.lpush(HELD.key, raw)
    rig.raw.delete("queue:more", "qik:n:queue:more")


def claim(raw: bytes) -> Claim:
    found = raw.split(b'"')
    return Claim(raw, found[7].decode(), found[3][:22].decode())


@pytest.mark.parametrize("pushed", [1, 300, 700])
def test_jobs_that_pushes_have_moved_out_of_their_window_are_removed_once(
    rig: Rig, flush: FlushStore, pushed: int
) -> None:
    held(rig, 1200)
    first, *_ = list(flush.windows(HELD))
    gone = [claim(each.raw) for each in first.entries[-250:]]
    push(rig, *range(2001, 2001 + pushed))

    assert flush.drop(HELD, gone, first.at) == [True] * 250
    assert flush.drop(HELD, gone, first.at) == [False] * 250

    assert rig.raw.llen(HELD.key) == 950 + pushed == rig.locks()
    left = rig.raw.lrange(HELD.key, 0, -1)
    assert not {each.raw for each in gone} & set(left)
    assert int(rig.raw.hget("qik:held", "Charge")) > 0


def test_what_was_removed_before_the_turn_was_lost_is_said(
    rig: Rig, flush: FlushStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(rig, 600)
    first, *_ = list(flush.windows(HELD))
    gone = [claim(each.raw) for each in first.entries[-250:]]
    push(rig, *range(2001, 2101))
    step = FlushStore._drop

    def late(self: FlushStore, *args: Any, more: bool) -> bytes:
        if more:
            rig.raw.set("qik:flusher", "ffff 1 elsewhere bob")
        return step(self, *args, more=more)

    monkeypatch.setattr(FlushStore, "_drop", late)

    assert flush.drop(HELD, gone, first.at) == [True] * 150 + [False] * 100
    assert rig.raw.llen(HELD.key) == 550
    with pytest.raises(TurnLost):
        flush.drop(HELD, gone, first.at)


@pytest.mark.parametrize("pushed", [1, 300, 700])
def test_jobs_that_pushes_have_moved_out_of_their_window_get_their_locks_again(
    rig: Rig, flush: FlushStore, pushed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(rig, 1200)
    flush.renew(rig.store.look().loss)
    numbers = iter(range(2001, 10_000))
    keep = FlushStore.keep

    def late(self: FlushStore, home: Home, raws: Any, at: int | None) -> None:
        push(rig, *[next(numbers) for _ in range(pushed)])
        keep(self, home, raws, at)

    monkeypatch.setattr(FlushStore, "keep", late)
    flush.relock(HELD)

    assert {state(rig, key) for key in range(1, 1201)} == {"q"}


# --- counts that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "hash"])
def test_a_count_that_is_none_keeps_no_list_from_being_flushed(
    rig: Rig, flush: FlushStore, raw: Any, kind: str
) -> None:
    rig.push(1, 2)
    rig.push(3, delays=[60])
    for key in ("qik:n:queue:default", "qik:n:schedule"):
        raw.delete(key)
        raw.set(key, "many") if kind == "text" else raw.hset(key, "a", "b")

    assert flush.has_some(QUEUE)
    sort(flush, aside(flush), "xb")
    (scheduled,) = [claim(each) for each in raw.zrange("schedule", 0, -1)]
    assert flush.drop(Home(Place.SCHEDULED, b"schedule"), [scheduled], None) == [True]

    assert rig.queued() == [jid(1).decode()]
    assert rig.locks() == 1
