"""What a beat answers: who was cancelled, whether Redis knew the process, how many there are."""

from __future__ import annotations

import json
import time

from tests.qik_core.engine import Jobs, Start
from tests.qik_core.store.rig import Rig, jid
from tests.waiting import eventually


def cancel(rig: Rig, number: int, seconds: float = 60.0) -> None:
    rig.raw.zadd("qik:cancelled", {jid(number): time.time() + seconds})


def test_the_run_of_a_job_that_somebody_cancelled_is_asked_to_stop(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1, 2)
    engine = start()
    rig.edge(1, 2)
    eventually(lambda: len(jobs.contexts) == 2)
    cancel(rig, 1)
    engine.heartbeat.beat()

    assert (jobs.contexts[1].cancelled, jobs.contexts[2].cancelled) == (True, False)


def test_a_beat_tells_who_was_cancelled_and_forgets_them_after_their_time(
    rig: Rig, start: Start
) -> None:
    engine, told = start(), []
    engine.heartbeat.on_beat = lambda beat: told.append(beat.cancelled)
    cancel(rig, 1)
    cancel(rig, 2, seconds=-1.0)
    engine.heartbeat.beat()

    assert told == [frozenset({jid(1).decode()})]
    assert rig.raw.zcard("qik:cancelled") == 1


def test_a_beat_carries_the_500_cancelled_last(rig: Rig, start: Start) -> None:
    engine, told = start(), []
    engine.heartbeat.on_beat = lambda beat: told.append(beat.cancelled)
    for number in range(600):
        cancel(rig, number, seconds=60.0 + number)
    engine.heartbeat.beat()

    assert told == [frozenset(jid(number).decode() for number in range(100, 600))]


def test_a_beat_says_whether_redis_knew_this_process_and_how_many_there_are(
    rig: Rig, start: Start
) -> None:
    one, two = start(), start()
    told: list[tuple[bool, int]] = []
    one.heartbeat.on_beat = lambda beat: told.append((beat.new, beat.processes))
    one.heartbeat.beat()
    two.heartbeat.beat()
    one.heartbeat.beat()
    rig.raw.delete(one.identity)
    one.heartbeat.beat()

    assert told == [(True, 1), (False, 2), (True, 2)]


def test_a_process_of_several_capsules_beats_for_all_of_them(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1, 2)
    engine = start(size=2, capsules={"slow": ["reports"]})
    rig.edge(1)
    rig.edge(2, queue="reports")
    eventually(lambda: jobs.runs[1] and jobs.runs[2])
    engine.heartbeat.beat()

    fields = rig.raw.hgetall(engine.identity)
    assert (fields[b"busy"], fields[b"concurrency"]) == (b"2", b"4")
    works = [json.loads(work) for work in rig.raw.hvals(f"{engine.identity}:work")]
    assert {work["queue"] for work in works} == {"default", "reports"}
