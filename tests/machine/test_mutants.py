"""A machine that finds nothing proves nothing: it must find each mistake that is planted, and say so."""

from __future__ import annotations

import pytest

from tests.machine.mutants import MORE, MUTANTS, Mutant
from tests.machine.running import run
from tests.machine.wire import Scripts
from tests.machine.world import World


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant",
    [*MUTANTS, *(pytest.param(each, marks=pytest.mark.slow) for each in MORE)],
    ids=lambda mutant: mutant.name.replace(" ", "-"),
)
def test_the_machine_finds_a_planted_mistake(redis_url: str, mutant: Mutant) -> None:
    with pytest.raises(AssertionError, match=mutant.broken):
        search(redis_url, mutant)


def search(redis_url: str, mutant: Mutant) -> None:
    """Run machines with this mistake. Many short searches find more than a long one."""
    for chance in (None, *range(1, 7)):
        run(
            lambda: World(redis_url, replace=mutant.replace, promote=mutant.promote),
            examples=60,
            steps=40,
            chance=chance,
        )


def test_a_mistake_that_no_longer_fits_its_script_is_refused() -> None:
    with pytest.raises(AssertionError, match="has 0 times"):
        Scripts({"push": [("no such words", "")]}).get("push")
