"""Rolls, which collect locks without a job, and the losses that make them necessary: scripts and deletions by hand."""

from __future__ import annotations

from typing import Final

from tests.model.locks import locked, opened, put_working, write
from tests.model.rules import Rules
from tests.model.state import FENCED, GONE, QUEUED, Lock, Store, Working

WALK: Final = (("later", "retry"), ("queue",))
WALK_TARGETS_FIRST: Final = WALK[::-1]


def roll_begin(store: Store, rules: Rules) -> Store:
    """A new generation: "one at a time; a roll that died is walked again from the start in the same generation"."""
    store = opened(store)
    if store.walk and rules.one_at_a_time:
        return store._replace(walk=1)
    working = tuple([w._replace(beaten=False, heard=False) for w in store.working])
    return store._replace(lock=None, old=store.lock, walk=1, working=working)


def roll_walk(store: Store, rules: Rules, stage: int) -> Store:
    """Walk one source, "sources before targets"; stage counts from 1."""
    store = opened(store)
    if store.walk != stage:
        return store  # "every step checks the generation and stops if it changed"
    for source in (WALK if rules.sources_first else WALK_TARGETS_FIRST)[stage - 1]:
        for jid in getattr(store, source):
            store = keep(store, rules, jid)
    return store._replace(walk=stage + 1)


def keep(store: Store, rules: Rules, jid: int) -> Store:
    """Carry over the lock of a job that was seen."""
    lock = locked(store)
    if not rules.walk_keeps and lock is store.old and lock is not None and lock.jid != jid:
        lock = None
    if lock is None:  # "absent in both: q"
        return write(store, Lock(QUEUED, jid))
    if lock.jid == jid:  # "the same jid: record kept, expiry renewed"
        return write(store, lock._replace(expired=False))
    return store  # "a record of another jid: nothing written"


def may_end(store: Store, rules: Rules) -> bool:
    """ "No earlier than when each identity has beaten in the new generation or is fenced, and nothing is recovered" """
    if rules.all_have_beaten and not all(_has_beaten(w, rules) for w in store.working):
        return False
    return not (rules.all_recovered and store.recovering)


def _has_beaten(working: Working, rules: Rules) -> bool:
    if working.mark == GONE and not (rules.whole_hash and working.alive):
        return True
    return working.beaten or working.mark == FENCED


def roll_end(store: Store, rules: Rules) -> tuple[Store, int]:
    """Drop the previous generation; -1 not yet, -2 no roll is under way, else the locks without a job."""
    store = opened(store)
    if not store.walk:
        return store, -2
    if not may_end(store, rules):
        return store, -1
    return store._replace(old=None, walk=0), int(store.old is not None)


# --- losses ----------------------------------------------------------------------


def flushall(store: Store) -> Store:
    """Everything is gone."""
    gone = Working(mark=GONE, beaten=False, asserted=False, alive=False, heard=False)
    return Store(working=(gone,) * len(store.working))


def delete_queue(store: Store) -> Store:
    """Somebody deletes the list."""
    return store._replace(queue=())


def delete_locks(store: Store, rules: Rules, *, both: bool = True) -> Store:
    """Somebody deletes a hash of locks: the new one, or during a roll perhaps the one it is leaving."""
    if rules.head:
        return store._replace(lock=None, old=None, headless=True)
    return store._replace(lock=None) if both else store._replace(old=None)


def delete_working(store: Store, i: int) -> Store:
    """Somebody deletes the working hash of a process."""
    return put_working(store, i, store.working[i]._replace(mark=GONE, entries=()))
