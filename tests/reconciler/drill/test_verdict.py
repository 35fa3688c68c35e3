"""The judge of drills: whatever is wrong with one, the verdict says so and says where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler.drill.evidence import Effects, Evidence, Run
from reconciler.drill.kinds import Kind
from reconciler.drill.verdict import Finding, judge, lost, overlapping, rest, sound
from tests.reconciler.drill.seen import good, with_fault, with_left, with_run

Plant = Callable[[Evidence], Evidence]


def off(evidence: Evidence) -> list[str]:
    return [finding.what for finding in judge(evidence) if not finding.good]


def test_a_drill_without_a_flaw_is_sound() -> None:
    assert off(good()) == []
    assert sound(judge(good()))
    assert lost(good()) == 0


FLAWS: dict[str, tuple[Plant, str]] = {
    "a row that is not done": (lambda e: replace(e, effects=Effects(2, 1)), "lost"),
    "no rows at all": (lambda e: replace(e, effects=Effects(0, 0)), "lost"),
    "a row of one's own that nobody tells": (
        lambda e: replace(with_left(e, untold=("Work 7",)), effects=None),
        "lost",
    ),
    "a row of the drill's own that is held back": (
        lambda e: replace(
            with_left(e, held={"quarantined": ("DrillWork 1",)}), effects=Effects(2, 1)
        ),
        "held back on purpose, not lost",
    ),
    "work that went on and on": (
        lambda e: replace(e, given_up="NotDrained: 2 rows are pending"),
        "ended before all was done",
    ),
    "an effect that happened twice": (
        lambda e: replace(e, effects=Effects(2, 2, ("row 1",))),
        "doubled",
    ),
    "two runs of one row at the same time": (lambda e: with_run(e, 2, started=9.5), "overlaps"),
    "a run that goes on beside the next one": (
        lambda e: replace(e, cuts=()),
        "overlaps",
    ),
    "jobs that nobody starts though threads are free": (
        lambda e: replace(
            e, rest=3.0, samples=tuple(replace(each, running=0, ready=1) for each in e.samples)
        ),
        "longest rest while jobs were ready",
    ),
    "no run": (lambda e: replace(e, runs=()), "runs"),
    "a fault that hit nothing": (
        lambda e: with_fault(e, 0, hit=0),
        "Redis emptied while jobs are queued",
    ),
    "a fault that never healed": (
        lambda e: with_fault(e, 0, healed=None),
        "Redis emptied while jobs are queued",
    ),
    "a fault that could not be done": (
        lambda e: with_fault(e, 0, missed="waited in vain"),
        "Redis emptied while jobs are queued",
    ),
    "a fault that was asked for and is not there": (
        lambda e: replace(e, faults=e.faults[:1]),
        "faults left out",
    ),
    "a job that nobody works off": (lambda e: with_left(e, jobs={"queued": 1}), "left in Redis"),
    "a lock that outlived its job": (lambda e: with_left(e, locks=1), "left in Redis"),
    "a process that did not leave cleanly": (
        lambda e: with_left(e, exits={"worker-1": -9}),
        "processes that left cleanly",
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_the_verdict_names_what_is_off(flaw: str) -> None:
    plant, what = FLAWS[flaw]

    assert what in off(plant(good()))


def test_what_an_application_of_ones_own_lacks_is_no_finding() -> None:
    own = replace(good(), effects=None, optional=True)

    assert off(with_fault(own, 0, missed="no job ever waits for a retry")) == []
    assert off(with_fault(own, 0, hit=0)) == []
    assert off(with_left(own, jobs={"retrying": 3}, locks=3, told=("Work 7",))) == []


def test_rows_that_are_held_back_on_purpose_are_named_and_not_lost() -> None:
    names = {"over_share": ("Work 1", "Work 2"), "shadow": ("Mail 1",)}
    own = replace(with_left(good(), held=names), effects=None, optional=True)

    assert off(own) == []
    assert lost(own) == 0
    (finding,) = [each for each in judge(own) if each.what.startswith("held back")]
    assert finding.value == "3 rows (2 over_share, 1 shadow)"
    assert finding.detail == "over_share: Work 1; over_share: Work 2; shadow: Mail 1"
    assert lost(replace(own, effects=Effects(9, 6))) == 0


def test_rows_whose_job_a_fault_took_and_that_are_held_back_are_said_apart() -> None:
    (finding,) = [
        each
        for each in judge(with_fault(good(), 0, held=4, note="in a pass"))
        if "emptied" in each.what
    ]

    assert finding.value.endswith("; 4 more rows are held back on purpose; in a pass")


def test_a_process_that_died_ends_its_runs_and_no_run_of_another_time() -> None:
    evidence = good()
    late = Run("b", "j3", 4242, 11.5, 11.6, "ok")  # the process id came again

    assert overlapping(evidence.runs, evidence.cuts) == []
    assert len(overlapping([*evidence.runs, late], evidence.cuts)) == 1


def test_a_long_run_overlaps_with_every_run_inside_it() -> None:
    inside = [Run("a", "j", 11, at, at + 0.1, "ok") for at in (7.2, 7.6)]
    evidence = replace(good(), runs=(*good().runs, *inside))

    (finding,) = [each for each in judge(evidence) if each.what == "overlaps"]

    assert finding == Finding(
        "overlaps",
        "2",
        good=False,
        detail="a: processes 10 and 11 at 7.2 s, 0.20 s apart; a: processes 10 and 11 at 7.6 s, 0.60 s apart",
    )


def test_nobody_rests_whose_threads_are_busy_or_who_has_no_jobs() -> None:
    evidence = replace(good(), rest=3.0)
    idle = [replace(each, running=0, ready=1) for each in evidence.samples]

    assert rest(replace(evidence, samples=tuple(idle))) == 9.0  # from 11 to the end
    assert rest(replace(evidence, samples=tuple(replace(each, running=1) for each in idle))) == 0.0
    assert rest(replace(evidence, samples=tuple(replace(each, ready=0) for each in idle))) == 0.0
    some = tuple(replace(each, ready=int(8 <= each.at < 11)) for each in idle)
    assert rest(replace(evidence, samples=some)) == pytest.approx(1.0)


def test_jobs_without_a_lock_may_run_at_the_same_time() -> None:
    assert overlapping([Run("", "j", 1, 0.0, 5.0), Run("", "k", 2, 1.0, 2.0)], ()) == []


def test_the_time_to_heal_counts_from_when_a_fault_was_over() -> None:
    fault = with_fault(good(), 0, kind=Kind.FULL, over=5.5).faults[0]

    assert fault.took == pytest.approx(0.5)
    assert replace(fault, healed=None).took is None
