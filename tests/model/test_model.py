"""The protocol of locks, epochs, exchanges and rolls, searched: no promise is broken, and every sentence is needed."""

from __future__ import annotations

import pytest

from tests.model.configurations import CONFIGURATIONS, COUNTEREXAMPLES
from tests.model.rules import Rules, Sentence
from tests.model.search import search
from tests.model.state import Budget

SMALL = [name for name, configuration in CONFIGURATIONS.items() if configuration.small]
LARGE = [name for name in CONFIGURATIONS if name not in SMALL]
SLOW_TO_FIND = {"flush, lost reply, failure", "expiry and freeze", "deleted locks, freeze"}


@pytest.mark.parametrize("name", SMALL)
def test_no_promise_is_broken_however_events_interleave(name: str) -> None:
    _searched_whole(name)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LARGE)
def test_no_promise_is_broken_in_the_larger_searches_either(name: str) -> None:
    _searched_whole(name)


def _searched_whole(name: str) -> None:
    states, found = CONFIGURATIONS[name].search(Rules())
    print(f"{name}: {states} states")
    assert found is None, str(found)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "sentence",
    [
        pytest.param(
            s, id=s.name, marks=[pytest.mark.slow] if COUNTEREXAMPLES[s] not in SMALL else []
        )
        for s in Sentence
    ],
)
def test_without_this_sentence_a_promise_is_broken(sentence: Sentence) -> None:
    states, found = CONFIGURATIONS[COUNTEREXAMPLES[sentence]].search(Rules.without(sentence))
    assert found is not None, f"{states} states and no counterexample without: {sentence}"
    print(f"Without “{sentence}”\n{found}")
    assert found.steps


def test_a_trace_keeps_the_names_of_jobs_and_processes_from_step_to_step() -> None:
    found = CONFIGURATIONS["flush"].search(Rules.without(Sentence.ASSERT_FIRST))[1]
    assert found is not None
    runs = [step for step in found.steps if " starts " in step]
    assert len({step.split(":")[0] for step in runs}) == 2, "the two runs that overlap"
    assert str(found).startswith("i1_runs_do_not_overlap is broken after")


def test_a_search_beyond_its_bound_says_so() -> None:
    budget = Budget(edges=1, freezes=1)
    with pytest.raises(RuntimeError, match="more than 100 states"):
        search(budget, Rules(), [], (), most=100)
