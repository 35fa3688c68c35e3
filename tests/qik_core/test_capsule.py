from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial

import pytest

from qik_core.capsule import LOOK, Capsule, Capsules
from qik_core.crew import Crew
from tests.qik_core.engine import Jobs, Start, drained, held
from tests.qik_core.store.rig import Rig, jid
from tests.waiting import eventually, never

TWO = {"slow": ["reports"]}


def capsules(**queues: list[str]) -> Capsules:
    return Capsules(
        [
            Capsule(
                name,
                Crew(Jobs().process, [lambda _: None] * 2, lambda: None),
                partial(list, names),
                dict.fromkeys(names, 1),
            )
            for name, names in queues.items()
        ]
    )


# --- turns ---------------------------------------------------------------------


def test_capsules_that_want_jobs_take_turns() -> None:
    three = capsules(default=["a"], slow=["b"], other=["c"])
    asked = []
    for _ in range(6):
        capsule, want = three.choose(100.0)
        assert want == 2
        three.served(capsule)
        asked.append(capsule.name)

    assert asked == ["default", "slow", "other"] * 2


def test_a_capsule_whose_queues_were_empty_comes_behind_those_that_may_have_jobs() -> None:
    two = capsules(default=["a"], slow=["b"])
    first = next(iter(two))
    first.dry, first.asked = True, 100.0

    for _ in range(3):
        capsule, _ = two.choose(100.1)
        assert capsule.name == "slow"
        two.served(capsule)


def test_a_capsule_whose_queues_were_empty_looks_again_before_long_however_busy_the_others_are() -> (
    None
):
    two = capsules(default=["a"], slow=["b"])
    first, other = two
    first.dry, first.asked = True, 100.0
    two.served(other)

    assert two.choose(100.001 + LOOK)[0] is first
    assert two.next_look(100.0) == pytest.approx(LOOK)
    assert two.next_look(101.0) == 0.0


def test_queues_that_two_capsules_share_are_named_once() -> None:
    two = capsules(default=["a", "b"], slow=["b", "c"])

    assert two.queues == ["a", "b", "c"]
    assert two.serving("c").name == "slow"
    assert two.serving("nowhere").name == "default"


# --- with a real server ----------------------------------------------------------


def test_each_capsule_runs_the_jobs_of_its_own_queues(rig: Rig, jobs: Jobs, start: Start) -> None:
    start(size=2, capsules=TWO)
    rig.edge(*range(100))
    rig.edge(*range(100, 200), queue="reports")

    eventually(lambda: drained(rig) and not rig.raw.llen("queue:reports"))
    assert jobs.runs == Counter(range(200))


def test_a_capsule_whose_threads_are_all_busy_holds_nothing_back_from_another(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1, 2)
    start(size=2, capsules=TWO)
    rig.edge(1, 2, queue="reports")
    eventually(lambda: jobs.runs[1] and jobs.runs[2])
    rig.edge(*range(10, 210))

    eventually(lambda: all(jobs.ends[n] for n in range(10, 210)))
    rig.edge(3, queue="reports")
    never(lambda: jobs.runs[3], 0.3)
    assert rig.queued("reports") == [jid(3).decode()]
    jobs.open()
    eventually(lambda: jobs.ends[3])


def test_as_many_jobs_of_a_capsule_run_at_once_as_it_has_threads(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(*range(10))
    start(size=2, capsules=TWO)
    rig.edge(*range(5))
    rig.edge(*range(5, 10), queue="reports")

    eventually(lambda: sum(jobs.runs.values()) == 4)
    never(lambda: sum(jobs.runs.values()) > 4, 0.3)
    assert sum(jobs.runs[n] for n in range(5)) == 2


@pytest.mark.parametrize("queue", ["default", "reports"])
def test_a_push_wakes_a_process_whose_capsules_all_sleep(
    rig: Rig, jobs: Jobs, start: Start, queue: str
) -> None:
    start(capsules=TWO)
    eventually(lambda: rig.raw.scard("qik:idle:default") and rig.raw.scard("qik:idle:reports"))
    at = time.monotonic()
    rig.edge(1, queue=queue)

    eventually(lambda: jobs.ends[1], 1.0, every=0.002)
    assert time.monotonic() - at < 0.2


@pytest.mark.parametrize("queue", ["default", "reports", "exports"])
def test_a_push_of_ruby_is_found_within_two_seconds_in_every_capsule(
    rig: Rig, jobs: Jobs, start: Start, queue: str
) -> None:
    start(capsules={"slow": ["reports"], "slower": ["exports"]})
    rig.edge(2)
    eventually(lambda: jobs.ends[2])
    rig.raw.lpush(f"queue:{queue}", b'{"class":"X","args":[1],"queue":"%b"}' % queue.encode())

    eventually(lambda: jobs.ends[1], 2.0)


def test_a_push_of_ruby_to_a_sleeping_capsule_is_found_while_another_one_is_busy(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    start(size=2, capsules=TWO)
    stop, pushed = threading.Event(), 10

    def keep_busy() -> None:
        nonlocal pushed
        while not stop.is_set():
            rig.edge(*range(pushed, pushed + 200))
            pushed += 200

    busy = threading.Thread(target=keep_busy)
    busy.start()
    eventually(lambda: jobs.ends[11])
    rig.raw.lpush("queue:reports", b'{"class":"X","args":[1],"queue":"reports"}')
    try:
        eventually(lambda: jobs.ends[1], 2.0)
    finally:
        stop.set()
        busy.join()


def test_capsules_that_share_a_queue_run_no_job_twice_when_they_close(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    engine = start(size=2, capsules={"other": ["default"]})
    rig.edge(*range(1000, 1200))
    eventually(lambda: drained(rig))
    jobs.slow(*range(4))
    rig.edge(*range(40))
    eventually(lambda: len(jobs.contexts.keys() & set(range(4))) == 4)
    engine.courier.close()
    jobs.open()
    assert engine.courier.closed.wait(5)
    assert held(rig) == 0

    start(size=2, capsules={"other": ["default"]})
    eventually(lambda: drained(rig))
    assert jobs.overlaps == []
    assert {n: jobs.runs[n] for n in range(40)} == dict.fromkeys(range(40), 1)


def test_jobs_behind_a_slow_one_go_back_whatever_capsule_they_wait_in(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    start(size=1, capsules=TWO).fetch_ahead()
    eventually(lambda: rig.raw.scard("qik:idle:reports") == 1)
    jobs.slow(1)
    rig.edge(*range(1, 21), queue="reports")
    eventually(lambda: jobs.runs[1])

    eventually(lambda: len(rig.queued("reports")) == 19)
    assert rig.queued("reports") == [jid(n).decode() for n in range(2, 21)]
