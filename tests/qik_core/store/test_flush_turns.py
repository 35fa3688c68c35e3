"""Whose turn it is to flush, and until when."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from qik_core.store import Store
from qik_core.store.flush import FlushStore, TurnLost, home_of
from qik_core.store.records import Claim
from tests.qik_core.store.rig import Rig
from tests.qik_core.store.test_flush import QUEUE, aside, sort
from tests.qik_core.store.test_flush_held import HELD, held


@pytest.fixture
def flush(rig: Rig) -> FlushStore:
    made = FlushStore(rig.store, "alice")
    assert made.turn() == ""
    return made


def test_one_flush_at_a_time_has_the_turn_and_says_who(rig: Rig, flush: FlushStore) -> None:
    other = FlushStore(rig.store, "bob the second")

    assert other.turn() == "alice"
    assert flush.turn() == "", "who has it keeps it"
    flush.give_up()
    assert other.turn() == ""
    assert flush.turn() == "bob the second"


def test_a_turn_that_is_given_up_by_somebody_else_stays(rig: Rig, flush: FlushStore) -> None:
    FlushStore(rig.store, "bob").give_up()

    assert FlushStore(rig.store, "bob").turn() == "alice"


def test_who_does_not_say_who_it_is_has_the_turn_all_the_same(rig: Rig) -> None:
    assert FlushStore(rig.store, "").turn() == ""

    assert FlushStore(rig.store, "").turn() == "somebody"


@pytest.fixture
def holder(rig: Rig, raw: Any) -> str:
    """The turn of a flush of this host whose process has ended: random, pid, place, who."""
    pid = os.fork()
    if pid == 0:
        try:
            FlushStore(Store(rig.url), "eve").turn()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    found: str = raw.get("qik:flusher").decode()
    assert found.split(" ")[1] == str(pid)
    return found


def test_the_turn_of_a_process_that_has_died_here_is_over(rig: Rig, holder: str) -> None:
    assert FlushStore(rig.store, "bob").turn() == ""


@pytest.mark.parametrize("where", ["boot", "namespace", "host", "nowhere"])
def test_a_pid_of_elsewhere_means_nothing_so_its_turn_runs_out_by_itself(
    rig: Rig, raw: Any, holder: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, pid, place, who = holder.split(" ", 3)
    boot, _, namespace = place.partition("/")
    if where == "nowhere":
        monkeypatch.setattr("qik_core.store.flush._here", lambda: "-")
    other = {
        "boot": f"{boot[::-1]}/{namespace}",
        "namespace": f"{boot}/pid:[1]",
        "host": socket.gethostname(),
        "nowhere": "-",
    }
    raw.set("qik:flusher", f"{mark} {pid} {other[where]} {who}")

    assert FlushStore(rig.store, "bob").turn() == "eve"


def test_no_step_is_done_by_whoever_has_lost_the_turn(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1)
    rig.push(2, delays=[60])
    where = aside(flush)
    length, _ = flush.head(where)
    loss = rig.store.look().loss
    raw.set("qik:flusher", "ffff 1 elsewhere bob")

    with pytest.raises(TurnLost):
        flush.sort(where, length, [True])
    with pytest.raises(TurnLost):
        flush.aside(QUEUE)
    with pytest.raises(TurnLost):
        flush.renew(loss)
    with pytest.raises(TurnLost):
        flush.go_on()
    with pytest.raises(TurnLost):
        flush.relock(home_of(b"schedule") or QUEUE)
    with pytest.raises(TurnLost):
        flush.drop(home_of(b"schedule") or QUEUE, [Claim(b"x", "y")], None)
    assert raw.llen(where.trash) == 1
    assert rig.store.look().loss == loss


def test_a_turn_that_has_run_out_is_taken_again_by_the_next_step(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1, 2)
    where = aside(flush)
    raw.delete("qik:flusher")  # as when the database took long to answer

    assert sort(flush, where, "x")
    assert FlushStore(rig.store, "bob").turn() == "alice"


def test_a_flush_keeps_its_turn_while_it_only_looks(rig: Rig, flush: FlushStore, raw: Any) -> None:
    held(rig, 600)
    raw.pexpire("qik:flusher", 5_000)
    flush.relock(HELD)
    assert raw.pttl("qik:flusher") > 20_000

    raw.pexpire("qik:flusher", 5_000)
    flush.go_on()
    assert raw.pttl("qik:flusher") > 20_000
