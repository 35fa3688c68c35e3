"""Which life of Redis this is: every reply carries it, and a change of it is the signal of a loss."""

from __future__ import annotations

from typing import NamedTuple


class Epoch(NamedTuple):
    """What `qik:epoch` says. The loss id changes when data was lost; the generation also at each roll."""

    loss: str
    generation: str
    previous: str | None
    """The generation that a roll under way is leaving, None outside of a roll."""
    birth_ms: int
    """Birth of the loss id by the server's clock, epoch milliseconds."""

    @classmethod
    def parse(cls, raw: bytes) -> Epoch:
        """Return the epoch in a reply of one of our scripts."""
        loss, generation, previous, birth = raw.decode().split(" ")
        return cls(loss, generation, None if previous == "-" else previous, int(birth))
