from __future__ import annotations

import os
import signal
import time

import pytest
import redis

from qik_core.embedded import Embedded
from qik_core.errors import NotEnqueued, OutcomeUnknown
from qik_core.payload import Payload
from qik_core.results import Code
from qik_core.store import Chunk, Store
from tests.qik_core.store.rig import LIMITS, Rig, digest, done, jid

pytestmark = pytest.mark.every_server


def test_a_job_and_its_lock_appear_together(rig: Rig) -> None:
    assert rig.edge(1) == [Code.ENQUEUED]

    assert rig.queued() == [jid(1).decode()]
    assert rig.lock(1) is not None
    assert rig.raw.smembers("queues") == {b"default"}


def test_first_pushed_is_first_out(rig: Rig) -> None:
    rig.edge(1, 2, 3)
    rig.edge(4)

    assert [int(name, 16) for name in rig.queued()] == [1, 2, 3, 4]


def test_a_call_sent_twice_changes_nothing_and_answers_the_same(rig: Rig) -> None:
    first = rig.push(1, 2, unique=False)
    second = rig.push(1, 2, unique=False)

    assert (second.codes, second.jid) == (first.codes, first.jid)
    assert rig.raw.llen("queue:default") == 2


def test_a_duplicate_names_the_job_that_is_there(rig: Rig) -> None:
    rig.edge(1)
    pushed = rig.push(2, keys=[1])

    assert pushed.codes == [Code.DUPLICATE_QUEUED]
    assert pushed.jid == jid(1).decode()


def test_one_chunk_with_one_key_twice_enqueues_it_once(rig: Rig) -> None:
    assert rig.edge(1, 2, keys=[7, 7]) == [Code.ENQUEUED, Code.DUPLICATE_QUEUED]
    assert rig.raw.llen("queue:default") == 1


def test_the_own_jid_is_never_a_duplicate(rig: Rig) -> None:
    rig.edge(1)
    rig.raw.delete("qik:sent:" + jid(1).decode())

    assert rig.edge(1) == [Code.ENQUEUED]
    assert rig.raw.llen("queue:default") == 1


def test_an_edge_advances_a_scheduled_duplicate(rig: Rig) -> None:
    rig.edge(1, delays=[60.0])
    assert rig.raw.zcard("schedule") == 1

    assert rig.edge(2, keys=[1]) == [Code.ADVANCED]
    assert rig.raw.zcard("schedule") == 0
    assert rig.queued() == [jid(1).decode()]
    raw = rig.raw.lindex("queue:default", 0)
    assert raw is not None
    assert list(Payload.decode(raw).fields)[-1] == "enqueued_at"


def test_an_edge_advances_what_a_pass_has_spread_on_another_queue(rig: Rig) -> None:
    rig.tell(1, delays=[60.0], queue="passes")
    assert rig.raw.zcard("qik:later:passes") == 1

    assert rig.edge(2, keys=[1]) == [Code.ADVANCED]
    assert rig.queued("passes") == [jid(1).decode()]


def test_an_edge_with_a_time_of_its_own_advances_nothing(rig: Rig) -> None:
    rig.edge(1, delays=[60.0])

    assert rig.edge(2, keys=[1], delays=[5.0]) == [Code.DUPLICATE_SCHEDULED]
    assert rig.raw.zcard("schedule") == 1


def test_a_pass_never_advances(rig: Rig) -> None:
    rig.edge(1, delays=[60.0])

    assert rig.tell(2, keys=[1]) == [Code.DUPLICATE_SCHEDULED]
    assert rig.raw.zcard("schedule") == 1


def test_a_scheduled_job_that_somebody_deleted_is_a_duplicate_not_a_second_copy(rig: Rig) -> None:
    rig.edge(1, delays=[60.0])
    rig.raw.delete("schedule")

    assert rig.edge(2, keys=[1]) == [Code.DUPLICATE_SCHEDULED]
    assert rig.raw.llen("queue:default") == 0


def test_an_edge_marks_a_running_job_dirty_and_it_runs_once_more(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    job = worker.fetch()[0]

    assert rig.edge(2, keys=[1]) == [Code.DIRTIED]
    again = worker.exchange(done(job)).jobs

    assert [each.raw for each in again] == [job.raw]
    worker.exchange(done(again[0]))
    assert rig.locks() == 0


def test_a_pass_does_not_mark_a_running_job(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker()
    job = worker.fetch()[0]

    assert rig.tell(2, keys=[1]) == [Code.DUPLICATE_RUNNING]
    assert worker.exchange(done(job)).jobs == []
    assert rig.locks() == 0


def test_a_pass_with_a_newer_row_version_marks_a_running_job(rig: Rig) -> None:
    rig.tell(1, versions=[b"aaaaaa"])
    rig.worker().fetch()

    assert rig.tell(2, keys=[1], versions=[b"aaaaaa"]) == [Code.DUPLICATE_RUNNING]
    assert rig.tell(3, keys=[1], versions=[b"bbbbbb"]) == [Code.DIRTIED]
    assert rig.tell(4, keys=[1], versions=[b"bbbbbb"]) == [Code.DUPLICATE_RUNNING]


def test_past_its_window_an_edge_gets_a_new_job_and_a_pass_does_not(rig: Rig) -> None:
    rig.edge(1, 2)
    for key in (1, 2):
        record = rig.lock(key)
        assert record is not None
        rig.raw.hset(
            "qik:unique:" + rig.store.look().generation,
            digest(key),
            record[:8] + "0000000001" + record[18:],
        )

    assert rig.edge(11, keys=[1]) == [Code.ENQUEUED]
    assert rig.tell(12, keys=[2]) == [Code.DUPLICATE_QUEUED]
    assert rig.raw.get("qik:roll") == b"1"
    jobs = rig.worker().fetch()
    assert sorted(Payload.decode(job.raw).jid for job in jobs) == [
        jid(2).decode(),
        jid(11).decode(),
    ]


def test_the_lock_until_start_ends_with_the_fetch(rig: Rig) -> None:
    rig.edge(1, until="start")
    rig.worker().fetch()

    assert rig.locks() == 0
    assert rig.edge(2, keys=[1], until="start") == [Code.ENQUEUED]


def test_a_delay_in_the_past_goes_on_the_queue_at_once(rig: Rig) -> None:
    rig.edge(1, due=[time.time() - 5])

    assert rig.queued() == [jid(1).decode()]
    assert rig.raw.zcard("schedule") == 0


def test_without_locks_no_hash_grows(rig: Rig) -> None:
    rig.edge(1, 2, 3, unique=False)

    assert rig.locks() == 0


def test_a_full_server_refuses_pushes_and_still_drains(rig: Rig) -> None:
    rig.edge(*range(1, 6))
    worker = rig.worker()
    rig.raw.config_set("maxmemory", 1)

    with pytest.raises(NotEnqueued, match="full"):
        rig.edge(9)
    jobs = worker.fetch()
    assert len(jobs) == 5
    worker.exchange(*[done(job) for job in jobs])
    assert rig.locks() == 0
    assert worker.held == 0


def test_totals_are_counted_on_a_full_server_too(rig: Rig) -> None:
    rig.store.count("edge_lost", 2)
    rig.raw.config_set("maxmemory", 1)
    rig.store.count("edge_lost", 3)

    assert rig.raw.hgetall("qik:counts") == {b"edge_lost": b"5"}


def test_a_deleted_hash_of_locks_counts_as_a_loss(rig: Rig) -> None:
    before = rig.store.look()
    rig.edge(1)
    rig.raw.delete("qik:unique:" + before.generation)

    assert rig.edge(2, keys=[1]) == [Code.ENQUEUED]
    assert rig.store.look().loss != before.loss


def test_after_a_flush_every_push_meets_a_new_epoch(rig: Rig) -> None:
    before = rig.push(1).epoch
    rig.raw.flushall()
    after = rig.push(2).epoch

    assert (after.loss, after.birth_ms) != (before.loss, before.birth_ms)


def test_scripts_are_sent_again_when_the_server_has_forgotten_them(rig: Rig) -> None:
    rig.edge(1)
    rig.raw.script_flush()

    assert rig.edge(2) == [Code.ENQUEUED]


def test_nothing_is_written_when_nobody_listens() -> None:
    began = time.monotonic()

    with pytest.raises(NotEnqueued, match="Nothing was written"):
        Store("redis://127.0.0.1:1/0").push(Chunk(queue="q", jids=[b"a"], payloads=[b"{}"]))
    assert time.monotonic() - began < 4


def test_a_server_that_hangs_leaves_the_outcome_unknown_and_the_job_there_once(
    rig: Rig, redis_server: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qik_core.store.store.PATIENCE", 1.2)  # it is sent twice
    rig.store.look()
    assert redis_server.pid is not None
    os.kill(redis_server.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(OutcomeUnknown, match="push again with jid") as caught:
            rig.push(1, unique=False)
        assert time.monotonic() - began < 4
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    assert caught.value.jid == jid(1).decode()
    assert rig.push(1, unique=False).codes == [Code.ENQUEUED]
    assert rig.raw.llen("queue:default") == 1


def test_a_chunk_has_at_most_500_jobs(rig: Rig) -> None:
    with pytest.raises(ValueError, match="1 to 500"):
        rig.edge(*range(501))


def test_bytes_and_commands_per_job_stay_few(rig: Rig, raw: redis.Redis) -> None:
    rig.edge(*range(1, 501))
    used = raw.memory_usage("queue:default") or 0
    locks = raw.memory_usage("qik:unique:" + rig.store.look().generation, samples=0) or 0
    assert (used + locks) / 500 < 340

    raw.config_resetstat()
    rig.edge(*range(501, 1001))
    calls = {
        name: stats["calls"]
        for name, stats in raw.info("commandstats").items()
        if name not in ("cmdstat_config|resetstat", "cmdstat_info")
    }
    assert sum(calls.values()) / 500 < 0.03, calls
    assert LIMITS.lease == 3.0


def test_an_edge_advances_the_right_one_of_thousands_that_are_due_at_one_moment(rig: Rig) -> None:
    due, count = float(int(time.time()) + 60), 1_500
    for start in range(1, count, 500):
        rig.push(*range(start, start + 500), due=[due] * 500)
    wanted = (1, 700, 1_499, 1_500)

    for key in wanted:
        assert rig.edge(9_000 + key, keys=[key]) == [Code.ADVANCED]
    assert sorted(rig.queued()) == sorted(jid(key).decode() for key in wanted)
    assert rig.raw.zcard("schedule") == count - len(wanted)


def test_a_copy_that_somebody_took_from_the_schedule_is_not_advanced(rig: Rig) -> None:
    due = float(int(time.time()) + 60)
    rig.push(1, 2, 3, due=[due] * 3)
    (raw,) = [member for member in rig.raw.zrange("schedule", 0, -1) if jid(2) in member]
    rig.raw.zrem("schedule", raw)

    assert rig.edge(9, keys=[2]) == [Code.DUPLICATE_SCHEDULED]
    assert (rig.queued(), rig.raw.zcard("schedule")) == ([], 2)
