"""What each class ran, minute by minute, in the keys and forms that Sidekiq's Metrics page reads."""

from __future__ import annotations

import calendar
import time
from typing import Any

import pytest

from qik_core.store import keys, minutes
from qik_core.store.minutes import BUCKETS, Count, Ran
from tests.qik_core.store.rig import Rig

AT = float(calendar.timegm((2026, 11, 2, 8, 4, 59)))
NO = [0] * (len(BUCKETS) + 1)


def ran(name: str, processed: int = 1, failed: int = 0, ms: int = 5, **at: int) -> Ran:
    """So many runs, with `b<bucket>` of them in a bucket."""
    buckets = [at.get(f"b{n}", 0) for n in range(len(NO))]
    return Ran(name, processed, failed, ms, buckets)


def add(rig: Rig, *rows: Ran, eight: bool = True, at: float = AT) -> str:
    return minutes.add(rig.link.run, at, rows, eight=eight)


def both(at: float = AT) -> list[list[bytes]]:
    return [[keys.minute(at, eight=True), keys.minute(at, eight=False)]]


def of_all(rig: Rig, at: float = AT) -> tuple[dict[str, Count], bool]:
    return minutes.of_all(rig.store.links, both(at), time.monotonic() + 60)


def counters(raw: Any, key: str | bytes) -> list[int]:
    """A histogram as Sidekiq reads it."""
    asked = [word for n in range(26) for word in ("GET", "u16", f"#{n}")]
    found: list[int] = raw.execute_command("BITFIELD", key, *asked)
    return found


@pytest.mark.parametrize(
    ("eight", "minute", "histogram"),
    [
        (True, "j|261102|8:04", "h|Billing::Charge-2-8:4"),
        (False, "j|20261102|8:4", "Billing::Charge-02-08:4"),
    ],
)
def test_numbers_are_where_sidekiqs_metrics_page_looks_for_them(
    rig: Rig, eight: bool, minute: str, histogram: str
) -> None:
    assert add(rig, ran("Billing::Charge", 3, 1, 90, b0=1, b25=1), eight=eight) == ""
    assert add(rig, ran("Billing::Charge", 2, 0, 10, b0=2), ran("B", 1, 1, 0), eight=eight) == ""

    total = {b"Billing::Charge|p": b"5", b"Billing::Charge|f": b"1", b"Billing::Charge|ms": b"100",
             b"B|p": b"1", b"B|f": b"1"}  # fmt: skip
    assert rig.raw.hgetall(minute) == rig.raw.hgetall("j|261102|8:0") == total
    assert counters(rig.raw, histogram) == [3, *NO[2:], 1]
    kept = {minute: 8, "j|261102|8:0": 72, histogram: 8}
    assert {each: round(rig.raw.ttl(each) / 3_600) for each in kept} == kept


def test_minutes_hours_and_days_of_two_digits_are_written_as_sidekiq_writes_them(rig: Rig) -> None:
    at = float(calendar.timegm((2026, 1, 31, 23, 40, 0)))

    add(rig, ran("A", b0=1), at=at)
    add(rig, ran("A", b0=1), at=at, eight=False)

    found = {key.decode() for key in rig.raw.scan_iter() if b"A-" in key or b"j|" in key}
    assert found == {
        "j|260131|23:40", "j|260131|23:4", "h|A-31-23:40", "j|20260131|23:40", "A-31-23:40",
    }  # fmt: skip


def test_a_counter_of_a_histogram_stays_at_its_highest(rig: Rig) -> None:
    add(rig, ran("A", b3=65_000))
    add(rig, ran("A", b3=65_000))

    assert counters(rig.raw, "h|A-2-8:4")[3] == 65_535


def test_a_key_that_somebody_spoiled_costs_its_own_numbers_alone_and_is_told(rig: Rig) -> None:
    rig.raw.lpush("h|A-2-8:4", "a list")
    rig.raw.hset("j|261102|8:04", "A|p", "no number")

    said = add(rig, ran("A", 3, 2, 90, b0=1), ran("B", b1=1))

    assert "not an integer" in said
    assert rig.raw.hgetall("j|261102|8:0")[b"A|p"] == b"3"
    assert rig.raw.hgetall("j|261102|8:04")[b"A|f"] == b"2"
    assert counters(rig.raw, "h|B-2-8:4")[1] == 1


def test_a_thousand_classes_are_written_in_parts_and_read_whole(rig: Rig) -> None:
    names = [f"Job{n}" for n in range(minutes.MOST_CLASSES)]

    assert add(rig, *(ran(name, b0=1) for name in names)) == ""

    found, whole = of_all(rig)
    assert (set(found), whole) == (set(names), True)
    assert set(found.values()) == {Count(1, 0, 5)}


def test_a_minute_with_more_classes_is_read_in_part_and_that_is_said(rig: Rig) -> None:
    rig.raw.hset("j|261102|8:04", mapping={f"Job{n}|p": 1 for n in range(50_000)})

    found, whole = of_all(rig)

    assert not whole
    assert 500 < len(found) < 10_000


def test_what_there_is_no_time_for_is_not_read_and_that_is_said(rig: Rig) -> None:
    add(rig, ran("A"))

    assert minutes.of_all(rig.store.links, both(), time.monotonic()) == ({}, False)


def test_minutes_of_sidekiq_7_and_8_are_added_up(rig: Rig) -> None:
    add(rig, ran("A", 3, 1, 50, b0=2))
    add(rig, ran("A", 4, 0, 70, b0=4), eight=False)
    names = [keys.histogram("A", AT, eight=eight) for eight in (True, False)]

    assert of_all(rig) == ({"A": Count(7, 1, 120)}, True)
    assert minutes.of_one(rig.store.links, "A", both(), names) == ([Count(7, 1, 120)], [6, *NO[1:]])


def test_what_is_no_number_counts_as_none(rig: Rig) -> None:
    rig.raw.hset(
        "j|261102|8:04",
        mapping={
            "A|p": "-5", "A|f": "1e9", "A|ms": "9" * 400, "B|x": 1, "no bar": 1, "|p": 1, b"\xff|p": 2, "C|D|p": 3,
        },
    )  # fmt: skip
    rig.raw.set("j|20261102|8:4", "no hash")
    rig.raw.lpush("h|A-2-8:4", "no string")
    rig.raw.set("A-02-08:4", "x" * 100_000)
    names = [keys.histogram("A", AT, eight=eight) for eight in (True, False)]

    assert of_all(rig) == ({"A": Count(), "�": Count(2), "C|D": Count(3)}, True)
    counts, sizes = minutes.of_one(rig.store.links, "A", both(), names)
    assert (counts, sizes) == ([Count()], [0x7878] * 26)


def test_nothing_ran_where_there_is_nothing(rig: Rig) -> None:
    names = [keys.histogram("A", AT, eight=True)]

    assert of_all(rig) == ({}, True)
    assert minutes.of_one(rig.store.links, "A", both(), names) == ([Count()], NO)
    assert minutes.marks(rig.store.links, AT, AT) == {}


def test_a_deploy_is_marked_once_a_label_and_minute_as_sidekiq_does(rig: Rig) -> None:
    links = rig.store.links

    assert minutes.mark(links, AT, "v2") is True
    assert minutes.mark(links, AT, "v2") is False
    assert minutes.mark(links, AT, "v3") is True  # another one, in a minute that has its mark

    assert rig.raw.hgetall("20261102-marks") == {b"2026-11-02T08:04:00Z": b"v2"}
    assert 89 * 86_400 < rig.raw.ttl("20261102-marks") <= 90 * 86_400
    assert 50 < rig.raw.ttl("deploylock-v2") <= 60
    assert minutes.marks(links, AT - 86_400, AT) == {b"2026-11-02T08:04:00Z": b"v2"}
