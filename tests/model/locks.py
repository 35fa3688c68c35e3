"""The locks of the generation, and of the one that a roll is leaving; what every script begins with.

The sentences in quotes, here and in the other modules, are the protocol's.
"""

from __future__ import annotations

from tests.model.rules import Rules
from tests.model.state import RUNS, Lock, Store, Working


def opened(store: Store) -> Store:
    """What every script that reads locks does first: "a script that finds # missing treats the epoch as absent"."""
    return new_loss(store) if store.headless else store


def new_loss(store: Store) -> Store:
    """A new loss id and a new generation: "locks of another generation count as absent", and nobody has asserted yet."""
    working = tuple([w._replace(asserted=False, heard=False) for w in store.working])
    return store._replace(lock=None, old=None, walk=0, headless=False, working=working)


def locked(store: Store) -> Lock | None:
    """ "While a roll is under way scripts read the new hash, then the previous one" """
    return store.lock or store.old


def write(store: Store, lock: Lock | None) -> Store:
    """ "… write to the new, delete from both" """
    return store._replace(lock=lock, old=None)


def is_mine(lock: Lock, jid: int, identity: int, rules: Rules) -> bool:
    """ "A record in state r is mine only if jid and holder are mine" """
    return lock.state == RUNS and lock.jid == jid and (lock.holder == identity or not rules.holder)


def put_working(store: Store, i: int, working: Working) -> Store:
    """Change the working hash of process i."""
    return store._replace(working=(*store.working[:i], working, *store.working[i + 1 :]))
