from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    TIMESTAMP,
    Column,
    DateTime,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    func,
    insert,
    select,
)

from qik_core.errors import DefinitionError
from reconciler import jitter
from reconciler.definition import Definition
from reconciler.moments import moment
from reconciler.source import Source, due_in
from reconciler.sql import read_clock
from tests.reconciler.shop import Item, change, fill, items, named

PENDING = select(Item.id).where(Item.state == "pending")


@pytest.fixture
def home(engine: Engine) -> Engine:
    """A database with the shop's tables; no pass runs here, so it needs none of ours."""
    return engine


def stamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def rows_at(definition: Definition, engine: Engine, now: float) -> dict[int, float | None]:
    """Return the rows that a pass reads, each with the seconds until it is due."""
    rows = Source(definition, engine, now).read(None, 1_000)
    keys = [each[0] for each in definition.shape.arguments(rows)]
    return dict(zip(keys, (due_in(definition.shape, each, now) for each in rows), strict=True))


def test_rows_due_within_the_horizon_are_read_with_their_delay_and_later_ones_stay_in_sql(
    home: Engine,
) -> None:
    now = float(int(read_clock(home)))
    for key, ahead in ((1, -3600), (2, 0), (3, 90), (4, 119), (5, 121), (6, 86_400)):
        fill(home, [key], since=stamp(now + ahead))
    definition = items(PENDING, run_at=Item.since)

    found = rows_at(definition, home, now)

    assert found == pytest.approx({1: 0.0, 2: 0.0, 3: 90.0, 4: 119.0}, abs=0.01)


def test_a_row_without_a_moment_is_due_at_once(home: Engine) -> None:
    fill(home, [1], since=None)

    assert rows_at(items(PENDING, run_at=Item.since, late="skip"), home, read_clock(home)) == {1: 0}


def test_with_no_horizon_rows_are_read_only_when_they_are_due(home: Engine) -> None:
    now = read_clock(home)
    fill(home, [1], since=stamp(now - 5))
    fill(home, [2], since=stamp(now + 5))

    assert list(rows_at(items(PENDING, run_at=Item.since, horizon=0), home, now)) == [1]


def test_late_rows_are_told_all_the_same_unless_they_are_to_be_skipped(home: Engine) -> None:
    now = read_clock(home)
    fill(home, [1], since=stamp(now - 200))
    fill(home, [2], since=stamp(now - 90))

    assert rows_at(items(PENDING, run_at=Item.since), home, now) == {1: 0.0, 2: 0.0}
    skipping = items(PENDING, run_at=Item.since, late="skip", grace=timedelta(minutes=2))
    assert rows_at(skipping, home, now) == {1: None, 2: 0.0}


def test_a_row_that_is_moved_is_read_at_its_new_moment(home: Engine) -> None:
    now = float(int(read_clock(home)))
    definition = items(PENDING, run_at=Item.since)
    fill(home, [1], since=stamp(now + 10))
    assert rows_at(definition, home, now) == pytest.approx({1: 10.0}, abs=0.01)

    change(home, 1, since=stamp(now + 3600))
    assert rows_at(definition, home, now) == {}

    change(home, 1, since=stamp(now + 60))
    assert rows_at(definition, home, now) == pytest.approx({1: 60.0}, abs=0.01)


@pytest.mark.parametrize(
    "kind", [TIMESTAMP(), DateTime(timezone=True), Double(), Integer()], ids=str
)
def test_moments_of_any_type_say_the_same(engine: Engine, kind: Any) -> None:
    table = Table("due", MetaData(), Column("id", Integer, primary_key=True), Column("at", kind))
    table.create(engine)
    now, dialect = float(int(read_clock(engine))), engine.dialect.name
    with engine.begin() as connection:
        for key, ahead in ((1, -40), (2, 40), (3, 400)):
            at = moment(table.c.at, now + ahead, dialect)
            connection.execute(insert(table).values(id=key, at=at))

    found = rows_at(items(select(table.c.id), run_at=table.c.at), engine, now)

    assert found == pytest.approx({1: 0.0, 2: 40.0}, abs=0.01)


def test_a_grouped_query_can_say_when_its_groups_are_due(home: Engine) -> None:
    now = float(int(read_clock(home)))
    fill(home, [1, 2], since=stamp(now + 10))
    grouped = select(Item.id, Item.since).group_by(Item.id, Item.since)

    definition = items(grouped, run_at=Item.since, args=lambda row: (row[0],))

    assert rows_at(definition, home, now) == pytest.approx({1: 10.0, 2: 10.0}, abs=0.01)


@given(
    st.lists(st.tuples(st.binary(min_size=4, max_size=8), st.floats(0, 10_000)), min_size=1),
    st.floats(0.5, 300),
    st.floats(1.7e9, 1.9e9),
    st.floats(0, 50),
)
def test_jitter_comes_after_the_moment_never_before_and_is_the_same_for_a_later_pass(
    rows: list[tuple[bytes, float]], window: float, now: float, later: float
) -> None:
    digests, due = [each for each, _ in rows], [seconds for _, seconds in rows]

    delays = jitter.delays(digests, window, now, due)
    again = jitter.delays(digests, window, now + later, [max(0.0, each - later) for each in due])

    for base, delay, then in zip(due, delays, again, strict=True):
        assert base <= delay <= base + window
        if base >= later:
            instant = (now + delay) - (now + later + then)
            assert min(instant % window, -instant % window) == pytest.approx(0, abs=1e-4)


declare: Any = items  # what a type checker would not let through


@pytest.mark.parametrize(
    ("columns", "what", "remedy"),
    [
        ({"run_at": Item.note}, "run_at column note", "epoch seconds"),
        ({"run_at": "since"}, "run_at is 'since'", "one column"),
        ({"horizon": 60}, "horizon is given", "run_at="),
        ({"late": "skip"}, "late is given", "run_at="),
        ({"grace": 60}, "grace is given", "run_at="),
        ({"run_at": Item.since, "horizon": 30}, "horizon is 30 s and every 60 s", "at least 60"),
        ({"run_at": Item.since, "horizon": -1}, "horizon is -1", "timedelta"),
        ({"run_at": Item.since, "horizon": "10m"}, "horizon is '10m'", "timedelta"),
        ({"run_at": Item.since, "horizon": 1e9}, "horizon is 1e+09 s", "leave rows in SQL"),
        ({"run_at": Item.since, "late": "drop"}, "late is 'drop'", "'run', 'skip'"),
        ({"run_at": Item.since, "grace": 60}, "grace is given", "late='skip'"),
        ({"run_at": Item.since, "late": "skip", "grace": None}, "grace is missing", "timedelta"),
    ],
    ids=named,
)
def test_what_cannot_work_is_refused_with_class_rule_and_remedy(
    columns: dict[str, Any], what: str, remedy: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        declare(PENDING, **columns)

    assert f"Items [run-at]: {what}" in str(refused.value)
    assert remedy in str(refused.value)


def test_a_grouped_query_has_to_select_when_its_groups_are_due() -> None:
    with pytest.raises(DefinitionError, match=r"\[query\]: since is not selected"):
        declare(PENDING.distinct(), run_at=Item.since)


def test_the_horizon_is_two_passes_and_a_minute_at_least() -> None:
    def horizon(**options: Any) -> float:
        found: float = declare(PENDING, run_at=Item.since, **options).shape.run_at.horizon
        return found

    assert horizon(every=5) == 60
    assert horizon(every=60) == 120
    assert horizon(cron="0 * * * *") == 7200
    assert horizon(cron="0 0 1 1 *") == 366 * 86_400


def test_an_expression_can_say_when_a_row_is_due(home: Engine) -> None:
    now = float(int(read_clock(home)))
    fill(home, [1], since=None, rank=int(now) + 30)
    soon = func.coalesce(Item.rank, 0)

    assert rows_at(items(PENDING, run_at=soon), home, now) == {1: 30.0}
