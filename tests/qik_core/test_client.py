from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from qik_core import client, registry, settings
from qik_core.answers import Answers
from qik_core.client import Client
from qik_core.errors import ArgumentError, NotEnqueued
from qik_core.jobs import Job
from qik_core.plan import Plan
from qik_core.results import Advanced, Code, Dirtied, Duplicate, Enqueued
from qik_core.settings import Settings, Wire
from qik_core.store import Origin, Store
from tests.qik_core.jobs_of_tests import (
    TakesAnything,
    TakesInt,
    UniqueInt,
    due,
    scheduled,
    server_time,
    stored,
)
from tests.qik_core.pushing import pusher, store

ROOT = Path(__file__).parents[2]
__all__ = ["pusher", "store"]

PLAIN = Plan()


# --- one job -------------------------------------------------------------------------------------


def test_a_push_answers_with_a_value_for_each_case(pusher: Client) -> None:
    first = pusher.push(UniqueInt, [7])
    second = pusher.push(UniqueInt, [7])
    later = pusher.push(UniqueInt, [8], wait=60)
    sooner = pusher.push(UniqueInt, [8])

    assert isinstance(first, Enqueued)
    assert second == Duplicate(first.jid, Code.DUPLICATE_QUEUED)
    assert isinstance(later, Enqueued)
    assert sooner == Advanced(later.jid)
    assert all((first, second, later, sooner))


def test_a_duplicate_of_a_running_job_is_dirtied() -> None:
    assert Answers(codes=[Code.DIRTIED], jids=[b"new"], standing="running").only() == Dirtied(
        "running"
    )


def test_a_name_that_is_not_defined_here_travels_as_it_is(pusher: Client, raw: redis.Redis) -> None:
    assert pusher.push("Billing::Charge", [7, {"a": None}], queue="ruby", retry=3)

    [payload] = stored(raw, "queue:ruby")
    assert (payload["class"], payload["args"], payload["retry"]) == (
        "Billing::Charge",
        [7, {"a": None}],
        3,
    )
    assert raw.smembers("queues") == {b"ruby"}


def test_a_name_that_is_defined_here_is_checked_as_its_class(
    pusher: Client, raw: redis.Redis
) -> None:
    with pytest.raises(ArgumentError, match="TakesInt: args"):
        pusher.push("TakesInt", ["7"])

    assert pusher.push("TakesInt", [7])
    assert len(stored(raw, "queue:ints")) == 1


def test_an_alias_is_pushed_under_the_registered_name(pusher: Client, raw: redis.Redis) -> None:
    with registry.scope():

        class NewName(Job, aliases=["OldName"], queue="aliased"):
            def perform(self) -> None: ...

        pusher.push("OldName", [])

    assert [each["class"] for each in stored(raw, "queue:aliased")] == ["NewName"]


def test_times_are_milliseconds_where_sidekiq_8_reads_them(
    redis_url: str, raw: redis.Redis
) -> None:
    store = Store(redis_url, milliseconds=True, birth_ms=0)
    Client(store, Settings(wire=Wire.SIDEKIQ8), now=lambda: 1_800_000_000.5).push(TakesInt, [7])
    store.close()

    [payload] = stored(raw, "queue:ints")
    assert payload["created_at"] == payload["enqueued_at"] == 1_800_000_000_500
    assert type(payload["created_at"]) is int


def test_a_pass_is_told_apart_from_an_edge(pusher: Client, raw: redis.Redis) -> None:
    edge, told = Answers(), Answers()
    pusher.send(UniqueInt.definition, [(1,)], Plan(delay=60), edge)
    pusher.send(
        UniqueInt.definition, [(1,), (2,)], Plan(origin=Origin.PASS, delays=[5.0, 6.0]), told
    )

    assert told.codes == [Code.DUPLICATE_SCHEDULED, Code.ENQUEUED]  # a pass does not advance
    assert raw.zcard("qik:later:unique") == 1
    assert raw.zcard("schedule") == 1
    assert told.epoch is not None


# --- bulk ----------------------------------------------------------------------------------------


def test_bulk_answers_a_code_and_a_jid_for_each_row(pusher: Client, raw: redis.Redis) -> None:
    pusher.push(UniqueInt, [3])
    rows = [(number % 1500,) for number in range(2500)]

    result = pusher.bulk(UniqueInt.definition, rows, PLAIN)

    assert result.counts == Counter({Code.ENQUEUED: 1499, Code.DUPLICATE_QUEUED: 1001})
    assert result[3] is Code.DUPLICATE_QUEUED
    assert result.told
    kept = [jid for jid, code in zip(result.jids, result, strict=True) if code is Code.ENQUEUED]
    assert [each["jid"] for each in reversed(stored(raw, "queue:unique"))][1:] == kept
    assert len(set(result.jids)) == 2500


def test_bulk_is_one_copy_of_each_in_the_order_of_the_input(
    pusher: Client, raw: redis.Redis
) -> None:
    result = pusher.bulk(TakesInt.definition, ((number,) for number in range(5001)), PLAIN)

    assert [each["args"][0] for each in reversed(stored(raw, "queue:ints"))] == list(range(5001))
    assert result.counts == {Code.ENQUEUED: 5001}


def test_bulk_takes_its_rows_a_batch_at_a_time(pusher: Client, raw: redis.Redis) -> None:
    taken: list[tuple[int, int]] = []

    def rows() -> Iterator[tuple[int]]:
        for number in range(30):
            taken.append((number, raw.llen("queue:ints")))
            yield (number,)

    pusher.bulk(TakesInt.definition, rows(), PLAIN, batch_size=10)

    assert taken == [(number, number // 10 * 10) for number in range(30)]


def test_jitter_spreads_jobs_evenly_over_its_window(store: Store, raw: redis.Redis) -> None:
    dice = itertools.cycle([0.9, 0.1, 0.5, 0.3])
    pusher = Client(store, dice=lambda: next(dice))
    seconds = server_time(raw)
    plan = Plan.of({"jitter": 100}, "x")

    pusher.bulk(TakesInt.definition, [(number,) for number in range(4)], plan)

    scores = [score - seconds for score in due(raw)]
    assert scores == pytest.approx([10, 30, 50, 90], abs=5)
    assert [each["args"][0] for each in stored(raw, "schedule")] == [0, 1, 2, 3]


def test_jitter_begins_at_the_moment_that_was_given(store: Store, raw: redis.Redis) -> None:
    pusher = Client(store, dice=lambda: 0.5)
    moment = 4_000_000_000.0

    pusher.bulk(
        TakesInt.definition, [(1,), (2,)], Plan.of({"jitter": 100, "wait_until": moment}, "x")
    )

    assert due(raw) == [moment + 50] * 2


def test_jitter_and_a_lock_go_together(pusher: Client, raw: redis.Redis) -> None:
    rows = [(number % 10,) for number in range(100)]

    result = pusher.bulk(UniqueInt.definition, rows, Plan(jitter=100.0))

    assert raw.zcard("schedule") == 10
    # An edge that meets a scheduled duplicate with a time of its own leaves it where it is.
    assert set(result.counts) <= {Code.ENQUEUED, Code.DUPLICATE_SCHEDULED}


# --- the default client --------------------------------------------------------------------------


def test_the_default_client_follows_the_settings(redis_url: str) -> None:
    settings.use(Settings(redis=redis_url))
    first = client.current()
    assert client.current() is first

    settings.configure(concurrency=3)
    second = client.current()
    settings.use(None)

    assert second is not first
    for each in (first, second):
        each.store.close()


def test_without_redis_a_push_fails_in_time_and_says_that_nothing_was_written() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        store = Store(f"redis://127.0.0.1:{unused.getsockname()[1]}/0")
        began = time.monotonic()

        with pytest.raises(NotEnqueued, match="Nothing was written"):
            Client(store).push(TakesInt, [7])

        assert time.monotonic() - began < 4
        store.close()


def test_a_forked_child_a_thread_and_atexit_push_too(redis_url: str, raw: redis.Redis) -> None:
    code = """
import asyncio, atexit, os, threading
from tests.qik_core.jobs_of_tests import TakesInt
TakesInt.perform_async(1)
child = os.fork()
if not child:
    TakesInt.perform_async(2)
    os._exit(0)
os.waitpid(child, 0)
thread = threading.Thread(target=TakesInt.perform_async, args=(3,))
thread.start()
thread.join()
TakesInt.perform_async(4)
atexit.register(TakesInt.perform_async, 5)
atexit.register(lambda: asyncio.run(TakesInt.aio.perform_async(6)))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={"REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert [each["args"][0] for each in stored(raw, "queue:ints")] == [5, 6, 4, 3, 2, 1]


def test_a_module_may_push_while_it_is_imported(
    redis_url: str, raw: redis.Redis, tmp_path: Path
) -> None:
    code = "from tests.qik_core.jobs_of_tests import TakesInt\nTakesInt.perform_async(1)\n"
    (tmp_path / "pushes.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-c", "import pushes"],
        cwd=ROOT,
        env={"REDIS_URL": redis_url, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr, raw.llen("queue:ints")) == (0, "", 1)


def test_a_client_that_was_closed_connects_anew(
    store: Store, pusher: Client, raw: redis.Redis
) -> None:
    pusher.push(TakesInt, [1])
    store.close()

    assert pusher.push(TakesInt, [2])
    assert raw.llen("queue:ints") == 2


def test_an_application_that_only_pushes_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys, qik_core\n"
        "print(sorted(m for m in sys.modules if m.startswith('qik_core')))\n"
        "qik_core.Job\n"
        "print([m for m in ('sqlalchemy', 'alembic', 'click', 'rich', 'structlog', 'prometheus_client') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "['qik_core', 'qik_core.lazy']\n[]\n"


# --- times of a bulk -----------------------------------------------------------------------------


def test_bulk_gives_each_row_a_moment_of_its_own(pusher: Client, raw: redis.Redis) -> None:
    moments = [4_000_000_000.0 - 60 * (number % 7) for number in range(1001)]
    plan = PLAIN.each_at("x", moments)

    result = pusher.bulk(TakesInt.definition, ((n,) for n in range(1001)), plan, batch_size=300)

    assert result.counts == {Code.ENQUEUED: 1001}
    found = {payload["args"][0]: score for payload, score in scheduled(raw)}
    assert [found[number] for number in range(1001)] == moments


def test_a_moment_in_the_past_is_now_for_its_own_row_only(pusher: Client, raw: redis.Redis) -> None:
    pusher.bulk(
        TakesInt.definition, [(1,), (2,)], PLAIN.each_at("x", [1_500_000_000, 4_000_000_000])
    )

    assert [each["args"] for each in stored(raw, "queue:ints")] == [[1]]
    assert [payload["args"] for payload, _ in scheduled(raw)] == [[2]]


def test_jitter_is_added_to_each_rows_own_moment(store: Store, raw: redis.Redis) -> None:
    pusher = Client(store, dice=lambda: 0.5)
    plan = Plan.of({"jitter": 100}, "x").each_at("x", [4_000_000_000, 4_000_000_500])

    pusher.bulk(TakesInt.definition, [(1,), (2,)], plan)

    assert due(raw) == [4_000_000_050, 4_000_000_550]


@pytest.mark.parametrize("count", [0, 2, 4], ids=str)
def test_as_many_moments_as_rows_are_wanted_and_nothing_is_written_otherwise(
    count: int, pusher: Client, raw: redis.Redis
) -> None:
    plan = PLAIN.each_at("x", [4_000_000_000] * count)

    with pytest.raises(ArgumentError, match=rf"TakesInt: at has {count} times for 3 rows"):
        pusher.bulk(TakesInt.definition, [(1,), (2,), (3,)], plan)

    assert due(raw) == []


def test_a_lazy_row_without_a_moment_is_named_before_its_batch_is_written(
    pusher: Client, raw: redis.Redis
) -> None:
    plan = PLAIN.each_at("x", [4_000_000_000] * 5)

    with pytest.raises(ArgumentError, match=r"item 5: there is no time for it: at has 5"):
        pusher.bulk(TakesInt.definition, ((n,) for n in range(9)), plan, batch_size=3)

    assert raw.zcard("schedule") == 3


def test_moments_that_are_left_over_are_said_and_the_rows_were_written(
    pusher: Client, raw: redis.Redis
) -> None:
    plan = PLAIN.each_at("x", [4_000_000_000] * 5)

    with pytest.raises(ArgumentError, match="at has 5 times, and rows ended after 3, which were"):
        pusher.bulk(TakesInt.definition, ((n,) for n in range(3)), plan)

    assert raw.zcard("schedule") == 3


# --- the size of a job ---------------------------------------------------------------------------


def test_a_job_may_be_as_large_as_max_payload_and_no_larger(store: Store, raw: redis.Redis) -> None:
    pusher = Client(store, Settings(max_payload=2_000))
    pusher.push(TakesAnything, ["x" * 1_000])
    room = 2_000 - len(raw.lrange("queue:any", 0, 0)[0])

    assert pusher.push(TakesAnything, ["x" * (1_000 + room)])
    with pytest.raises(
        ArgumentError, match=r"TakesAnything: args make a job of 2,001 bytes"
    ) as one:
        pusher.push(TakesAnything, ["x" * (1_001 + room)])
    with pytest.raises(ArgumentError, match="item 4: TakesAnything: args make a job of") as many:
        pusher.bulk(
            TakesAnything.definition,
            [("x",)] * 4 + [("x" * (1_001 + room),)],
            PLAIN,
            batch_size=2,
        )

    for caught in (one, many):
        assert "larger than 2,000 bytes (max_payload): store it, and pass its id" in str(
            caught.value
        )
    assert raw.llen("queue:any") == 2 + 4
