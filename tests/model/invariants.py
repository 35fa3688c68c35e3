"""What must be true: I1, I3, I4 and I6 in every state, I2 and I5 at the end of some path without faults."""

from __future__ import annotations

from collections.abc import Callable

from tests.model import rolls, scripts
from tests.model.locks import opened
from tests.model.rules import Rules
from tests.model.state import (
    APPLIED,
    AWAKE,
    FENCED,
    QUIET,
    RUNNING,
    WHILE_LATE,
    Entry,
    Process,
    Working,
    World,
    copies,
)


def i1_runs_do_not_overlap(world: World) -> bool:
    """Two runs of one key never overlap while both holders beat on time and are not fenced."""
    return sum(map(_runs_on_time, world.processes, world.store.working)) <= 1


def i1_runs_never_overlap(world: World) -> bool:
    """While Redis loses nothing, two runs never overlap, however late a holder is, until it is fenced."""
    return sum(map(_runs, world.processes, world.store.working)) <= 1


def _runs(process: Process, working: Working) -> bool:
    return process.phase == RUNNING and process.power == AWAKE and working.mark != FENCED


def _runs_on_time(process: Process, working: Working) -> bool:
    return _runs(process, working) and not process.late and process.superseded != WHILE_LATE


def i2_row_is_done(world: World) -> bool:
    """The row in SQL is not pending any more."""
    return not world.pending


def i3_copies(most: int) -> Callable[[World], bool]:
    """At most so many jobs of the key have not ended: 1; after deletions by hand or a flush 2."""

    def i3_copies_are_bounded(world: World) -> bool:
        return copies(world.store, world.processes) <= most

    return i3_copies_are_bounded


def i4_no_lock_remains(world: World) -> bool:
    """When everything has drained, no lock is left. (In every state, unless somebody deletes lists: then after a roll.)"""
    store = world.store
    if store.lock is None and store.old is None:
        return True
    drained = (
        copies(store, world.processes) == 0
        and not any(w.entries for w in store.working)
        and not world.rebuild
    )
    return not (drained and all(p.job < 0 and p.sent == QUIET for p in world.processes))


def i5_no_edge_is_unserved(world: World) -> bool:
    """A run has started after every edge that was told that a job stands for it."""
    return not world.unserved


def i4_no_lock_at_all(world: World) -> bool:
    """No lock is there, in either generation."""
    return world.store.lock is None and world.store.old is None


def i6_scripts(rules: Rules) -> Callable[[World], bool]:
    """A script that is sent twice does what it does once."""

    def i6_sent_again_changes_nothing(world: World) -> bool:
        world = world._replace(store=opened(world.store))
        both = all(_same_twice(world, rules, i) for i in range(len(world.processes)))
        return both and _same_roll(world, rules)

    return i6_sent_again_changes_nothing


def _same_twice(world: World, rules: Rules, i: int) -> bool:
    process, store = world.processes[i], world.store
    if store.working[i].mark == APPLIED:
        after, status, _ = scripts.exchange(
            store, rules, i, process.identity, (process.job, scripts.RETRY), wants=True
        )
        if after is not store or status != scripts.AGAIN:
            return False
    named, _ = scripts.beat(store, i)
    once, _, told = scripts.assert_held(named, rules, i, process.identity)
    twice, _, told_again = scripts.assert_held(scripts.beat(once, i)[0], rules, i, process.identity)
    if once != twice or told != told_again:
        return False
    for entry in store.working[i].entries:
        once, _ = scripts.giveback(store, rules, i, process.identity, entry)
        if (
            scripts.giveback(once, rules, i, process.identity, Entry(entry.jid, entry.answered))[0]
            != once
        ):
            return False
    fenced = scripts.fence(store, i, process.identity)
    return scripts.fence(fenced, i, process.identity) == fenced


def _same_roll(world: World, rules: Rules) -> bool:
    store = world.store
    for jid, identity in store.recovering:
        once = scripts.recover(store, rules, jid, identity)
        left = store.recovering.count((jid, identity)) > 1
        if not left and scripts.recover(once, rules, jid, identity) != once:
            return False
    if not 0 < store.walk <= len(rolls.WALK):
        return True
    once = rolls.roll_walk(store, rules, store.walk)
    return rolls.roll_walk(once._replace(walk=store.walk), rules, store.walk) == once
