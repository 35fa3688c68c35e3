from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text, update

from qik_core.errors import StoreError
from qik_core.passes import EndedKind, Passes
from qik_core.rows import Asked, Standing
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.options import Quarantine
from reconciler.quarantine import FRESH, Held, RowStates
from reconciler.rows import tag
from reconciler.sql import writing
from reconciler.states import Hold, Reason, State
from reconciler.tables import row_state
from tests.reconciler.ends import Clock, end, push
from tests.reconciler.shop import Item, items

PENDING = select(Item.id).where(Item.state == "pending")
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
POLICY = Quarantine(after=3, crashes=2, no_progress=2, backoff=(300, 3_600))
WAITING = Held(Hold.WAITING, Reason.DIED)
DIED = Held(Hold.QUARANTINED, Reason.DIED)


@pytest.fixture
def definition() -> Definition:
    return items(PENDING, quarantine=POLICY)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def states(home: Engine, seam: Passes, clock: Clock) -> RowStates:
    return RowStates(home, seam, now=clock)


def stored(home: Engine) -> dict[str, Any]:
    """Return all rows by key."""
    with home.connect() as connection:
        rows = connection.execute(select(row_state).where(row_state.c.job_class != "#"))
        return {row.key: row for row in rows}


def only(states: RowStates) -> State:
    (state,) = states.memory.page()
    return state


def time_passes(home: Engine, seconds: float) -> None:
    """Bring the time of every state nearer."""
    with writing(home) as connection:
        connection.execute(update(row_state).values(next_at=row_state.c.next_at - seconds))


def digests(definition: Definition, *ids: int) -> list[bytes]:
    found: list[bytes] = definition.job.definition.digests([(each,) for each in ids])
    return found


# --- drain ---------------------------------------------------------------------------------------


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


# --- filter --------------------------------------------------------------------------------------


@ON_ONE
def test_without_states_nothing_is_held_and_sql_is_asked_once_a_second(
    home: Engine, states: RowStates, definition: Definition, clock: Clock
) -> None:
    asked: list[str] = []
    event.listen(home, "before_cursor_execute", lambda *said: asked.append(said[2]))
    page = digests(definition, *range(1, 1_001))

    for _ in range(100):
        assert states.filter(definition, page) == [None] * 1_000
    first = sum("reconciler_row_state" in each for each in asked)
    clock.now += FRESH
    states.filter(definition, page)

    assert first == 1
    assert sum("reconciler_row_state" in each for each in asked) == 2


def test_rows_are_held_by_their_own_state_until_their_time_comes(
    home: Engine, states: RowStates, definition: Definition, raw: Any, clock: Clock
) -> None:
    for each in (2, 3, 3, 3, 4):
        end(raw, definition, (each,))
    end(raw, definition, (4,), EndedKind.TERMINAL)
    states.drain()
    page = digests(definition, 1, 2, 3, 4, 5)
    quarantined = [None, WAITING, DIED, Held(Hold.QUARANTINED, Reason.TERMINAL), None]

    assert states.filter(definition, page) == quarantined
    assert states.counts(definition) == {"waiting": 1, "quarantined": 2}

    time_passes(home, 361)
    clock.now += FRESH

    assert states.filter(definition, page) == [None, None, *quarantined[2:]]
    assert states.counts(definition) == {"waiting": 0, "quarantined": 2}
    assert states.reasons(definition, page)[:3] == [None, Reason.DIED, Reason.DIED]


@ON_ONE
def test_states_of_one_class_do_not_hold_rows_of_another(
    states: RowStates, definition: Definition, raw: Any
) -> None:
    push(raw, "Other", digests(definition, 7)[0].decode(), [7], kind=EndedKind.TERMINAL)
    states.drain()

    assert states.filter(definition, digests(definition, 7)) == [None]


@ON_ONE
def test_more_states_than_memory_takes_are_read_page_by_page(
    home: Engine,
    states: RowStates,
    definition: Definition,
    raw: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reconciler.quarantine.AT_ONCE", 10)
    for each in range(1, 601):
        end(raw, definition, (each,))
    states.drain()

    asked: list[str] = []
    event.listen(home, "before_cursor_execute", lambda *said: asked.append(said[2]))

    page = states.filter(definition, digests(definition, *range(400, 1_400)))

    assert page == [WAITING] * 201 + [None] * 799
    assert ["IN (" in each for each in asked if "key_digest" in each] == [True, True]


def test_a_newer_version_frees_a_row_for_good(
    home: Engine, states: RowStates, raw: Any, clock: Clock
) -> None:
    definition = items(PENDING, version=Item.version, quarantine=POLICY)
    for _ in range(3):
        end(raw, definition, (7,), version=tag(1))
    states.drain()
    page = digests(definition, 6, 7)

    assert states.filter(definition, page, [tag(9), tag(1)]) == [None, DIED]
    assert states.filter(definition, page, [tag(8), tag(1)]) == [None, DIED]
    assert states.glance(definition, page, [tag(8), tag(2)]) == [None, None]
    assert "7" in stored(home)
    assert states.filter(definition, page, [tag(8), tag(2)]) == [None, None]
    assert stored(home) == {}


@ON_ONE
def test_a_version_that_changed_before_a_pass_saw_the_row_is_worth_one_run(
    home: Engine, states: RowStates, raw: Any
) -> None:
    definition = items(PENDING, version=Item.version, quarantine=POLICY)
    page = digests(definition, 7)
    for _ in range(3):
        end(raw, definition, (7,), version=tag(1))
    states.drain()

    assert states.filter(definition, page, [tag(2)]) == [None]
    end(raw, definition, (7,), version=tag(2))
    states.drain()

    assert states.filter(definition, page, [tag(3)]) == [DIED]
    assert states.filter(definition, page, [tag(3)]) == [DIED]
    assert states.filter(definition, page, [tag(4)]) == [None]


def test_a_new_release_gives_a_quarantined_row_one_run(
    home: Engine, seam: Passes, definition: Definition, raw: Any
) -> None:
    old, new = RowStates(home, seam, "v1"), RowStates(home, seam, "v2")
    page = digests(definition, 7)
    for _ in range(3):
        end(raw, definition, (7,))
    old.drain()

    assert old.filter(definition, page) == [DIED]
    assert new.glance(definition, page) == [None]
    assert new.filter(definition, page) == [None]
    assert stored(home)["7"].state == "waiting"

    end(raw, definition, (7,))
    new.drain()
    for each in (old, new, RowStates(home, seam), old, new):
        assert each.filter(definition, page) == [DIED]


def test_a_verdict_does_not_undo_what_has_happened_since_it_was_read(
    home: Engine, seam: Passes, raw: Any, clock: Clock
) -> None:
    definition = items(PENDING, version=Item.version, quarantine=POLICY)
    passing, draining = RowStates(home, seam, now=clock), RowStates(home, seam)
    page = digests(definition, 7)
    for _ in range(3):
        end(raw, definition, (7,), version=tag(1))
    passing.drain()
    passing.filter(definition, page, [tag(1)])
    passing.filter(definition, page, [tag(1)])  # read: its version is known now
    end(raw, definition, (7,), EndedKind.CRASHED, version=tag(1))
    draining.drain()

    assert passing.filter(definition, page, [tag(2)]) == [None]  # decided by what was read

    assert (stored(home)["7"].crashes, stored(home)["7"].state) == (1, "quarantined")


# --- healed --------------------------------------------------------------------------------------


def stand(*gone: int) -> Any:
    def look(asked: Sequence[Asked]) -> Sequence[Standing]:
        assert len(asked) <= 250
        return [Standing.GONE if each.args[0] in gone else Standing.PENDING for each in asked]

    return look


def test_rows_that_match_no_more_are_forgotten(
    home: Engine, states: RowStates, definition: Definition, raw: Any
) -> None:
    for each in range(1, 601):
        end(raw, definition, (each,), EndedKind.TERMINAL)
    states.drain()
    gone = stand(*range(1, 301))

    assert states.healed(definition, gone) + states.healed(definition, gone) == 300
    assert {int(key) for key in stored(home)} == set(range(301, 601))
    assert states.healed(definition, gone) == 0


@ON_ONE
def test_a_row_that_could_not_be_asked_for_is_not_forgotten(
    home: Engine, states: RowStates, definition: Definition, raw: Any
) -> None:
    end(raw, definition, (1,))
    push(raw, "Work", "x" * 22, ["not a number"])
    push(raw, "Work", "y" * 22, [])
    states.drain()

    assert states.healed(definition, lambda asked: [Standing.UNKNOWN] * len(asked)) == 0
    assert len(stored(home)) == 3


def test_a_row_that_came_back_and_died_while_it_was_looked_at_is_not_forgotten(
    home: Engine, states: RowStates, seam: Passes, definition: Definition, raw: Any
) -> None:
    end(raw, definition, (1,))
    states.drain()

    def look(asked: Sequence[Asked]) -> Sequence[Standing]:
        end(raw, definition, (1,))
        RowStates(home, seam).drain()
        return [Standing.GONE] * len(asked)

    assert states.healed(definition, look) == 0
    assert stored(home)["1"].failures == 2


@ON_ONE
def test_what_an_operator_has_quarantined_is_not_forgotten_with_the_others(
    home: Engine, states: RowStates, definition: Definition, raw: Any
) -> None:
    for each in (1, 2):
        end(raw, definition, (each,))
    states.drain()
    with writing(home) as connection:
        mine = row_state.c.key == "1"
        connection.execute(update(row_state).where(mine).values(reason=Reason.OPERATOR.value))

    assert states.healed(definition, stand(1, 2)) == 1
    assert list(stored(home)) == ["1"]


@ON_ONE
def test_without_states_nobody_is_asked(states: RowStates, definition: Definition) -> None:
    def look(asked: Sequence[Asked]) -> Sequence[Standing]:
        raise AssertionError(asked)

    assert states.healed(definition, look) == 0


# --- shards --------------------------------------------------------------------------------------


def test_a_state_belongs_to_the_shard_whose_pass_meets_its_row(
    home: Engine, states: RowStates, definition: Definition, raw: Any
) -> None:
    one, two = replace(definition, shard="one"), replace(definition, shard="two")
    for each in (1, 2, 2, 2):
        end(raw, definition, (each,))
    states.drain()
    states.filter(one, digests(definition, 1))
    states.filter(two, digests(definition, 2))

    assert states.counts(one) == {"waiting": 1, "quarantined": 0}
    assert states.counts(two) == {"waiting": 0, "quarantined": 1}
    end(raw, definition, (1,))
    states.drain()
    assert len(stored(home)) == 2
    assert states.filter(one, digests(definition, 1)) == [WAITING]
