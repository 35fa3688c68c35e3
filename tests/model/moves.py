"""Everything that can happen next: what applications, passes, pollers, processes and the roller do, and every fault.

Each function yields moves out of one state. A move that is a fault costs one of its budget, and the search for "it comes
to a good end from here" does not count on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.model import rolls, scripts
from tests.model.locks import locked, new_loss
from tests.model.move import Move, Moves, spend
from tests.model.process import processes
from tests.model.rules import Rules
from tests.model.scripts import EDGE, ENQUEUED, PASS
from tests.model.state import ANSWERED, APPLIED, RUNS, UNRENEWED, Producer, World, copies, fresh_jid


def moves(world: World, rules: Rules) -> Moves:
    """Yield everything that can happen next."""
    for what in EVERYTHING:
        yield from what(world, rules)


# --- pushes -------------------------------------------------------------------


def edge(world: World, rules: Rules) -> Moves:
    """An application pushes; its reply may be lost."""
    if not world.budget.edges or world.producer:
        return
    jid, before = fresh_jid(world), world
    store, code = scripts.push(world.store, rules, EDGE, jid)
    world = spend(world, "edges")._replace(store=store, pending=True)
    if not _stands_for_nothing(before, code):
        world = world._replace(unserved=True)
    yield Move(f"edge: {{job}} {code}", world, fault=True, job=jid)
    if code == ENQUEUED and world.budget.lost_replies:
        world = spend(world, "lost_replies")._replace(producer=Producer(jid, known=True))
        yield Move(f"edge: {{job}} {code}, reply lost", world, fault=True, job=jid)


def _stands_for_nothing(world: World, code: str) -> bool:
    """Whether somebody deleted the job that a duplicate was told of. Until the roll, only the pass can help."""
    return code == scripts.DUPLICATE and copies(world.store, world.processes) == 0


def edge_again(world: World, rules: Rules) -> Moves:
    """ "Each call writes qik:sent:<first jid>; a re-send gets the same codes and changes nothing" """
    if world.producer is None:
        return
    jid, known = world.producer
    world = world._replace(producer=None)
    if known:
        yield Move("edge: {job} sent again, known", world, job=jid)
        return
    store, code = scripts.push(world.store, rules, EDGE, jid)
    yield Move(f"edge: {{job}} sent again, {code}", world._replace(store=store), job=jid)


def a_pass(world: World, rules: Rules) -> Moves:
    """A pass tells the row again, at once or with jitter."""
    if not world.pending:
        return
    jid = fresh_jid(world)
    for timed in (False, True):
        store, code = scripts.push(world.store, rules, PASS, jid, timed=timed)
        if code == ENQUEUED:
            what = "pass: {job} later" if timed else "pass: {job} now"
            yield Move(what, world._replace(store=store), job=jid)


def poller(world: World, rules: Rules) -> Moves:
    """A due job goes to its queue."""
    for source in ("later", "retry"):
        for jid in set(getattr(world.store, source)):
            store = scripts.promote(world.store, source, jid)
            yield Move(f"promote: {{job}} of {source}", world._replace(store=store), job=jid)


def recovery(world: World, rules: Rules) -> Moves:
    """A job of a fenced process returns."""
    for jid, identity in world.store.recovering[:1]:
        store = scripts.recover(world.store, rules, jid, identity)
        yield Move("recover: {job}", world._replace(store=store), job=jid)


# --- rolls and flushes ---------------------------------------------------------------


def roll(world: World, rules: Rules) -> Moves:
    """Begin when needed or by the hour, walk, end; one that died is begun again."""
    store = world.store
    if not store.walk:
        lock = locked(store)
        needed = lock is not None and (lock.expired or copies(store, world.processes) == 0)
        if needed or world.budget.rolls:
            before = world if needed else spend(world, "rolls")
            yield Move("roll begins", before._replace(store=rolls.roll_begin(store, rules)))
        return
    if store.walk <= len(rolls.WALK):
        yield Move(
            f"roll walks {store.walk}",
            world._replace(store=rolls.roll_walk(store, rules, store.walk)),
        )
    else:
        ended, result = rolls.roll_end(store, rules)
        if result >= 0:
            yield Move(f"roll ends: {result} without a job", world._replace(store=ended))
    if world.budget.roll_deaths:
        again = spend(world, "roll_deaths")._replace(store=rolls.roll_begin(store, rules))
        yield Move("roll died, and begins again", again, fault=True)


def rebuild(world: World, rules: Rules) -> Moves:
    """The flush procedure of `all`: rename lists, empty the sorted sets, new loss id, drop the trash."""
    store, step = world.store, world.rebuild
    if step == 0 and world.budget.rebuilds:
        renamed = store._replace(trash=store.trash + store.queue, queue=())
        yield Move(
            "flush: lists renamed",
            spend(world, "rebuilds")._replace(store=renamed, rebuild=1),
            fault=True,
        )
    elif step == 1:
        yield Move(
            "flush: sorted sets emptied",
            world._replace(store=store._replace(later=(), retry=()), rebuild=2),
        )
    elif step == 2:
        yield Move(
            "flush: new loss id",
            world._replace(store=new_loss(store), rebuild=3, unserved=False),
        )
    elif step:
        yield Move(
            "flush: trash dropped", world._replace(store=store._replace(trash=()), rebuild=0)
        )


def losses(world: World, rules: Rules) -> Moves:
    """Somebody or something removes keys."""
    store, budget = world.store, world.budget
    if budget.flushes:
        lost = spend(world, "flushes")._replace(
            store=rolls.flushall(store), unserved=False, rebuild=0,
            producer=world.producer and world.producer._replace(known=False),
        )  # fmt: skip
        yield Move("FLUSHALL", lost, fault=True)
    if budget.queue_deletions and store.queue:
        lost = spend(world, "queue_deletions")._replace(
            store=rolls.delete_queue(store), unserved=False
        )
        yield Move("the queue is deleted", lost, fault=True)
    if budget.lock_deletions and (store.lock or store.old):
        lost = spend(world, "lock_deletions")._replace(unserved=False)
        yield Move(
            "the locks are deleted",
            lost._replace(store=rolls.delete_locks(store, rules)),
            fault=True,
        )
        if store.old and not rules.head:
            gone = rolls.delete_locks(store, rules, both=False)
            yield Move("the previous locks are deleted", lost._replace(store=gone), fault=True)
    if budget.working_deletions:
        for i, working in enumerate(store.working):
            if working.mark in (ANSWERED, APPLIED):
                lost = spend(world, "working_deletions")._replace(
                    store=rolls.delete_working(store, i), unserved=False
                )
                yield Move("its working hash is deleted", lost, fault=True, process=i)


def expiry(world: World, _: Rules) -> Moves:
    """Time passes a lock's window. A running lock is renewed by beats for as long as its holder beats."""
    lock = locked(world.store)
    if not world.budget.expiries or lock is None or lock.expired or _is_renewed(world):
        return
    passed, store = lock._replace(expired=True), world.store
    store = store._replace(lock=passed) if store.lock else store._replace(old=passed)
    yield Move(
        "the lock's window passes", spend(world, "expiries")._replace(store=store), fault=True
    )


def _is_renewed(world: World) -> bool:
    lock = locked(world.store)
    if lock is None or lock.state != RUNS:
        return False
    return any(
        p.identity == lock.holder
        and p.power < UNRENEWED
        and any(e.jid == lock.jid for e in w.entries)
        for p, w in zip(world.processes, world.store.working, strict=True)
    )


EVERYTHING: Final[tuple[Callable[[World, Rules], Moves], ...]] = (
    edge, edge_again, a_pass, poller, processes, recovery, roll, rebuild, losses, expiry,
)  # fmt: skip
