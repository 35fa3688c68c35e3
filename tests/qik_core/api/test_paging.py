"""Pages of places of any length, and jobs that are found again by their marks, while others move them."""

from __future__ import annotations

import pytest

from qik_core.api import RetrySet, State
from qik_core.api.paging import Mark, again, all_places, count_of, look, name_of, named, page
from qik_core.errors import ArgumentError
from tests.qik_core.api.places import PLACES, foreign, name, place_of, put
from tests.qik_core.store.rig import Rig


def jids(rig: Rig, key: str, count: int) -> list[str]:
    """All jobs of a place, page by page."""
    met, after = [], ""
    while True:
        found = page(place_of(rig, key), after=after, count=count, store=rig.store)
        met += [each.job.jid for each in found.jobs]
        after = found.after
        if not after:
            return met


@pytest.mark.parametrize("key", PLACES)
@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_pages_together_have_every_job_once(rig: Rig, key: str, count: int) -> None:
    put(rig, key, *range(1, 8))

    assert sorted(jids(rig, key, count=count)) == [name(number) for number in range(1, 8)]


@pytest.mark.parametrize("score", [5.0, 0.1 + 0.2, -3.5, float("inf"), 1e300])
def test_jobs_of_one_score_are_on_pages_once_each(rig: Rig, score: float) -> None:
    rig.raw.zadd("retry", {foreign(jid=f"j{number}"): score for number in range(9)})

    assert sorted(jids(rig, "retry", count=2)) == [f"j{number}" for number in range(9)]


def test_the_dead_are_shown_newest_first_and_others_next_due_first(rig: Rig) -> None:
    for place in ("dead", "retry"):
        rig.raw.zadd(place, {foreign(jid="early"): 1.0, foreign(jid="late"): 2.0})

    assert jids(rig, "dead", count=1) == ["late", "early"]
    assert jids(rig, "retry", count=1) == ["early", "late"]


def test_what_is_removed_between_two_pages_hides_no_other_job(rig: Rig) -> None:
    rig.raw.zadd("retry", {foreign(jid=f"j{number}"): float(number) for number in range(6)})
    first = page(RetrySet(rig.store), count=2, store=rig.store)
    RetrySet(rig.store).delete(first.jobs[0].job)

    second = page(RetrySet(rig.store), after=first.after, count=2, store=rig.store)

    assert [each.job.jid for each in second.jobs] == ["j2", "j3"]


def test_a_filter_without_time_says_where_to_go_on(rig: Rig) -> None:
    rig.raw.zadd(
        "retry", {foreign(jid=f"j{number}", args=[number]): float(number) for number in range(250)}
    )
    retries, looks, after = RetrySet(rig.store), 0, ""

    while True:
        found = page(retries, "args:249", after=after, patience=0, store=rig.store)
        looks, after = looks + 1, found.after
        if found.jobs:
            break

    assert looks == 3
    assert [each.job.jid for each in found.jobs] == ["j249"]
    assert count_of(retries, "args:249", store=rig.store) == (1, True)
    assert count_of(retries, "args:249", patience=0, store=rig.store) == (0, False)
    assert count_of(retries, "", store=rig.store) == (250, True)


@pytest.mark.parametrize("key", PLACES)
def test_a_mark_finds_exactly_what_was_shown_and_nothing_that_changed(rig: Rig, key: str) -> None:
    put(rig, key, 1, 2)
    place = place_of(rig, key)
    (marked, _) = page(place, store=rig.store).jobs

    found = again(place, Mark.parse(str(marked.mark)), store=rig.store)
    place.delete(marked.job)

    assert found == marked.job
    assert again(place, marked.mark, marked.job.jid, store=rig.store) is None


def test_each_of_many_jobs_of_one_score_is_found_again(rig: Rig) -> None:
    retries = RetrySet(rig.store)
    raws = [foreign(jid=f"j{number:03}") for number in range(600)]
    rig.raw.zadd("retry", dict.fromkeys(raws, 5.0))

    found = [again(retries, Mark.of(raw, 5.0), store=rig.store) for raw in raws]
    looked = look("j599", rig.store)

    assert [job and job.jid for job in found] == [f"j{number:03}" for number in range(600)]
    assert looked is not None
    assert looked.job.raw == raws[-1]
    assert again(retries, Mark.of(raws[-1], 5.0), patience=0, store=rig.store) is None


@pytest.mark.parametrize("key", PLACES)
def test_a_job_is_found_by_its_id_with_a_mark_that_finds_it_again(rig: Rig, key: str) -> None:
    put(rig, key, *range(1, 6))

    found = look(name(3), rig.store)

    assert found is not None
    assert found.job.jid == name(3)
    assert again(named(found.place, rig.store), found.mark, store=rig.store) == found.job


def test_a_job_that_a_process_has_is_found_where_it_runs(rig: Rig) -> None:
    rig.edge(1)
    rig.worker().fetch(1)

    found = look(name(1), rig.store)

    assert found is not None
    assert (found.place, found.job.location.state) == ("", State.RUNNING)
    assert look(name(2), rig.store) is None


def test_processes_are_asked_once_for_a_job_that_nobody_has(rig: Rig) -> None:
    for number in range(3):
        rig.raw.hset(f"qik:working:host:{number}:0", "1", foreign(jid=f"j{number}"))
    rig.raw.config_resetstat()

    assert look("nobody", rig.store) is None
    assert rig.raw.info("commandstats")["cmdstat_hscan"]["calls"] == 6


def test_every_place_has_a_name_that_gives_it_back(rig: Rig) -> None:
    rig.edge(1)
    names = [name_of(place) for place in all_places(rig.store)]

    assert [name_of(named(each, rig.store)) for each in names] == names
    assert [name_of(named(each, rig.store)) for each in ("held:A::B", "held+:A", "suspects:q")] == [
        "held:A::B", "held+:A", "suspects:q",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "nowhere", "queue:", "queue:a b", "dead:x", "held:", "later", "queue"]
)
def test_a_place_that_cannot_be_is_refused(rig: Rig, text: str) -> None:
    with pytest.raises(ArgumentError):
        named(text, rig.store)


@pytest.mark.parametrize(
    "after", ["x", "-1", "1:", "nan:1", "1e999999:1", "1:-1", "1:1:1", "9" * 40, "é"]
)
def test_a_cursor_that_no_page_gave_is_refused(rig: Rig, after: str) -> None:
    with pytest.raises(ArgumentError, match="take it from"):
        page(RetrySet(rig.store), after=after, store=rig.store)


@pytest.mark.parametrize(
    "text", ["", "x", "0123456789abcdef", "0123456789abcdef@", "0123456789abcdef@nan", "@1.0"]
)
def test_a_mark_that_no_page_gave_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="no mark"):
        Mark.parse(text)
