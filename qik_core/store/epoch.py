"""Which life of Redis this is: every reply carries it, and a change of it is the signal of a loss."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final, NamedTuple

_BEHIND: Final = "~"


class Epoch(NamedTuple):
    """What `qik:epoch` says. The loss id changes when data was lost; the generation also at each roll."""

    loss: str
    generation: str
    previous: str | None
    """The generation that a roll under way is leaving, None outside of a roll."""
    birth_ms: int
    """Birth of the loss id by the server's clock, epoch milliseconds."""

    @staticmethod
    def parse(raw: bytes) -> Epoch:
        """Return the epoch in a reply of one of our scripts."""
        return _parsed(raw)


@lru_cache(maxsize=8)  # nearly all replies carry the one before's
def _parsed(raw: bytes) -> Epoch:
    loss, generation, previous, birth = raw.decode().split(" ")
    return Epoch(loss, generation, None if previous == "-" else previous, int(birth))


def new_loss(behind: str = "") -> str:
    """Return a new loss id; `behind` is the one that it follows because everything was flushed on purpose."""
    fresh = os.urandom(6).hex()
    return f"{fresh}{_BEHIND}{lineage(behind)}" if behind else fresh


def lineage(loss: str) -> str:
    """Return what a loss id has in common with those that flushes on purpose have made of it: nothing was lost between them."""
    return loss.partition(_BEHIND)[2] or loss
