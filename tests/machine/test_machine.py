"""Thousands of steps of everything that can happen, and after each of them every promise."""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

import pytest

from qik_core.store import keys
from tests.machine.running import run
from tests.machine.traces import Recorder, tally
from tests.machine.wire import Step
from tests.machine.world import World

# A run proves only what it meets: each of these must have happened somewhere in the runs.
SOMETIMES: Final = {
    "push enqueued", "push duplicate_queued", "push duplicate_scheduled", "push duplicate_running",
    "push duplicate_retrying", "push advanced", "push dirtied",
    "exchange done", "exchange idle", "exchange again", "exchange lost", "exchange fenced",
    "a copy too many was dropped at fetch or settle", "assert of a job that another has taken over",
    "giveback ok", "recover", "fence", "a job became a suspect", "a suspect ran",
    "promote", "roll_end -1", "roll_end 0",
    "flush", "delete", "delete_queue", "delete_locks", "crash", "freeze", "thaw", "leave",
}  # fmt: skip


class Counting(Recorder):
    """Counts what happened, over many runs."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self._seen = seen

    def step(self, world: World, step: Step) -> None:
        """Count one step."""
        super().step(world, step)
        self._seen.update(tally(self.events))
        self.events.clear()
        for what, happened in _special(step):
            self._seen[what] += happened

    def note(self, event: str, identity: str) -> None:
        """Count what happened without a command."""
        self._seen[event] += 1


def _special(step: Step) -> list[tuple[str, bool]]:
    suspects = [
        copy for copy in step.after.copies if copy.place.startswith(keys.suspect("").decode())
    ]
    exchange = step.name == "exchange"
    alone = exchange and str(step.args[10]).startswith("!") and len(step.reply) > 5
    return [
        ("a copy too many was dropped at fetch or settle", exchange and int(step.reply[3]) > 0),
        (
            "assert of a job that another has taken over",
            step.name == "assert" and len(step.reply) > 3,
        ),
        ("a job became a suspect", bool(suspects)),
        ("a suspect ran", alone),
    ]


@pytest.mark.timeout(600)
def test_no_promise_breaks_in_200_runs_of_40_steps_that_meet_everything(redis_url: str) -> None:
    """What is rare may come only in more runs where the server answers late."""
    seen: Counter[str] = Counter()
    for chance in (None, *range(1, 12)):
        examples = 200 if chance is None else 50
        run(
            lambda: World(redis_url, witness=Counting(seen)),
            examples=examples,
            steps=40,
            chance=chance,
        )
        if (+seen).keys() >= SOMETIMES:
            break

    assert SOMETIMES - (+seen).keys() == set(), dict(seen)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_promise_breaks_in_2000_longer_runs(redis_url: str) -> None:
    chance = int.from_bytes(os.urandom(4))
    print(f"chance={chance}")  # of a failed run: give it to `run` to have the same runs again
    run(lambda: World(redis_url), examples=2_000, steps=60, chance=chance)
