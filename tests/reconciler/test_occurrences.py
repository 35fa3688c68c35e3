from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Date,
    DateTime,
    Engine,
    Integer,
    String,
    insert,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job, registry
from qik_core.errors import DefinitionError
from qik_core.passes import Passes
from reconciler import Occurrences, derive
from reconciler.definition import Definition
from reconciler.moments import moment
from reconciler.occurrences import SlotQuestion, Told, source_of
from reconciler.source import read_position, write_position
from reconciler.sql import reading
from tests.reconciler.shop import Item, named

NOW = datetime(2026, 6, 10, 7, 30, tzinfo=UTC)  # half past nine in Berlin
HOUR = timedelta(hours=1)
declare: Any = derive  # what a type checker would not let through


class Base(DeclarativeBase):
    """The tables of what is done."""


class Report(Base):
    __tablename__ = "report"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), default="daily")
    slot: Mapped[datetime]
    zoned: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    stamp: Mapped[datetime | None] = mapped_column(TIMESTAMP)
    whole: Mapped[int | None] = mapped_column(BigInteger)


def hours(*back: float) -> list[datetime]:
    """Return full hours so many hours before nine o'clock."""
    return [NOW.replace(minute=0) - each * HOUR for each in back]


def hourly(query: Any = None, **options: Any) -> Definition:
    class BuildReport(Job, queue="reports", unique_for=3600):
        def perform(self, slot: datetime) -> None: ...

    options.setdefault("catchup", 5 * HOUR)
    schedule = options.pop("schedule", "0 * * * *")

    class Hourly(Occurrences, schedule=schedule, **options):
        done = derive(
            BuildReport,
            select(Report.slot).where(Report.kind == "daily") if query is None else query,
        )

    return Hourly.definition


@pytest.fixture
def reports(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


def finish(engine: Engine, *slots: datetime, kind: str = "daily") -> None:
    table: Any = Report.__table__
    seconds = [each.timestamp() for each in slots]
    with engine.begin() as connection:
        for each in seconds:
            columns = (table.c.slot, table.c.zoned, table.c.stamp, table.c.whole)
            values = {one.name: moment(one, each, engine.dialect.name) for one in columns}
            connection.execute(insert(table).values(kind=kind, **values))


def pending(
    definition: Definition, engine: Engine, now: datetime = NOW, told: Told | None = None
) -> list[datetime]:
    source = source_of(definition, engine, now.timestamp(), told=told)
    return [row[0] for row in source.read(None, 1_000)]


def test_expected_slots_without_a_row_are_pending(reports: Engine) -> None:
    finish(reports, *hours(0, 2))
    finish(reports, *hours(1), kind="monthly")

    assert pending(hourly(), reports) == hours(4, 3, 1)


@pytest.mark.parametrize("column", ["slot", "zoned", "stamp"])
def test_slots_are_the_same_moments_in_columns_of_any_type(reports: Engine, column: str) -> None:
    finish(reports, *hours(0, 2, 3))
    attribute = getattr(Report, column)

    assert pending(hourly(select(attribute).where(attribute.is_not(None))), reports) == hours(4, 1)


def test_slots_may_be_epoch_seconds_and_the_job_takes_them_so(reports: Engine) -> None:
    finish(reports, *hours(0, 1, 2, 3))

    class Sum(Job, unique_for=60):
        def perform(self, slot: int) -> None: ...

    class Sums(Occurrences, schedule="0 * * * *", catchup=5 * HOUR):
        done = declare(Sum, select(Report.whole).where(Report.whole.is_not(None)))

    source = source_of(Sums.definition, reports, NOW.timestamp())

    assert source.read(None, 10) == [(int(hours(4)[0].timestamp()),)]


def test_a_gap_of_hours_is_made_up_as_far_back_as_the_window_reaches(reports: Engine) -> None:
    finish(reports, *hours(30, 29, 28))  # then nobody ran for more than a day

    assert pending(hourly(catchup=24 * HOUR), reports) == hours(*range(23, -1, -1))


def test_a_slot_whose_time_has_not_come_is_not_pending(reports: Engine) -> None:
    assert pending(hourly(catchup=HOUR), reports, hours(0)[0] - timedelta(seconds=1)) == hours(1)
    assert pending(hourly(catchup=HOUR), reports, hours(0)[0]) == hours(0)


def test_slots_before_a_beginning_are_not_expected(reports: Engine) -> None:
    assert pending(hourly(since=hours(2)[0]), reports) == hours(1, 0)


def test_a_schedule_is_in_its_own_zone(reports: Engine) -> None:
    daily = hourly(schedule="0 6 * * *", tz="Europe/Berlin", catchup=timedelta(days=2))

    assert pending(daily, reports) == [datetime(2026, 6, day, 4, tzinfo=UTC) for day in (9, 10)]


def test_the_day_on_which_clocks_change_has_one_slot_at_a_fixed_time(reports: Engine) -> None:
    daily = hourly(schedule="30 2 * * *", tz="Europe/Berlin", catchup=timedelta(days=3))

    spring = pending(daily, reports, datetime(2026, 3, 30, 12, tzinfo=UTC))
    autumn = pending(daily, reports, datetime(2026, 10, 26, 12, tzinfo=UTC))

    assert [each.strftime("%d %H:%M") for each in spring] == ["28 01:30", "29 01:00", "30 00:30"]
    assert [each.strftime("%d %H:%M") for each in autumn] == ["24 00:30", "25 00:30", "26 01:30"]


def test_pages_hold_every_slot_once(reports: Engine) -> None:
    source = source_of(hourly(catchup=24 * HOUR), reports, NOW.timestamp())
    found: list[datetime] = []
    after: Any = None
    while True:
        page = source.read(after, 5)
        found += [row[0] for row in page]
        if len(page) < 5:
            break
        after = read_position(write_position(source.position(page[-1])) or "")

    assert found == hours(*range(23, -1, -1))


def test_many_slots_are_compared_chunk_by_chunk(reports: Engine) -> None:
    minutely = hourly(schedule="* * * * *", catchup=timedelta(minutes=2_500))
    slots = minutely.shape.slots
    assert slots is not None
    expected = [datetime.fromtimestamp(each, UTC) for each in slots.expected(NOW.timestamp())]
    with reports.begin() as connection:
        rows = [{"slot": each.replace(tzinfo=None)} for each in expected[::2]]
        connection.execute(insert(Report), rows)

    source = source_of(minutely, reports, NOW.timestamp())

    assert [row[0] for row in source.read(None, 5_000)] == expected[1::2]


# --- overlap ----------------------------------------------------------------------------------


def telling(definition: Definition, *slots: datetime) -> Told:
    digests = set(definition.job.definition.digests([(each,) for each in slots]))

    def told(asked: Sequence[bytes]) -> list[bool]:
        return [each in digests for each in asked]

    return told


def test_with_overlap_all_missing_slots_run_side_by_side(reports: Engine) -> None:
    finish(reports, *hours(4))
    definition = hourly(overlap="all")

    found = pending(definition, reports, told=telling(definition, *hours(3)))

    assert found == hours(3, 2, 1, 0)


def test_with_overlap_one_they_run_in_turn_and_none_is_left_out(reports: Engine) -> None:
    definition = hourly(overlap="one")
    ran: list[datetime] = []
    while found := pending(definition, reports):
        assert len(found) == 1
        ran += found
        finish(reports, *found)

    assert ran == hours(4, 3, 2, 1, 0)


def test_with_overlap_one_a_slot_that_is_never_done_holds_up_the_rest_until_its_window_ends(
    reports: Engine,
) -> None:
    definition = hourly(overlap="one")

    assert pending(definition, reports) == hours(4)
    assert pending(definition, reports, NOW + HOUR) == hours(3)


def test_with_overlap_skip_the_latest_runs_and_those_before_it_are_left_out(
    reports: Engine,
) -> None:
    definition = hourly(overlap="skip")

    assert pending(definition, reports) == hours(0)
    finish(reports, *hours(0))
    assert pending(definition, reports, told=telling(definition)) == hours(1)


def test_with_overlap_skip_nothing_is_told_while_an_earlier_slot_is_under_way(
    reports: Engine,
) -> None:
    definition = hourly(overlap="skip")

    assert pending(definition, reports, told=telling(definition, *hours(2))) == hours(2)


# --- one slot ---------------------------------------------------------------------------------


def test_a_single_slot_is_pending_until_a_row_says_it_is_done(reports: Engine) -> None:
    finish(reports, *hours(1))
    question = SlotQuestion(hourly().shape, reports.dialect.name)

    answers = question.pending(
        lambda: reading(reports, 5.0),
        [(each,) for each in (*hours(0, 1), datetime(2001, 1, 1, tzinfo=UTC))],
    )

    assert answers == [True, False, True]
    with reading(reports, 5.0) as connection:
        assert question.row(connection, tuple(hours(0))) == tuple(hours(0))
        assert question.row(connection, tuple(hours(1))) is None


# --- definitions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what", "remedy"),
    [
        ({"schedule": None}, "[cron]: schedule is None", "schedule='0 6 * * *'"),
        ({"schedule": "0 6 * *"}, "[cron]: schedule is '0 6 * *'", "five crontab fields"),
        ({"tz": "Europe/Berlln"}, "[occurrences]: no time zone is called", "tz='Europe/Berlin'"),
        ({"tz": "../etc/passwd"}, "[occurrences]: no time zone is called", "tz='Europe/Berlin'"),
        ({"tz": 5}, "[occurrences]: no time zone is called", "tz='Europe/Berlin'"),
        ({"tz": ""}, "[occurrences]: no time zone is called", "tz='Europe/Berlin'"),
        ({"catchup": 0}, "[occurrences]: catchup is 0 s", "more than 0"),
        ({"catchup": -1}, "[occurrences]: catchup is -1", "timedelta"),
        ({"catchup": "7d"}, "[occurrences]: catchup is '7d'", "timedelta"),
        ({"catchup": timedelta(days=10_000)}, "[occurrences]: catchup is", "100,000 slots"),
        ({"overlap": "buffer"}, "[occurrences]: overlap is 'buffer'", "all, one, skip"),
        ({"since": datetime(2026, 1, 1)}, "[occurrences]: since is", "tzinfo=UTC"),  # noqa: DTZ001
        ({"min_age": 5}, "[occurrences]: there is no option 'min_age'", "schedule"),
        ({"every": 0}, "[every]: every is 0 s", "more than 0"),
    ],
    ids=named,
)
def test_an_option_that_cannot_work_is_refused_with_class_rule_and_remedy(
    options: dict[str, Any], what: str, remedy: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        hourly(**options)

    assert what in str(refused.value)
    assert "Hourly" in str(refused.value)
    assert remedy in str(refused.value)


class Day(Base):
    __tablename__ = "day"
    day: Mapped[Any] = mapped_column(Date, primary_key=True)
    number: Mapped[Any] = mapped_column(Integer)


with registry.scope():

    class Two(Job, unique_for=60):
        def perform(self, slot: datetime, region: str) -> None: ...

    class OnText(Job, unique_for=60):
        def perform(self, slot: str) -> None: ...

    class Elsewhere(Job, unique_for=60, unique_args=["other"]):
        def perform(self, slot: datetime, other: int = 0) -> None: ...

    class OnSlot(Job, unique_for=60):
        def perform(self, slot: datetime) -> None: ...


@pytest.mark.parametrize(
    ("done", "what"),
    [
        (lambda: None, "[pending]: it does not say which rows are done"),
        (lambda: select(Report.slot), "[pending]: done is a Select"),
        (
            lambda: declare(OnSlot, select(Report.slot, Report.kind)),
            "[occurrences]: done selects 2",
        ),
        (
            lambda: declare(OnSlot, select(Report.slot), version=Report.id),
            "[occurrences]: done is given version",
        ),
        (
            lambda: declare(OnSlot, select(Report.slot), args=lambda row: row),
            "[occurrences]: done is given args",
        ),
        (
            lambda: declare(OnSlot, select(Report.slot), key=Report.id),
            "[occurrences]: done is given a key",
        ),
        (lambda: declare(OnSlot, select(Day.day)), "[occurrences]: slot column day is Date()"),
        (lambda: declare(OnSlot, select(Item.note)), "[occurrences]: slot column note"),
        (lambda: declare(OnText, select(Report.slot)), "[columns-fit]: column slot"),
        (
            lambda: declare(Elsewhere, select(Report.slot)),
            "[key-maps-onto-unique-arguments]: slot is no",
        ),
        (lambda: declare(Two, select(Report.slot)), "[columns-fit]: a slot is the only argument"),
        (lambda: declare(OnSlot, select(Report.slot).limit(5)), "[query]: the query has LIMIT"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_with_class_and_rule(
    done: Any, what: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        type("Mine", (Occurrences,), {"done": done()}, schedule="0 6 * * *")

    assert str(refused.value).startswith(f"Mine {what}")


def test_the_slot_may_be_named_as_its_key() -> None:
    class Mine(Occurrences, schedule="0 6 * * *"):
        done = derive(OnSlot, select(Report.slot), key=Report.slot)

    assert Mine.definition.every == 60


def test_slots_that_were_told_are_found_by_their_digest(reports: Engine, seam: Passes) -> None:
    definition = hourly(overlap="skip")
    seam.push(definition.job, [(each,) for each in hours(3)])

    assert pending(definition, reports, told=seam.told) == hours(3)
