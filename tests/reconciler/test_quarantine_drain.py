from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from qik_core.errors import StoreError
from qik_core.passes import EndedKind, Passes
from qik_core.rows import Standing
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.options import Quarantine
from reconciler.quarantine import Held, RowStates
from reconciler.states import Hold, Reason
from tests.reconciler.ends import digests, end, push, stored
from tests.reconciler.shop import Item, items

PENDING = select(Item.id).where(Item.state == "pending")
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
POLICY = Quarantine(after=3, crashes=2, no_progress=2, backoff=(300, 3_600))
WAITING = Held(Hold.WAITING, Reason.DIED)


@pytest.fixture
def definition() -> Definition:
    return items(PENDING, quarantine=POLICY)


@pytest.fixture
def states(home: Engine, seam: Passes) -> RowStates:
    return RowStates(home, seam)


def test_an_ended_job_becomes_the_state_of_its_row(
    home: Engine, states: RowStates, definition: Definition, raw: Any
) -> None:
    end(raw, definition, (7,), error="TypeError: no\0 name", jid="j1")

    assert states.drain() == 1

    row = stored(home)["7"]
    assert (row.job_class, row.failures, row.crashes, row.no_progress) == ("Work", 1, 0, 0)
    assert (row.state, row.reason, row.last_jid) == ("waiting", "died", "j1")
    assert (row.args, row.error) == ("[7]", "TypeError: no\ufffd name")
    assert 240 <= row.next_at - row.last_at <= 361
    assert raw.llen("qik:ended") == 0


@ON_ONE
def test_ends_are_counted_until_the_row_is_quarantined(
    home: Engine, states: RowStates, definition: Definition, raw: Any
) -> None:
    for kind in (EndedKind.DIED, EndedKind.CRASHED, EndedKind.NO_PROGRESS, EndedKind.CRASHED):
        end(raw, definition, (7,), kind)
        states.drain()
    end(raw, definition, (8,), EndedKind.TERMINAL)
    states.drain()

    rows = stored(home)
    assert (rows["7"].state, rows["7"].reason) == ("quarantined", "crashed")
    assert (rows["7"].failures, rows["7"].crashes, rows["7"].no_progress) == (1, 2, 1)
    assert rows["7"].first_at < rows["7"].last_at
    assert (rows["8"].state, rows["8"].reason) == ("quarantined", "terminal")


def test_many_ends_of_many_rows_are_taken_over_in_their_order(
    home: Engine, states: RowStates, definition: Definition, raw: Any
) -> None:
    for _ in range(3):
        for each in range(200):
            end(raw, definition, (each,))
    end(raw, definition, (5,), EndedKind.RETRIED)
    end(raw, definition, (6,), EndedKind.RETRIED)
    end(raw, definition, (6,), EndedKind.DIED)

    assert states.drain() == 603

    rows = stored(home)
    assert len(rows) == 199
    assert "5" not in rows
    assert (rows["6"].state, rows["6"].failures) == ("waiting", 1)
    assert {row.state for key, row in rows.items() if key != "6"} == {"quarantined"}


def test_records_that_redis_still_has_are_not_counted_twice(
    home: Engine, states: RowStates, definition: Definition, raw: Any, seam: Passes
) -> None:
    for each in (7, 7, 8):
        end(raw, definition, (each,))
    records = raw.lrange("qik:ended", 0, -1)
    states.drain()
    before = stored(home)
    raw.rpush("qik:ended", *records)  # as if the process had died before it could remove them
    end(raw, definition, (9,))

    assert RowStates(home, seam).drain() == 1

    after = stored(home)
    assert {key: after[key] for key in before} == before
    assert after["9"].failures == 1
    assert raw.llen("qik:ended") == 0


def test_two_processes_may_drain_at_once(
    home: Engine, seam: Passes, redis_url: str, definition: Definition, raw: Any
) -> None:
    for _ in range(2):
        for each in range(1, 301):
            end(raw, definition, (each,))
    drainers = [RowStates(home, seam) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda each: each.drain(), drainers))

    assert sum(counts) == 600
    assert {row.failures for row in stored(home).values()} == {2}
    assert len(stored(home)) == 300


@ON_ONE
def test_records_stay_in_redis_while_sql_is_away(
    seam: Passes, home: Engine, definition: Definition, raw: Any
) -> None:
    end(raw, definition, (7,))
    away = Engines({"default": "postgresql+psycopg://127.0.0.1:1/x"}).home()

    with pytest.raises(SqlUnavailable):
        RowStates(away, seam).drain()

    assert raw.llen("qik:ended") == 1
    assert RowStates(home, seam).drain() == 1


@ON_ONE
def test_what_is_in_sql_stays_while_redis_does_not_answer(
    home: Engine, states: RowStates, definition: Definition, raw: Any, redis_server: Any
) -> None:
    end(raw, definition, (7,))
    states.drain()
    redis_server.kill()

    with pytest.raises(StoreError):
        states.drain()

    assert states.filter(definition, digests(definition, 7)) == [WAITING]


@ON_ONE
def test_records_of_classes_that_this_process_does_not_know_are_kept_all_the_same(
    home: Engine, states: RowStates, raw: Any
) -> None:
    for _ in range(5):
        push(raw, "Elsewhere", "k" * 22, [3, "x"], error="E: x")

    states.drain()

    row = stored(home)['[3, "x"]']
    assert (row.job_class, row.failures, row.state) == ("Elsewhere", 5, "quarantined")


def test_bad_records_never_stop_the_others(
    home: Engine,
    states: RowStates,
    definition: Definition,
    raw: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    end(raw, definition, (1,))
    raw.lpush("qik:ended", b"rubbish")
    push(raw, "", "k" * 22, [])
    push(raw, "N" * 201, "k" * 22, [])
    push(raw, "Work\n", "k" * 22, [])
    push(raw, "Work", "", [])
    push(raw, "Work", "short", [])
    push(raw, "Work", "é" * 22, [])
    push(raw, "Work", "x" * 22, ["\0", "🎉", {"deep": [1e300]}], error="\0", jid="\0" * 300)
    end(raw, definition, (2,))

    with caplog.at_level(logging.ERROR, "reconciler"):
        states.drain()

    assert raw.llen("qik:ended") == 0
    assert [row.failures for row in stored(home).values()] == [1, 1, 1]
    assert sum("names no row" in each.message for each in caplog.records) == 6


def test_a_record_that_sql_refuses_is_removed_and_those_around_it_are_kept(
    home: Engine,
    states: RowStates,
    definition: Definition,
    raw: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with home.begin() as connection:  # a database with a rule of its own
        for statement in _refusing(home.dialect.name):
            connection.execute(text(statement))
    for each in range(1, 10):
        end(raw, definition, (each,), error="refused" if each == 5 else "E: x")

    with caplog.at_level(logging.ERROR, "reconciler"):
        assert states.drain() == 8

    assert sorted(stored(home)) == [str(each) for each in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert raw.llen("qik:ended") == 0
    (said,) = [each for each in caplog.records if "cannot be kept" in each.message]
    assert "refused" in str(vars(said)["record"])


def _refusing(dialect: str) -> Sequence[str]:
    if dialect == "sqlite":
        when = "BEFORE INSERT ON reconciler_row_state WHEN NEW.error = 'refused'"
        return [f"CREATE TRIGGER refuse {when} BEGIN SELECT RAISE(ABORT, 'no'); END"]
    return [_NARROWER[dialect]]


_NARROWER = {
    "postgresql": "ALTER TABLE reconciler_row_state ALTER error TYPE varchar(5)",
    "mariadb": "ALTER TABLE reconciler_row_state MODIFY error varchar(5)",
}


@pytest.mark.slow
def test_drains_verdicts_and_releases_at_once_lose_no_record_and_raise_nothing(
    home: Engine, seam: Passes, raw: Any
) -> None:
    definition = items(PENDING, version=Item.version, quarantine=POLICY)
    keys = digests(definition, *range(50))
    done = Event()

    def judge(seed: int) -> int:
        states, dice, freed = RowStates(home, seam, f"v{seed}"), Random(seed), 0
        while not done.wait(0.01):
            held = states.filter(definition, keys, [f"{dice.randrange(3):06}" for _ in keys])
            freed += held.count(None)
            states.healed(definition, lambda asked: [Standing.PENDING] * len(asked))
        return freed

    def drain(seed: int) -> int:
        states, dice, drained = RowStates(home, seam), Random(seed), 0
        for _ in range(20):
            for _ in range(10):
                end(raw, definition, (dice.randrange(50),), version="000000")
            drained += states.drain()
        return drained

    with ThreadPoolExecutor(6) as pool:
        judging = [pool.submit(judge, seed) for seed in range(3)]
        draining = [pool.submit(drain, seed) for seed in range(3)]
        try:
            drained = sum(each.result(120) for each in draining)
        finally:
            done.set()
        assert all(each.result(30) > 0 for each in judging)

    assert drained + RowStates(home, seam).drain() == 600
    assert raw.llen("qik:ended") == 0
