from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import shards

ROOT = Path(__file__).parents[1]
TESTS = {f"tests/test_{n % 7}.py::test_it[{n}]": float(n % 40 + 1) for n in range(500)}


@pytest.mark.parametrize("count", [1, 2, 3, 8, 500, 600])
def test_every_test_is_in_exactly_one_shard(count: int) -> None:
    hands = shards.deal(TESTS, count)

    assert len(hands) == count
    assert sorted(test for hand in hands for test in hand) == sorted(TESTS)


def test_shards_take_about_the_same_time() -> None:
    totals = [sum(TESTS[test] for test in hand) for hand in shards.deal(TESTS, 8)]

    assert max(totals) - min(totals) <= 2.0


def test_the_order_of_collection_changes_nothing() -> None:
    assert shards.deal(TESTS, 5) == shards.deal(dict(reversed(TESTS.items())), 5)


def test_repetitions_share_what_is_known_of_their_length() -> None:
    one, other = "tests/test_x.py::test_y[full-sqlite-1]", "tests/test_x.py::test_y[full-sqlite-20]"

    assert shards.same(one) == shards.same(other) == "tests/test_x.py::test_y[full-sqlite]"


BAD = ["", "3", "0/4", "5/4", "a/b", "1/4/2", "-1/4"]


@pytest.mark.parametrize("text", BAD)
def test_a_shard_that_there_is_not_is_a_mistake_of_usage(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="use i/n"):
        shards.read(text)


def test_what_is_known_names_tests_that_take_a_second_or_more() -> None:
    assert all(seconds >= 1.0 for seconds in shards.known().values())


def test_a_run_says_what_it_picked_and_all_shards_together_run_all() -> None:
    runs = [_collect(f"{number}/2") for number in (1, 2)]

    picked = [{line for line in run.splitlines() if "::" in line} for run in runs]
    assert picked[0].isdisjoint(picked[1])
    assert sum("a_shard_that_there_is_not" in test for test in picked[0] | picked[1]) == len(BAD)
    for number, run in enumerate(runs, 1):
        assert f"shard {number} of 2: {len(picked[number - 1])} tests, about" in run


def _collect(shard: str) -> str:
    """Return what a run of this file would run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, "--shard", shard, __file__], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout
