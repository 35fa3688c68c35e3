"""People and workers who reach for the same jobs at the same moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from qik_core.api import Act, DeadSet, JobSet, Queue, RetrySet
from tests.qik_core.api.places import nothing_missing, put
from tests.qik_core.engine import Jobs, Start, drained
from tests.qik_core.store.rig import Rig
from tests.waiting import eventually

JOBS = 2000


def together(*works: Callable[[], None]) -> None:
    """Run these at the same time; an error in one fails the test."""
    with ThreadPoolExecutor(len(works)) as pool:
        for running in [pool.submit(work) for work in works]:
            running.result(60)


def push(rig: Rig, count: int) -> None:
    for start in range(1, count, 500):
        rig.edge(*range(start, start + 500))


@pytest.mark.every_server
def test_two_deleters_and_a_worker_have_exactly_one_effect_on_each_job(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    push(rig, JOBS)
    deleted: Counter[int] = Counter()

    def delete() -> None:
        queue = Queue(store=rig.store)
        for job in queue:
            if queue.delete(job):
                deleted[job.args[0]] += 1
                jobs.open()

    jobs.slow(
        501, 1001
    )  # both threads wait for the first deletion, so that neither side is done before the other
    start(size=2)
    eventually(lambda: jobs.ends)
    together(delete, delete)
    eventually(lambda: drained(rig), 30)

    effects = deleted + jobs.ends
    assert len(effects) == JOBS
    assert set(effects.values()) == {1}
    assert deleted
    assert jobs.ends
    assert nothing_missing(rig)


def test_a_filter_a_clearing_and_a_worker_have_exactly_one_effect_on_each_job(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    push(rig, JOBS)
    gone: list[int] = []

    start(size=2)
    together(
        lambda: gone.append(Queue(store=rig.store).delete_all("class:Charge").done),
        lambda: gone.append(Queue(store=rig.store).clear()),
        lambda: gone.append(Queue(store=rig.store).bury_all("class:Charge").done),
    )
    eventually(lambda: drained(rig), 30)

    assert sum(gone) + sum(jobs.ends.values()) == JOBS
    assert set(jobs.ends.values()) <= {1}
    assert rig.locks() == 0
    assert nothing_missing(rig)


@pytest.mark.parametrize("key", ["retry", "dead"])
def test_two_people_who_retry_everything_run_each_job_once(
    rig: Rig, jobs: Jobs, start: Start, key: str
) -> None:
    for first in range(1, JOBS, 500):
        put(rig, key, *range(first, first + 500))
    place: RetrySet | DeadSet = RetrySet(rig.store) if key == "retry" else DeadSet(rig.store)
    done: list[int] = []

    start(size=2)
    together(
        lambda: done.append(place.retry_all().done), lambda: done.append(place.retry_all().done)
    )
    eventually(lambda: drained(rig), 30)

    assert sum(done) == JOBS
    assert len(jobs.ends) == JOBS
    assert set(jobs.ends.values()) == {1}
    assert nothing_missing(rig)


def test_deleting_and_retrying_one_set_at_once_loses_and_doubles_nothing(rig: Rig) -> None:
    for first in range(1, JOBS, 500):
        put(rig, "retry", *range(first, first + 500))
    acts: Counter[str] = Counter()

    def change(what: str) -> Callable[[], None]:
        def work() -> None:
            place: JobSet = RetrySet(rig.store)
            for job in place:
                acts[what] += getattr(place, what)(job).act is Act.DONE

        return work

    together(change("delete"), change("retry"), change("bury"))

    assert sum(acts.values()) == JOBS
    assert rig.raw.zcard("retry") == 0
    assert rig.raw.llen("queue:default") == acts["retry"] == rig.locks()
    assert rig.raw.zcard("dead") == acts["bury"]
    assert nothing_missing(rig)
