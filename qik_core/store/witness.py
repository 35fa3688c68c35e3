"""Proof that the data in Redis went back in time: each process leaves a number that only ever rises.

A missing epoch says that everything is gone. An old copy, of a snapshot or of a replica that lagged, has an epoch, and often
the present one; but the number in it is lower than the one that this process was answered last.
"""

from __future__ import annotations

from dataclasses import dataclass

from qik_core.errors import StoreError
from qik_core.store import keys
from qik_core.store.counts import count_of
from qik_core.store.epoch import Epoch
from qik_core.store.store import Store


@dataclass(frozen=True, slots=True)
class Witness:
    """What a look found."""

    epoch: Epoch
    time: float
    """The server's clock, epoch seconds."""
    now: int
    """What this process left now: milliseconds, about the server's clock."""
    before: int | None
    """What it had left there before; None: nothing, or it is gone."""
    lost_exchanges: int
    """Exchanges that Redis did not know any more, all in all."""
    deleted: int
    """Jobs that were found deleted by hand, all in all."""


def witness(store: Store, name: str, *, leave: bool = False) -> Witness:
    """Look, and leave a number under a name of this process; `leave` takes it away. Raises StoreError."""
    args = (store.candidate.text, name, "1" if leave else "")
    text, time, now, before, lost, deleted = store.links.run("witness", (keys.WITNESS,), args)
    epoch = store.candidate.seen(Epoch.parse(text))
    was = int(before) if before else None
    return Witness(epoch, float(time), int(now), was, count_of(lost), count_of(deleted))


def life(store: Store) -> str:
    """Return what tells one start of the server from another; empty where this user may not ask."""
    try:
        info: bytes = store.links.call("INFO", "server")
    except StoreError:
        return ""
    lines = (line.partition(b":") for line in info.splitlines())
    return next((value.decode() for name, _, value in lines if name == b"run_id"), "")
