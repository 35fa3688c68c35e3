"""How a machine is run: so many runs of so many steps, the same ones each time unless a seed says otherwise."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machine.machine import bound
from tests.machine.process import our_time
from tests.machine.world import World


def run(make: Callable[[], World], *, examples: int, steps: int, chance: int | None = None) -> None:
    """Run machines until one breaks a promise; raises what it raised. `chance` is the seed of other runs."""
    machine = bound(make)
    with our_time():
        run_state_machine_as_test(
            machine if chance is None else seed(chance)(machine),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                derandomize=chance is None,
                deadline=None,
                database=None,
                report_multiple_bugs=False,
                phases=[Phase.generate],  # a shorter example costs more runs than it saves reading
                suppress_health_check=list(HealthCheck),
            ),
        )
