"""Thousands of steps of everything that can happen, and after each of them every promise."""

from __future__ import annotations

import os

import pytest

from tests.machine.running import run
from tests.machine.world import World


@pytest.mark.timeout(600)
def test_no_promise_breaks_in_200_runs_of_40_steps(redis_url: str) -> None:
    run(lambda: World(redis_url), examples=200, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_promise_breaks_in_2000_longer_runs(redis_url: str) -> None:
    chance = int.from_bytes(os.urandom(4))
    print(f"chance={chance}")  # of a failed run: give it to `run` to have the same runs again
    run(lambda: World(redis_url), examples=2_000, steps=60, chance=chance)
