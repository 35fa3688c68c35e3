from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, update

from qik_core.passes import EndedKind, Passes
from qik_core.rows import Asked, Standing
from reconciler.definition import Definition
from reconciler.options import Quarantine
from reconciler.quarantine import FRESH, Held, RowStates
from reconciler.rows import tag
from reconciler.sql import writing
from reconciler.states import Hold, Reason
from reconciler.tables import row_state
from tests.reconciler.ends import Clock, digests, end, push, stored
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


def time_passes(home: Engine, seconds: float) -> None:
    """Bring the time of every state nearer."""
    with writing(home) as connection:
        connection.execute(update(row_state).values(next_at=row_state.c.next_at - seconds))


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
def test_a_row_that_has_a_job_is_not_forgotten_while_that_keeps_it_from_matching(
    home: Engine, states: RowStates, definition: Definition, raw: Any, seam: Passes
) -> None:
    end(raw, definition, (1,))
    states.drain()
    seam.push(definition.job, [(1,)])

    def look(asked: Sequence[Asked]) -> Sequence[Standing]:
        raw.flushall()  # its job ends just now
        return [Standing.GONE] * len(asked)

    assert states.healed(definition, look) == 0
    assert list(stored(home)) == ["1"]
    raw.flushall()
    assert states.healed(definition, stand(1)) == 1


@ON_ONE
def test_a_row_whose_job_comes_while_it_is_asked_for_is_not_forgotten(
    home: Engine, states: RowStates, definition: Definition, raw: Any, seam: Passes
) -> None:
    end(raw, definition, (1,))
    states.drain()

    def look(asked: Sequence[Asked]) -> Sequence[Standing]:
        seam.push(definition.job, [(1,)])
        return [Standing.GONE] * len(asked)

    assert states.healed(definition, look) == 0
    assert list(stored(home)) == ["1"]


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
