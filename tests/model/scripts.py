"""What each script does to Redis: one function a script, named as its Lua file, each from a store to the next store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.model import state
from tests.model.locks import is_mine, locked, opened, put_working, write
from tests.model.rules import Rules
from tests.model.state import (
    ANSWERED,
    APPLIED,
    FENCED,
    GONE,
    NOBODY,
    QUEUED,
    RETRYING,
    RUNS,
    SCHEDULED,
    Entry,
    Lock,
    Store,
    Working,
)  # fmt: skip

ENQUEUED: Final = "enqueued"
ADVANCED: Final = "advanced"
DIRTIED: Final = "dirtied"
DUPLICATE: Final = "duplicate"
EDGE: Final = "edge"
PASS: Final = "pass"

DONE: Final = "done"  # how an exchange ends; also: the job ended well
AGAIN: Final = "again"
IDLE: Final = "idle"
LOST: Final = "lost"
REFUSED: Final = FENCED
OKAY: Final = "ok"
RETRY: Final = "t"  # what becomes of a job, as `Kind` spells it
BURY: Final = "d"
DROP: Final = "x"
BACK: Final = "b"
LATER: Final = "s"


# --- push and promote ---------------------------------------------------------


def push(
    store: Store, rules: Rules, origin: str, jid: int, *, timed: bool = False
) -> tuple[Store, str]:
    """Decide under the lock where the job goes; returns the code."""
    store = opened(store)
    lock = locked(store)
    if lock is None:
        return _put(store, jid, timed=timed), ENQUEUED
    if lock.jid == jid:
        return _own_jid(store, rules, lock)
    if origin == PASS:  # "Pass on anything valid: duplicate"; past its window it asks for a roll
        return store, DUPLICATE
    return _edge_meets(store, rules, lock, jid, timed=timed)


def _edge_meets(
    store: Store, rules: Rules, lock: Lock, jid: int, *, timed: bool
) -> tuple[Store, str]:
    """What an edge does to the lock of another job."""
    if lock.state == RUNS and (rules.edge_on_running or not lock.expired):
        return write(store, lock._replace(dirty=True)), DIRTIED  # whatever its window
    if lock.expired:  # "Past it, an edge counts a lock in q, s or t as absent"
        return _put(store, jid, timed=timed), ENQUEUED
    if lock.state == SCHEDULED and not timed and lock.jid in store.later:
        return _advance(store, lock), ADVANCED
    return store, DUPLICATE


def _put(store: Store, jid: int, *, timed: bool) -> Store:
    if timed:
        return write(store._replace(later=(*store.later, jid)), Lock(SCHEDULED, jid))
    return write(store._replace(queue=(jid, *store.queue)), Lock(QUEUED, jid))


def _own_jid(store: Store, rules: Rules, lock: Lock) -> tuple[Store, str]:
    """ "Own jid, whatever the state: enqueued, nothing added, nothing changed" """
    if rules.own_jid:
        return store, ENQUEUED
    store = store._replace(queue=(lock.jid, *store.queue))
    return (store if lock.state == RUNS else write(store, Lock(QUEUED, lock.jid))), ENQUEUED


def _advance(store: Store, lock: Lock) -> Store:
    """ "Edge on s: ZREM = 1, then LPUSH; not found: duplicate, never a second copy" """
    store = store._replace(later=_without(store.later, lock.jid), queue=(lock.jid, *store.queue))
    return write(store, Lock(QUEUED, lock.jid))


def promote(store: Store, source: str, jid: int) -> Store:
    """ "Never consults the lock it already holds" """
    queue = (jid, *store.queue)
    if source == "later":
        return store._replace(later=_without(store.later, jid), queue=queue)
    return store._replace(retry=_without(store.retry, jid), queue=queue)


# --- exchange -----------------------------------------------------------------


def exchange(
    store: Store,
    rules: Rules,
    i: int,
    identity: int,
    outcome: tuple[int, str] | None,
    *,
    wants: bool,
) -> tuple[Store, str, int]:
    """Settle one job (jid, kind) and fetch one, in one numbered step; returns the status and the job handed out.

    The process sends the number after the last one that was answered. `wants` is false also while nothing may start.
    """
    match store.working[i].mark:
        case state.FENCED:  # "# = fenced: refuse everything"
            return store, REFUSED, NOBODY
        case state.GONE:  # "anything else (hash gone, …): lost, nothing applied"
            return store, LOST, NOBODY
        case state.APPLIED:  # "a re-send: settle nothing, count nothing, hand out the same fields"
            return store, AGAIN, _unanswered(store.working[i])
        case _:
            pass
    before = store
    if outcome is not None:
        store = settle(store, rules, i, identity, *outcome)
    got = NOBODY
    if wants and store.headless and rules.notice_first:
        store = before = opened(store)  # this exchange finds the loss, so starting waits from now
    elif wants and store.queue:
        store, got = fetch(store, i, identity, rules)
    if outcome is None and store is before:  # "An idle exchange writes nothing"
        return store, IDLE, NOBODY
    return put_working(store, i, store.working[i]._replace(mark=APPLIED)), DONE, got


def _unanswered(working: Working) -> int:
    return next((entry.jid for entry in working.entries if not entry.answered), NOBODY)


def settle(store: Store, rules: Rules, i: int, identity: int, jid: int, kind: str) -> Store:
    """ "Each outcome acts only where HDEL returned 1" """
    store = opened(store)
    working = store.working[i]
    entry = next((e for e in working.entries if e.jid == jid and e.answered), None)
    if entry is None:
        return store
    store = put_working(
        store, i, working._replace(entries=tuple([e for e in working.entries if e is not entry]))
    )
    lock = locked(store)
    if lock is not None and not _may_settle(lock, jid, identity, rules):
        return store  # "anything else: the outcome is dropped and counted superseded, no retry, no unlock"
    return _moved(store, jid, kind, dirty=lock is not None and lock.dirty)


def _moved(store: Store, jid: int, kind: str, *, dirty: bool) -> Store:
    """Where a settled job goes, and its lock with it."""
    if kind == RETRY:  # "a failure becomes its retry instead", and so clears the mark
        return write(store._replace(retry=(*store.retry, jid)), Lock(RETRYING, jid))
    if kind == BACK:
        return write(store._replace(queue=(*store.queue, jid)), Lock(QUEUED, jid))
    if dirty:  # "with the dirty mark set, back on the queue"
        return write(store._replace(queue=(jid, *store.queue)), Lock(QUEUED, jid))
    if kind == LATER:  # a job that asks for a later run has not failed
        return write(store._replace(later=(*store.later, jid)), Lock(SCHEDULED, jid))
    return write(store, None)


def _may_settle(lock: Lock, jid: int, identity: int, rules: Rules) -> bool:
    """ "lock in state r and mine" """
    if rules.outcome_needs_lock:
        return is_mine(lock, jid, identity, rules)
    return lock.jid == jid and (lock.state != RUNS or lock.holder == identity or not rules.holder)


def fetch(store: Store, i: int, identity: int, rules: Rules) -> tuple[Store, int]:
    """Pop the next job: "valid under another jid, or in state r under another holder: dropped; absent: recreated as
    running; q, s or t under the own jid: running" """
    store = opened(store)
    jid, lock = store.queue[-1], locked(store)
    store = store._replace(queue=store.queue[:-1])
    if lock is not None and _held_elsewhere(lock, jid, rules):
        return store, NOBODY
    store = write(store, Lock(RUNS, jid, holder=identity))
    working = store.working[i]
    entries = (*working.entries, Entry(jid, answered=False))
    return put_working(store, i, working._replace(entries=entries)), jid


def _held_elsewhere(lock: Lock, jid: int, rules: Rules) -> bool:
    if lock.jid == jid:
        return lock.state == RUNS and rules.holder
    return lock.state == RUNS or not lock.expired


# --- beat, assert, give back ---------------------------------------------------


def beat(store: Store, i: int, settling: int = NOBODY) -> tuple[Store, str]:
    """Name what the process holds, "as Redis has it"; refused on `fenced`. `settling`: the job whose outcome is under way."""
    working = store.working[i]
    if working.mark == FENCED:
        return store, REFUSED
    entries = tuple(
        [
            e._replace(named="s" if e.answered and e.jid == settling else "-")
            for e in working.entries
        ]
    )
    return put_working(store, i, working._replace(entries=entries, alive=True, heard=True)), OKAY


def restore(store: Store, i: int, held: Sequence[int], settling: Sequence[int]) -> Store:
    """What an assertion after a loss brings along: the jobs that the process holds, and "# is the last answered sequence"."""
    entries = tuple(
        [Entry(jid, answered=True, named="s" if jid in settling else "-") for jid in held]
    )
    return put_working(
        store, i, store.working[i]._replace(mark=ANSWERED, entries=entries, heard=True)
    )


def assert_held(
    store: Store, rules: Rules, i: int, identity: int
) -> tuple[Store, str, frozenset[int]]:
    """Renew the locks of the fields named; returns the jids that another run has superseded."""
    if store.working[i].mark == FENCED:
        return store, REFUSED, frozenset()
    store = opened(store)
    working, found, superseded = store.working[i], locked(store), set()
    for entry in working.entries:
        settling = entry.named == "s"
        renewed = (
            _renewed(found, rules, entry.jid, identity, settling=settling) if entry.named else None
        )
        if renewed is not None:
            store = write(store, renewed)
        elif entry.named == "-":
            superseded.add(entry.jid)
    return put_working(store, i, _named_no_more(working, rules)), OKAY, frozenset(superseded)


def _named_no_more(working: Working, rules: Rules) -> Working:
    """ "Has beaten in the new generation": the beat that named the fields came after the generation was made, and
    nothing stands outside of the working hash."""
    whole, heard = working.mark != GONE, working.heard or not rules.beat_names
    return working._replace(
        beaten=working.beaten or (heard and (whole or not rules.whole_hash)),
        asserted=working.asserted or whole,
        entries=tuple([e._replace(named="") if e.named else e for e in working.entries]),
    )


def _renewed(
    lock: Lock | None, rules: Rules, jid: int, identity: int, *, settling: bool
) -> Lock | None:
    """Return what the lock becomes; None: it is not touched."""
    mine = lock is not None and is_mine(lock, jid, identity, rules)
    if settling and rules.no_lock_for_outcomes and not mine:
        return None  # "only where it is r and mine, and never create it"
    if lock is None or mine:  # "lock absent, or running and mine: running under my jid, mark kept"
        return Lock(RUNS, jid, bool(lock and lock.dirty), identity)
    if lock.state == RUNS:  # "running under another: superseded"
        return None
    dirty = (
        rules.take_dirty or lock.dirty
    )  # "q, s or t under any jid: running under my jid with the dirty mark set"
    return Lock(RUNS, jid, dirty, identity)


def giveback(store: Store, rules: Rules, i: int, identity: int, entry: Entry) -> tuple[Store, str]:
    """A job that did not start returns to its queue, next to be fetched; "hand-back writes q in the same script"."""
    working = store.working[i]
    if working.mark in (FENCED, GONE):
        return store, REFUSED if working.mark == FENCED else LOST
    if entry not in working.entries:
        return store, OKAY
    store = opened(store)
    working = store.working[i]
    left = tuple([other for other in working.entries if other is not entry])
    return _return(
        put_working(store, i, working._replace(entries=left)), rules, entry.jid, identity
    ), OKAY


def _return(store: Store, rules: Rules, jid: int, identity: int) -> Store:
    """ "A job whose lock is another's: dropped, superseded; whose lock is absent: created as q" """
    lock = locked(store)
    if lock is not None and not is_mine(lock, jid, identity, rules):
        return store
    return write(store._replace(queue=(*store.queue, jid)), Lock(QUEUED, jid))


# --- death ---------------------------------------------------------------------


def fence(store: Store, i: int, identity: int) -> Store:
    """ "RENAMEs the working hash and puts a fresh hash with # = fenced in its place" """
    working = store.working[i]
    if working.mark == FENCED:
        return store
    moved = tuple([(entry.jid, identity) for entry in working.entries])
    store = store._replace(recovering=store.recovering + moved)
    return put_working(store, i, working._replace(mark=FENCED, entries=(), alive=False))


def recover(store: Store, rules: Rules, jid: int, identity: int) -> Store:
    """One job of a fenced process returns: "recovery treats the fenced identity as holder"."""
    if (jid, identity) not in store.recovering:
        return store
    store = opened(store)
    left = list(store.recovering)
    left.remove((jid, identity))
    return _return(store._replace(recovering=tuple(left)), rules, jid, identity)


def _without(items: tuple[int, ...], jid: int) -> tuple[int, ...]:
    at = items.index(jid)
    return items[:at] + items[at + 1 :]
