"""When which fault happens: nothing but the seed decides it."""

from __future__ import annotations

import random
from dataclasses import dataclass

_FIRST = 0.08
_STEP = 0.15
_SPREAD = 0.08
_DELETIONS = ["flush", "lists", "child"]
_DEATHS = ["commit", "host"]


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: its kind, and the share of the rows that is done when it happens."""

    kind: str
    share: float


def plan(seed: int) -> list[Planned]:
    """Return the faults of a demo in their order.

    Two deaths come last: a roll after them could heal what recovery has missed, and nobody would notice.
    """
    dice = random.Random(seed)
    kinds = [*dice.sample(_DELETIONS, len(_DELETIONS)), *dice.sample(_DEATHS, len(_DEATHS))]
    return [
        Planned(kind, _FIRST + _STEP * place + dice.uniform(0, _SPREAD))
        for place, kind in enumerate(kinds)
    ]
