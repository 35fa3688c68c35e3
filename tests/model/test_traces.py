"""Real runs are possible in the model, and wrong ones are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from tests.machine.mutants import MUTANTS, Mutant
from tests.machine.oracle import Violation
from tests.machine.running import run
from tests.machine.traces import Recorder, traces
from tests.machine.world import EXCLUSIVE, World
from tests.model.acceptor import RefusedError, accept, keys_of
from tests.model.trace import EVENTS, Event, dump, load

Fields = dict[str, Any]


# --- traces written by hand ------------------------------------------------------


def push(jid: str, code: str = "enqueued", origin: str = "edge", **rest: Any) -> Fields:
    return {"event": "push", "origin": origin, "key": 1, "jid": jid, "code": code, **rest}


def exchange(proc: str, seq: int, status: str = "done", **rest: Any) -> Fields:
    return {"event": "exchange", "proc": proc, "seq": seq, "status": status, **rest}


def asserts(
    proc: str, *held: str, restored: bool = False, superseded: Sequence[str] = ()
) -> Fields:
    return {
        "event": "assert",
        "proc": proc,
        "held": list(held),
        "restored": restored,
        "superseded": list(superseded),
    }  # fmt: skip


def event(name: str, proc: str = "", **rest: Any) -> Fields:
    return {"event": name} | ({"proc": proc} if proc else {}) | rest


BORN = [asserts("p1", restored=True), asserts("p2", restored=True)]
RUNS = [*BORN, push("a"), exchange("p1", 1, fetched=["a"])]
TAKEN_OVER = [
    *RUNS,
    event("fence", "p1"),
    event("recover", "p1", jids=["a"]),
    exchange("p2", 1, fetched=["a"]),
]
LOST = [
    *RUNS,
    event("flush"),
    push("b"),
    asserts("p2", restored=True),
    exchange("p2", 1, fetched=["b"]),
]
SUPERSEDED = [*LOST, asserts("p1", "a", restored=True, superseded=["a"])]
ROLLS = [
    *RUNS, event("beat", "p1"), asserts("p1", "a"), event("beat", "p2"), asserts("p2"), event("roll_begin"),
    event("roll_walk"), event("beat", "p2"), asserts("p2"),
]  # fmt: skip

RIGHT = {
    "a job runs and ends": [*RUNS, exchange("p1", 2, settled=[["a", "done"]]), push("b")],
    "an edge meets a running job": [
        *RUNS,
        push("b", "dirtied"),
        exchange("p1", 2, settled=[["a", "done"]], fetched=["a"]),
    ],
    "a reply is lost": [*RUNS, exchange("p1", 1, "again", fetched=["a"])],
    "a lost process is replaced": [*TAKEN_OVER, exchange("p1", 2, "fenced")],
    "a loss, and another run": [*SUPERSEDED, exchange("p1", 2, settled=[["a", "done"]]), push("c", "dirtied")],
    "a window passes": [*BORN, push("a"), push("b"), exchange("p1", 1, fetched=["b"])],
    "a roll": [*ROLLS, event("roll_end", result=-1), event("beat", "p1"), asserts("p1", "a"), event("roll_end", result=0)],
    "a retry": [
        *RUNS,
        exchange("p1", 2, settled=[["a", "t"]]),
        push("b", "duplicate_retrying"),
        event("promote", jids=["a"]),
    ],
}  # fmt: skip

WRONG = {
    "a second copy beside a running one": [*RUNS, push("b")],
    "a pass adds a copy past the window": [*BORN, push("a"), push("b", origin="pass")],
    "one job is handed out twice": [*RUNS, exchange("p2", 1, fetched=["a"])],
    "a job is handed out that was never pushed": [*RUNS, push("b", "dirtied"), exchange("p2", 1, fetched=["b"])],
    "a re-send settles and fetches again": [*RUNS, exchange("p1", 1, fetched=["a"])],
    "a re-send hands out nothing": [*RUNS, exchange("p1", 1, "again")],
    "a number is left out": [*RUNS, exchange("p1", 3, settled=[["a", "done"]])],
    "a fenced process settles": [*TAKEN_OVER, exchange("p1", 2, settled=[["a", "done"]])],
    "a fenced process asserts": [*TAKEN_OVER, asserts("p1", "a", restored=True)],
    "a process asserts while its jobs are being recovered": [
        *RUNS,
        event("fence", "p1"),
        event("delete", key="qik:working:p1"),
        asserts("p1", "a", restored=True),
    ],
    "another run is not noticed": [*LOST, asserts("p1", "a", restored=True)],
    "a lock is released by another": [*SUPERSEDED, exchange("p1", 2, settled=[["a", "done"]]), push("c")],
    "a roll ends before everybody has beaten": [*ROLLS, event("roll_end", result=0)],
    "an old beat counts for a new generation": [
        *BORN, event("beat", "p1"), push("a"), exchange("p1", 1, fetched=["a"]), event("roll_begin"), event("roll_walk"),
        asserts("p1"), event("beat", "p2"), asserts("p2"), event("roll_end", result=1),
    ],
    "a job is promoted that waits nowhere": [*RUNS, event("promote", jids=["a"])],
    "an exchange is lost for no reason": [*RUNS, exchange("p1", 2, "lost")],
    "jobs start although the locks are gone": [*BORN, push("a"), event("delete", key="qik:epoch"), event("delete_locks"),
        event("flush"), exchange("p1", 1, fetched=["a"])],
    "a recovered job was not held": [*RUNS, event("fence", "p1"), event("recover", "p2", jids=["a"])],
}  # fmt: skip


def read(trace: Sequence[Fields]) -> list[Event]:
    return list(load(map(json.dumps, trace)))


@pytest.mark.parametrize("name", RIGHT)
def test_the_model_accepts_what_the_protocol_allows(name: str) -> None:
    accept(read(RIGHT[name]), 1)


@pytest.mark.parametrize("name", WRONG)
def test_the_model_refuses_a_planted_wrong_trace_at_its_wrong_event(name: str) -> None:
    accept(read(WRONG[name][:-1]), 1)
    with pytest.raises(RefusedError, match=f"refuses event {len(WRONG[name])},"):
        accept(read(WRONG[name]), 1)


def test_events_are_written_and_read_alike() -> None:
    events = read([each for trace in RIGHT.values() for each in trace])
    assert list(load(map(dump, events))) == events
    assert {each.name for each in events} <= set(EVENTS)


@pytest.mark.parametrize(
    "line", ['{"event": "nothing"}', '{"event": "beat"}', '{"event": "flush", "x": 1}']
)
def test_a_line_that_is_no_event_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 of the trace is no event"):
        list(load(['{"event": "flush"}', line]))


# --- traces of the engine --------------------------------------------------------


def replay(lines: Sequence[str]) -> int:
    """Replay a recording for each of its unique keys; says how many there were."""
    events = list(load(lines))
    keys = [key for key in keys_of(events) if key < EXCLUSIVE]
    for key in keys:
        accept(events, key)
    return len(keys)


def test_every_real_run_is_possible_in_the_model(redis_url: str) -> None:
    recordings = traces(redis_url, examples=10, steps=40, chance=2, healed=True)
    replayed = sum(map(replay, recordings))
    print(f"{len(recordings)} runs, {replayed} keys replayed")
    assert replayed >= len(recordings) // 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chance", range(100, 103))
def test_hundreds_of_real_runs_are_possible_in_the_model(redis_url: str, chance: int) -> None:
    for lines in traces(redis_url, examples=60, steps=50, chance=chance, healed=True):
        replay(lines)


SEEN = [mutant for mutant in MUTANTS if mutant.name.startswith(("ends a roll", "does not look"))]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", SEEN, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_the_runs_of_a_mistaken_engine_are_refused(redis_url: str, mutant: Mutant) -> None:
    runs = (_mistaken(redis_url, mutant, chance) for chance in range(1, 12))
    assert any(is_refused(lines) for recorded in runs for lines in recorded)


def _mistaken(url: str, mutant: Mutant, chance: int) -> list[list[str]]:
    recorders: list[Recorder] = []

    def make() -> World:
        recorders.append(Recorder(healed=True))
        return World(url, witness=recorders[-1], replace=mutant.replace)

    with suppress(Violation):
        run(make, examples=10, steps=40, chance=chance)
    return [recorder.lines() for recorder in recorders]


def is_refused(lines: Sequence[str]) -> bool:
    try:
        replay(lines)
    except RefusedError:
        return True
    return False
