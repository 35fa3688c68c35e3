from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qik_core.errors import DefinitionError
from reconciler.cron import Overlap, Slots, crontab

BERLIN = ZoneInfo("Europe/Berlin")
HOUR, DAY = 3600.0, 86_400.0


def berlin(text: str, since: datetime, count: int) -> list[str]:
    """Return the first times after a moment, as clocks in Berlin show them."""
    times, found = crontab("X", "schedule", text), list[str]()
    for _ in range(count):
        since = times.after(since, BERLIN)
        found.append(since.astimezone(BERLIN).strftime("%d %H:%M %Z"))
    return found


def test_a_fixed_time_in_the_hour_that_clocks_leave_out_falls_due_at_its_end_and_only_that_day() -> (
    None
):
    before = datetime(2026, 3, 27, 12, tzinfo=UTC)

    assert berlin("30 2 * * *", before, 3) == ["28 02:30 CET", "29 03:00 CEST", "30 02:30 CEST"]


def test_a_fixed_time_in_the_hour_that_comes_twice_falls_due_at_the_first() -> None:
    before = datetime(2026, 10, 24, 12, tzinfo=UTC)

    assert berlin("30 2 * * *", before, 2) == ["25 02:30 CEST", "26 02:30 CET"]


def test_what_runs_by_the_minute_follows_the_time_that_really_passed() -> None:
    twice = datetime(2026, 10, 24, 23, 45, tzinfo=UTC)
    never = datetime(2026, 3, 29, 0, 45, tzinfo=UTC)

    assert berlin("*/30 * * * *", twice, 4) == [
        "25 02:00 CEST",
        "25 02:30 CEST",
        "25 02:00 CET",
        "25 02:30 CET",
    ]
    assert berlin("*/30 * * * *", never, 2) == ["29 03:00 CEST", "29 03:30 CEST"]


def test_a_time_asked_for_in_the_second_of_two_equal_hours_is_not_the_one_that_has_passed() -> None:
    second = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 02:15 CET, an hour after 02:15 CEST

    assert berlin("30 2 * * *", second, 1) == ["26 02:30 CET"]


@given(
    st.integers(1_600_000_000, 2_000_000_000).map(lambda each: datetime.fromtimestamp(each, UTC)),
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 0 1 * *", "15 2,3 * * 0", "0 */2 * * *"]),
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"]),
)
def test_times_rise_and_one_window_is_the_sum_of_two(since: datetime, text: str, zone: str) -> None:
    times, place = crontab("X", "schedule", text), ZoneInfo(zone)
    middle, until = since + timedelta(days=1, minutes=7), since + timedelta(days=3)

    whole = list(times.between(since, until, place))

    assert whole == sorted(set(whole))
    assert whole == [*times.between(since, middle, place), *times.between(middle, until, place)]
    assert all(since < each <= until for each in whole)


@pytest.mark.parametrize(
    ("text", "longest", "shortest"),
    [
        ("* * * * *", 60.0, 60.0),
        ("0 6 * * *", DAY, DAY),
        ("*/5 9-17 * * 1-5", 2 * DAY + 15 * HOUR + 300, 300.0),
        ("0 6,18 * * *", 12 * HOUR, 12 * HOUR),
        ("0 0 1 * *", 31 * DAY, 28 * DAY),
        ("0 0 29 2 *", 1461 * DAY, 1461 * DAY),
        ("0 0 * * 0", 7 * DAY, 7 * DAY),
        ("0 0 * * 7", 7 * DAY, 7 * DAY),
    ],
)
def test_how_far_apart_its_times_are_is_known(text: str, longest: float, shortest: float) -> None:
    made = crontab("X", "cron", text)

    assert (made.longest, made.shortest) == (longest, shortest)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 6 * *", "five fields"),
        ("0 0 6 * * *", "five fields"),
        ("@daily", "five fields"),
        ("", "five fields"),
        (None, "five fields"),
        (5, "five fields"),
        ("60 * * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 * 13 *", "bad month"),
        ("0 0 * * 8", "bad day-of-week"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("٣ * * * *", "bad minute"),
        ("9" * 5_000 + " * * * *", ""),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_what_is_no_crontab_is_refused_with_an_example(text: object, why: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        crontab("Mine", "cron", text)

    assert str(refused.value).startswith("Mine [cron]: cron is ")
    assert why in str(refused.value)
    assert "cron='0 6 * * *'" in str(refused.value)


def slots(text: str = "0 6 * * *", **changed: object) -> Slots:
    given = {"zone": BERLIN, "catchup": 3 * DAY, "overlap": Overlap.ALL, "since": None, **changed}
    return Slots(times=crontab("X", "schedule", text), **given)  # type: ignore[arg-type]


def test_slots_are_expected_as_far_back_as_the_window_reaches_and_up_to_now() -> None:
    now = datetime(2026, 6, 10, 4, 0, tzinfo=UTC)  # six o'clock in Berlin

    found = slots().expected(now.timestamp())

    assert found == [int((now - timedelta(days=each)).timestamp()) for each in (2, 1, 0)]
    assert slots().expected(now.timestamp() - 1)[-1] == int((now - timedelta(days=1)).timestamp())


def test_slots_up_to_a_beginning_are_not_expected() -> None:
    now = datetime(2026, 6, 10, 5, 0, tzinfo=UTC)

    found = slots(since=now - timedelta(days=1)).expected(now.timestamp())

    assert found == [int(datetime(2026, 6, 10, 4, tzinfo=UTC).timestamp())]
