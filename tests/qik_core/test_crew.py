from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from qik_core.context import Context
from qik_core.crew import FRESH, Crew
from qik_core.payload import Payload
from qik_core.store.exchange import Done, Fetched, Outcome
from tests.waiting import eventually, never

JOB = Payload({"class": "X", "args": []})


def jobs(*numbers: int) -> list[Fetched]:
    return [Fetched(b"1.%d" % number, b"{}", "default") for number in numbers]


class Work:
    """What the jobs do: each waits for a gate of its own, unless it is open."""

    def __init__(self) -> None:
        self.started: list[bytes] = []
        self.contexts: dict[bytes, Context] = {}
        self.gate = threading.Event()
        self.slow: set[bytes] = set()

    def __call__(self, job: Fetched, entered: Callable[[Context], None]) -> Outcome:
        self.contexts[job.field] = context = Context(JOB)
        entered(context)
        self.started.append(job.field)
        if job.field in self.slow:
            self.gate.wait(10)
        return Done(job)


@pytest.fixture
def work() -> Work:
    return Work()


def crew_of(work: Work, size: int, ring: Callable[[], None] = lambda: None) -> Crew:
    marks: list[list[bytes]] = [[] for _ in range(size)]
    crew = Crew(work, [mark.append for mark in marks], ring)
    crew.looked_at = time.monotonic() + 3600  # fresh for the whole test
    crew.start()
    return crew


def test_every_job_of_the_pocket_is_run_once(work: Work) -> None:
    crew = crew_of(work, 4)
    crew.add(jobs(*range(500)))

    eventually(lambda: len(crew.done) == 500)
    assert sorted(work.started) == sorted(job.field for job in jobs(*range(500)))
    eventually(lambda: (crew.idle, crew.runs, crew.running()) == (4, 500, []))
    assert crew.seconds > 0


def test_a_slow_job_holds_nothing_back_from_the_other_threads(work: Work) -> None:
    work.slow = {b"1.0"}
    crew = crew_of(work, 2)
    crew.add(jobs(*range(50)))

    eventually(lambda: len(crew.done) == 49)
    assert [job.field for job in crew.running()] == [b"1.0"]
    assert crew.idle == 1
    work.gate.set()
    eventually(lambda: len(crew.done) == 50)


def test_jobs_are_started_in_the_order_in_which_they_came(work: Work) -> None:
    crew = crew_of(work, 1)
    crew.add(jobs(*range(20)))

    eventually(lambda: len(crew.done) == 20)
    assert work.started == [job.field for job in jobs(*range(20))]


def test_what_is_taken_back_was_not_started_and_will_not_be(work: Work) -> None:
    work.slow = {b"1.0"}
    crew = crew_of(work, 1)
    crew.add(jobs(*range(10)))
    eventually(lambda: work.started)

    taken = crew.empty_pocket()
    assert {job.field for job in taken} == {job.field for job in jobs(*range(1, 10))}
    work.gate.set()
    eventually(lambda: crew.idle == 1)
    assert work.started == [b"1.0"]


def test_only_the_runs_that_are_named_are_cancelled(work: Work) -> None:
    work.slow = {b"1.0", b"1.1"}
    crew = crew_of(work, 2)
    crew.add(jobs(0, 1))
    eventually(lambda: len(work.started) == 2)

    crew.cancel([b"1.1", b"9.9"])
    assert [work.contexts[field].cancelled for field in (b"1.0", b"1.1")] == [False, True]
    work.gate.set()
    eventually(lambda: crew.idle == 2)


def test_a_cancelled_run_does_not_cancel_the_next_one_of_its_thread(work: Work) -> None:
    work.slow = {b"1.0"}
    crew = crew_of(work, 1)
    crew.add(jobs(0, 1))
    eventually(lambda: work.started)

    crew.cancel([b"1.0"])
    work.gate.set()
    eventually(lambda: len(crew.done) == 2)
    assert not work.contexts[b"1.1"].cancelled


def test_nothing_starts_when_the_epoch_was_not_looked_at_for_a_second(work: Work) -> None:
    crew = crew_of(work, 2)
    crew.looked_at = time.monotonic() - FRESH
    crew.add(jobs(1, 2))
    never(lambda: work.started, 0.3)
    assert len(crew.pocket) == 2

    crew.looked_at = time.monotonic() + 3600
    crew.call(2)
    eventually(lambda: len(crew.done) == 2)


def test_the_parent_is_told_what_each_thread_runs(work: Work) -> None:
    marks: list[bytes] = []
    crew = Crew(work, [marks.append], lambda: None)
    crew.looked_at = time.monotonic() + 3600
    crew.start()
    crew.add(jobs(1, 2))

    eventually(lambda: len(marks) == 4)
    assert marks == [b"1.1", b"", b"1.2", b""]


def test_the_courier_hears_of_an_end_only_while_it_wants_to(work: Work) -> None:
    rung: list[int] = []
    crew = crew_of(work, 1, lambda: rung.append(1))
    crew.add(jobs(1))
    eventually(lambda: crew.idle == 1 and crew.done)
    assert rung == []

    crew.wants_to_hear = True
    crew.add(jobs(2))
    eventually(lambda: rung == [1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_job_that_forks_is_one_run_whose_child_leaves_without_an_outcome() -> None:
    children: list[int] = []

    def fork(job: Fetched, entered: Callable[[Context], None]) -> Outcome:
        pid = os.fork()
        if pid:
            children.append(pid)
        return Done(job)

    crew = Crew(fork, [lambda field: None], lambda: None)
    crew.looked_at = time.monotonic() + 3600
    crew.start()
    crew.add(jobs(1, 2))

    eventually(lambda: len(crew.done) == 2)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
    assert crew.runs == 2


def test_a_run_whose_outcome_comes_later_frees_its_thread_and_rings_when_it_comes() -> None:
    rings: list[int] = []

    def perform(job: Fetched, entered: Callable[[Context], None]) -> None:
        entered(Context(JOB))

    crew = Crew(perform, [lambda _: None], lambda: rings.append(1))
    crew.looked_at = time.monotonic() + 3600
    crew.start()
    (job,) = jobs(1)
    crew.add([job])
    eventually(lambda: crew.runs == 1 and crew.idle == 1)
    assert list(crew.done) == []

    crew.settle(Done(job))
    assert (list(crew.done), rings) == ([Done(job)], [])
    crew.wants_to_hear = True
    crew.settle(Done(job))
    assert rings == [1]


def test_the_pocket_can_be_looked_into_while_jobs_are_taken(work: Work) -> None:
    crew = crew_of(work, 1)
    work.slow = {b"1.0"}
    crew.add(jobs(0, 1, 2))
    eventually(crew.running)

    assert crew.waiting() == jobs(1, 2)
    work.gate.set()
    eventually(lambda: crew.waiting() == [])
