from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from qik_core import Job, registry, tallies
from qik_core.context import Context
from qik_core.payload import Payload
from qik_core.probes.families import BOUNDS
from qik_core.results import Code
from qik_core.store.exchange import Done, Fetched, Kind, Other, Outcome
from qik_core.tallies import End, Tallies

with registry.scope():

    class Counted(Job):
        def perform(self) -> None: ...


@pytest.fixture(autouse=True)
def _known() -> Any:
    with registry.scope():
        registry.register(Counted.definition)
        yield


def fetched(name: str = "Counted", queue: str = "default", **fields: Any) -> Fetched:
    raw = Payload({"class": name, "args": [], "jid": "j", "queue": queue, **fields}).encode()
    return Fetched(b"1.1", raw, queue)


def run(count: Tallies, made: Callable[[Fetched], Outcome | None], *, took: float = 0.0) -> None:
    """Perform one job that takes so long, as a job thread does."""
    job = fetched()
    contexts: list[Context | None] = [None]

    def perform(job: Fetched, entered: Callable[[Context], None]) -> Outcome | None:
        entered(Context(Payload.decode(job.raw)))
        return made(job)

    performer = count.around(perform, contexts, [time.monotonic() - took], 0)
    performer(job, lambda context: contexts.__setitem__(0, context))


def other(job: Fetched, kind: Kind, counter: str = "") -> Other:
    return Other(job, kind, None, "j", job.queue, counter=counter)


def test_a_run_is_counted_by_its_class_its_end_and_its_time() -> None:
    count = Tallies()

    run(count, Done)
    run(count, Done, took=0.03)
    run(count, lambda job: other(job, Kind.RETRY), took=10_000)

    tally = count.runs()["Counted"]
    counts = tally.by_bound()
    assert (tally.runs, sum(counts)) == (3, 3)
    assert counts[BOUNDS.index(0.05)] == 1
    assert (counts[0], counts[-1]) == (1, 1)
    assert 10_000 < tally.spent < 10_010
    assert count.ends(count.runs()) == {("Counted", End.DONE): 2, ("Counted", End.RETRY): 1}


@pytest.mark.parametrize(
    ("kind", "counter", "end"),
    [
        (Kind.DEAD, "", End.DEAD),
        (Kind.LATER, "", End.LATER),
        (Kind.GONE, "expired", End.GONE),
        (Kind.GONE, "", End.NO_PROGRESS),
        (Kind.HELD, "", End.HELD),
        (Kind.OFF, "", End.OFF),
    ],
)
def test_each_way_in_which_a_job_can_end_has_a_name(kind: Kind, counter: str, end: End) -> None:
    count = Tallies()

    run(count, lambda job: other(job, kind, counter))

    assert count.ends(count.runs())["Counted", end] == 1


def test_only_runs_that_did_not_fail_are_in_sidekiqs_histogram_and_both_histograms_have_their_own_bounds() -> (
    None
):
    count = Tallies()

    run(count, Done, took=0.025)
    run(count, lambda job: replace(other(job, Kind.GONE), failed=False), took=400)
    run(count, lambda job: other(job, Kind.RETRY), took=0.025)
    run(count, lambda job: replace(other(job, Kind.LATER), failed=False), took=0.025)

    tally = count.runs()["Counted"]
    sidekiqs = tally.sidekiqs()
    assert (len(sidekiqs), sidekiqs[1], sidekiqs[-1], sum(sidekiqs)) == (26, 2, 1, 3)
    assert (tally.runs, tally.failed) == (4, 1)
    assert 400.04 < tally.seconds < 410
    assert tally.by_bound()[BOUNDS.index(0.05)] == 3
    assert count.spent() == {"Counted": tally.spent}


def test_an_end_that_is_known_later_is_counted_then_and_its_run_at_once() -> None:
    count = Tallies()

    run(count, lambda _: None)
    assert (count.runs()["Counted"].runs, count.ends(count.runs()).total()) == (1, 0)

    count.ended(Done(fetched()))
    assert count.ends(count.runs())["Counted", End.DONE] == 1


def test_classes_that_are_not_defined_here_are_counted_under_one_name() -> None:
    count = Tallies()

    for job in (fetched("Nobody1"), fetched("Nobody2"), Fetched(b"1.1", b"no job", "default")):
        count.ended(other(job, Kind.DEAD))

    assert count.ends(count.runs()) == {("-", End.DEAD): 3}


def test_jobs_of_one_fetch_have_waited_as_long_as_the_first_of_their_queue() -> None:
    count = Tallies(now=lambda: 1000.0)

    count.fetched([fetched(enqueued_at=999.0), fetched(enqueued_at=999.9)])
    count.fetched([fetched(enqueued_at=940.0), fetched(queue="other", enqueued_at=999_000_000_000)])

    default = count.waits()["default"]
    assert (default.runs, default.seconds) == (3, 62.0)
    assert default.by_bound()[BOUNDS.index(1.0)] == 2
    assert count.waits()["other"].seconds == 0.0  # milliseconds, and a clock that is ahead


def test_a_job_without_a_time_on_its_queue_is_no_wait() -> None:
    count = Tallies()

    count.fetched([fetched()])
    count.fetched([])

    assert count.waits() == {}


def test_pushes_are_counted_by_code_from_many_threads() -> None:
    count = Tallies()

    threads = [
        threading.Thread(target=count.pushed, args=([Code.ENQUEUED, Code.ADVANCED] * 500,))
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert count.pushes() == {"enqueued": 2000, "advanced": 2000}


def test_a_process_counts_only_from_when_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "current", None)

    first = tallies.begin()

    assert tallies.begin() is first is tallies.current
