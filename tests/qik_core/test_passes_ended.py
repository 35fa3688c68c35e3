"""What a pass reads beside locks: records of jobs that have ended, how much waits, which locks a roll found empty."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import pytest
import redis

from qik_core.errors import StoreError, WrongType
from qik_core.passes import ANY_VERSION, Ended, EndedKind, Passes
from qik_core.store.ended import note
from tests.qik_core.store.rig import Rig, digest, jid

pytestmark = pytest.mark.every_server


@pytest.fixture
def passes(rig: Rig) -> Passes:
    return Passes(rig.store)


def record(number: int, kind: EndedKind = EndedKind.DIED) -> bytes:
    key = digest(number).decode()
    said = note(kind, "Charge", key, [number], jid=jid(number).decode(), error="ValueError: no")
    head, _, rest = said.partition(b" ")
    return b"%s 1764000000.%06d abcdef %s" % (head, number, rest)


def leave(rig: Rig, *numbers: int) -> None:
    for number in numbers:
        rig.raw.lpush("qik:ended", record(number))


def read(ended: Sequence[Ended]) -> list[int]:
    return [each.args[0] for each in ended]


# --- records of jobs that have ended ---------------------------------------------


def test_records_are_read_oldest_first_and_stay(rig: Rig, passes: Passes) -> None:
    leave(rig, 1, 2, 3)

    assert read(passes.ended()) == [1, 2, 3]
    assert read(passes.ended(most=2)) == [1, 2]
    assert passes.ended()[0] == Ended(
        kind=EndedKind.DIED,
        name="Charge",
        digest=digest(1).decode(),
        args=[1],
        version="abcdef",
        jid=jid(1).decode(),
        error="ValueError: no",
        at=1764000000.000001,
    )


def test_only_what_was_read_is_forgotten_whatever_came_meanwhile(rig: Rig, passes: Passes) -> None:
    leave(rig, 1, 2, 3)
    assert read(passes.ended(most=2)) == [1, 2]
    leave(rig, 4)
    passes.forget_ended(2)

    assert read(passes.ended()) == [3, 4]
    passes.forget_ended(2)
    assert rig.raw.exists("qik:ended") == 0


def test_two_readers_at_once_forget_nothing_that_one_of_them_has_not_read(
    rig: Rig, passes: Passes
) -> None:
    other = Passes(rig.store)
    leave(rig, 1, 2, 3)
    assert read(passes.ended()) == [1, 2, 3]
    assert read(other.ended(most=2)) == [1, 2]
    leave(rig, 4, 5)

    other.forget_ended(2)
    passes.forget_ended(3)
    passes.forget_ended(3)
    assert read(passes.ended()) == [4, 5]


def test_forgetting_before_reading_forgets_nothing(rig: Rig, passes: Passes) -> None:
    leave(rig, 1)
    passes.forget_ended(5)

    assert read(passes.ended()) == [1]


@pytest.mark.parametrize(
    "wrong",
    [b"", b"x", b"died", b"died x ------ {}", b"swum 1.0 ------ {}", b"died 1.0 ------ [1]",
     b'died 1.0 ------ {"name":1,"digest":"","args":[],"jid":""}', b"\xff\xfe 1.0 ------ {}",
     b"died 1.0 \xff\xff\xff\xff\xff\xff {}"],
)  # fmt: skip
def test_what_is_no_record_is_removed_counted_and_logged_raw(
    rig: Rig, passes: Passes, caplog: pytest.LogCaptureFixture, wrong: bytes
) -> None:
    leave(rig, 1)
    rig.raw.lpush("qik:ended", wrong)
    leave(rig, 2)

    with caplog.at_level(logging.ERROR):
        assert read(passes.ended()) == [1, 2]
    assert "cannot be read" in caplog.text
    passes.forget_ended(2)
    assert rig.raw.exists("qik:ended") == 0
    assert rig.raw.hget("qik:counts", "ended_unreadable") == b"1"


def test_a_key_that_is_no_list_is_named(rig: Rig, passes: Passes) -> None:
    rig.raw.set("qik:ended", "x")

    with pytest.raises(WrongType, match="qik:ended"):
        passes.ended()


def test_records_are_read_and_forgotten_on_a_full_redis(rig: Rig, passes: Passes) -> None:
    leave(rig, 1, 2)
    rig.raw.config_set("maxmemory", 100_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        rig.raw.set("a", "1")

    assert read(passes.ended()) == [1, 2]
    passes.forget_ended(2)
    assert passes.ended() == []


def test_long_arguments_stay_out_of_a_record_and_errors_are_one_line() -> None:
    said = note(EndedKind.DIED, "C", "", ["x" * 5000], jid="j", error="E: a\n  b" + "c" * 900)

    assert len(said) < 700
    assert b'"args":[]' in said
    assert b"E: a bccc" in said


# --- how much waits ----------------------------------------------------------------


def test_the_pressure_of_a_queue_counts_what_waits_and_what_passes_have_put_off(
    rig: Rig, passes: Passes
) -> None:
    before = time.time()
    rig.push(1, 2)
    rig.tell(3, delays=[60])
    rig.push(4, delays=[60])  # of an application: in Sidekiq's schedule

    pressure = passes.pressure("default")
    assert (pressure.depth, pressure.memory) == (3, 0.0)
    assert 0 <= pressure.latency <= time.time() - before
    assert passes.pressure("empty").depth == passes.pressure("empty").latency == 0


def test_the_pressure_says_how_full_the_server_is(rig: Rig, passes: Passes) -> None:
    used = rig.raw.info("memory")["used_memory"]
    rig.raw.config_set("maxmemory", used * 4)
    assert 0.2 < passes.pressure("default").memory < 0.3

    rig.raw.config_set("maxmemory", used // 2)
    assert passes.pressure("default").memory > 1


def test_the_age_of_a_job_of_ruby_is_read_too(rig: Rig, passes: Passes) -> None:
    at = int((time.time() - 90) * 1000)
    rig.raw.lpush("queue:default", f'{{"class":"A","enqueued_at":{at},"args":[]}}')

    assert 89 < passes.pressure("default").latency < 95


def test_looking_at_the_pressure_writes_nothing(rig: Rig, passes: Passes) -> None:
    rig.raw.flushall()
    passes.pressure("default")

    assert rig.raw.dbsize() == 0


# --- locks without a job -------------------------------------------------------------


def lose(rig: Rig, passes: Passes, *numbers: int) -> None:
    """Push jobs, let somebody delete them, roll."""
    rig.push(*numbers)
    rig.raw.delete("queue:default")
    assert passes.audit(["default"])
    assert passes.roll(time.monotonic() + 10)


def test_the_locks_that_a_roll_found_empty_are_known_for_an_hour(rig: Rig, passes: Passes) -> None:
    lose(rig, passes, 1, 2)
    rig.push(3)

    assert passes.orphans([digest(1), digest(3), digest(2)]) == [True, False, True]
    assert int(rig.raw.hget("qik:counts", "lock_without_job")) == 2
    for key in (b"qik:orphans", *rig.raw.scan_iter("qik:orphans:*")):
        assert 3_500 < rig.raw.ttl(key) <= 3_600


def test_a_later_roll_adds_to_what_is_known(rig: Rig, passes: Passes) -> None:
    lose(rig, passes, 1)
    lose(rig, passes, 2)

    assert passes.orphans([digest(1), digest(2), digest(9)]) == [True, True, False]


def test_what_was_counted_once_is_forgotten(rig: Rig, passes: Passes) -> None:
    lose(rig, passes, 1, 2)

    assert passes.orphans([digest(1)], forget=True) == [True]
    assert passes.orphans([digest(1), digest(2)]) == [False, True]


def test_a_roll_that_found_nothing_leaves_nothing(rig: Rig, passes: Passes) -> None:
    rig.push(1)
    assert passes.roll(time.monotonic() + 10)

    assert passes.orphans([digest(1)]) == [False]
    assert not list(rig.raw.scan_iter("qik:orphans*"))
    assert passes.orphans([]) == []


def test_a_roll_ends_though_what_it_found_cannot_be_kept(rig: Rig, passes: Passes) -> None:
    rig.raw.set("qik:orphans", "somebody else's")
    before = passes.look()
    lose(rig, passes, 1, 2)
    rig.push(3)

    assert passes.look().loss == before.loss
    assert rig.locks() == 1
    assert int(rig.raw.hget("qik:counts", "lock_without_job")) == 2


def test_orphans_are_read_when_redis_is_full_and_an_outage_is_an_error(
    rig: Rig, passes: Passes
) -> None:
    lose(rig, passes, 1)
    rig.raw.config_set("maxmemory", 100_000)
    assert passes.orphans([digest(1)], forget=True) == [True]
    rig.raw.config_set("maxmemory", 0)
    rig.raw.set("qik:orphans", "x")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        passes.orphans([digest(1)])


def test_no_version_is_spelled_with_six_dashes() -> None:
    assert ANY_VERSION == "-" * 6
