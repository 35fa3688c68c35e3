"""One step from a state to another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.state import NOBODY, World


class Move(NamedTuple):
    """One step to another state."""

    what: str
    """In words; `{job}` and `{got}` stand for jobs."""
    to: World
    fault: bool = False
    process: int = NOBODY
    job: int = NOBODY
    got: int = NOBODY


Moves = Iterator[Move]


def spend(world: World, fault: str) -> World:
    """Use up one of a fault's budget."""
    left = {fault: getattr(world.budget, fault) - 1}
    return world._replace(budget=world.budget._replace(**left))
