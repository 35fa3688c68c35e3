"""What a process does: take jobs, run them, settle them, beat; and what befalls it.

Each function yields the moves of process i out of one state, if it has any.
"""

from __future__ import annotations

from typing import Any, Final

from tests.model import scripts
from tests.model.locks import put_working
from tests.model.move import Move, Moves, spend
from tests.model.rules import Rules
from tests.model.scripts import DROP, LOST, RETRY
from tests.model.state import (
    ANSWERED,
    APPLIED,
    AWAKE,
    CONVICTABLE,
    DEAD,
    FAILED,
    FENCED,
    FETCHED,
    FREE,
    FROZEN,
    GONE,
    NO,
    NOBODY,
    OK,
    ON_TIME,
    QUIET,
    REPLY,
    RUNNING,
    UNANSWERED,
    UNRENEWED,
    WHILE_LATE,
    Entry,
    Process,
    Store,
    Working,
    World,
    fresh_identity,
)


def _process(world: World, i: int, store: Store | None = None, **changes: Any) -> World:
    """Change what process i believes, and perhaps Redis."""
    process = world.processes[i]._replace(**changes)
    processes = (*world.processes[:i], process, *world.processes[i + 1 :])
    return world._replace(processes=processes, store=world.store if store is None else store)


def processes(world: World, rules: Rules) -> Moves:
    """What each of the two does, if it does anything at all."""
    for i, process in enumerate(world.processes):
        steps = _AWAKE if process.power == AWAKE else _STILL
        for step in steps:
            for move in step(world, rules, i, process):
                yield move._replace(process=i, job=process.job)


def _start(world: World, _: Rules, i: int, process: Process) -> Moves:
    if process.phase != FETCHED:
        return
    if process.superseded:
        yield Move("does not start {job}: superseded", _process(world, i, phase=OK))
    else:
        yield Move(
            "starts {job}",
            _process(world, i, phase=RUNNING)._replace(unserved=False),
        )


def _end(world: World, _: Rules, i: int, process: Process) -> Moves:
    if process.phase != RUNNING:
        return
    yield Move("{job} ends well", _process(world, i, phase=OK)._replace(pending=False))
    if world.budget.failures:
        failed = _process(spend(world, "failures"), i, phase=FAILED)
        yield Move("{job} fails", failed, fault=True)


def _hand_back(world: World, rules: Rules, i: int, process: Process) -> Moves:
    """ "Unstarted jobs are handed back" """
    entries = world.store.working[i].entries
    entry = next((e for e in entries if e.answered and e.jid == process.job), None)
    if process.phase != FETCHED or entry is None or not world.budget.returns:
        return
    store, status = scripts.giveback(world.store, rules, i, process.identity, entry)
    if status != LOST:
        free = _process(spend(world, "returns"), i, store, phase=FREE, job=NOBODY, superseded=NO)
        yield Move("hands back {job}", free, fault=True)


def _exchange(world: World, rules: Rules, i: int, process: Process) -> Moves:
    """One exchange is outstanding at a time; it is sent again until it is answered."""
    busy = process.phase in (FETCHED, RUNNING)
    if process.sent == REPLY or (busy and world.store.working[i].mark in (ANSWERED, APPLIED)):
        return
    outcome = None if busy or process.job == NOBODY else (process.job, _kind(process))
    wants = not busy and not _starting_waits(world, rules)
    store, status, got = scripts.exchange(
        world.store, rules, i, process.identity, outcome, wants=wants
    )
    match status:
        case scripts.REFUSED:
            yield Move("exchange: fenced, comes back as a new process", _reborn(world, i))
        case scripts.LOST:
            yield from _lost(world, rules, i, process)
        case scripts.DONE | scripts.AGAIN:
            settled = f" settles {{job}} ({outcome[1]})" if outcome else ""
            fetched = "" if got == NOBODY else " fetches {got}"
            sent = _process(world, i, store, sent=REPLY, reply=got)
            yield Move(f"exchange: {status}{settled}{fetched}", sent, got=got)
        case _ if store is not world.store:
            yield Move("exchange: finds that the locks are gone", _process(world, i, store))
        case _:
            pass


def _kind(process: Process) -> str:
    if process.superseded:
        return DROP
    return scripts.DONE if process.phase == OK else RETRY


def _starting_waits(world: World, rules: Rules) -> bool:
    """ "While 0 ≤ TIME - epoch birth < H + 1 s it hands out nothing": long enough for everybody who beats on time to assert."""
    if not rules.assert_first:
        return False
    return any(
        not w.asserted and w.mark != FENCED and p.power == AWAKE and not p.late
        for p, w in zip(world.processes, world.store.working, strict=True)
    )


def _lost(world: World, rules: Rules, i: int, process: Process) -> Moves:
    """ "The courier sends assert (the fields it holds, #, and the locks of those whose outcome is not under way)" """
    if process.late >= CONVICTABLE and rules.silent:
        yield Move("lost, and silent for too long: comes back as a new process", _reborn(world, i))
        return
    held = [] if process.job == NOBODY else [process.job]
    settling = held if process.phase in (OK, FAILED) else []
    store = scripts.restore(world.store, i, held, settling)
    store, _, verdicts = scripts.assert_held(store, rules, i, process.identity)
    told = _told(process, told=process.job in verdicts)
    asserts = "lost: asserts {job}" if held else "lost: asserts that it holds nothing"
    yield Move(asserts, _process(world, i, store, late=AWAKE, superseded=told))
    if verdicts and world.budget.lost_replies:
        yield Move(
            f"{asserts}, reply lost",
            _process(spend(world, "lost_replies"), i, store),
            fault=True,
        )


def _told(process: Process, *, told: bool) -> int:
    if not told or process.superseded:
        return process.superseded
    return WHILE_LATE if process.late else ON_TIME


def _reply(world: World, _: Rules, i: int, process: Process) -> Moves:
    """The answer to the exchange arrives, or is lost."""
    if process.sent != REPLY:
        return
    working, got = world.store.working[i], process.reply
    barred = any(entry.barred for entry in working.entries)
    if working.mark == APPLIED:
        entries = tuple([entry._replace(answered=True, barred=False) for entry in working.entries])
        working = working._replace(mark=ANSWERED, entries=entries)
    arrived = _process(
        world, i, put_working(world.store, i, working), sent=QUIET, reply=NOBODY, job=got,
        phase=FREE if got == NOBODY else FETCHED, superseded=ON_TIME if barred else NO,
    )  # fmt: skip
    yield Move("reply arrives", arrived)
    if world.budget.lost_replies:
        unanswered = _process(spend(world, "lost_replies"), i, sent=UNANSWERED, reply=NOBODY)
        yield Move("reply lost", unanswered, fault=True)


def _beat(world: World, rules: Rules, i: int, process: Process) -> Moves:
    """Beat, and assert what the beat has named: two scripts, and other things may happen in between."""
    if process.beating:
        yield Move("asserts what the beat has named", _beat_ends(world, rules, i))
        return
    store, status = scripts.beat(
        world.store, i, process.job if process.phase in (OK, FAILED) else NOBODY
    )
    if status == scripts.REFUSED:
        yield Move("beat: fenced, comes back as a new process", _reborn(world, i))
        return
    begun = _process(world, i, store, beating=True)
    yield Move("beat", _beat_ends(begun, rules, i))
    if world.budget.slow_beats:
        yield Move("beat begins", spend(begun, "slow_beats"), fault=True)


def _beat_ends(world: World, rules: Rules, i: int) -> World:
    """Renew the locks, take note of verdicts, give back what the process does not know of."""
    process = world.processes[i]
    strays = {e for e in world.store.working[i].entries if e.named and _is_stray(e, rules, process)}
    store, status, verdicts = scripts.assert_held(world.store, rules, i, process.identity)
    if status == scripts.REFUSED:
        return _reborn(world, i)
    mine = any(e.jid == process.job and e.answered for e in store.working[i].entries)
    silent = store.working[i].mark == GONE and rules.acknowledged
    late = process.late if silent else AWAKE
    store = _bar(store, rules, i, verdicts)
    for entry in strays:
        store, _ = scripts.giveback(store, rules, i, process.identity, entry._replace(named=""))
    told = _told(process, told=mine and process.job in verdicts)
    return _process(world, i, store, late=late, superseded=told, beating=False)


def _is_stray(entry: Entry, rules: Rules, process: Process) -> bool:
    """ "A field of an answered exchange that the process does not know goes back; compared by field name, never by jid" """
    return entry.jid != process.job and (entry.answered or not rules.by_field)


def _bar(store: Store, rules: Rules, i: int, verdicts: frozenset[int]) -> Store:
    """ "A verdict is remembered and applied when that field's reply arrives" """
    if not (verdicts and rules.verdict):
        return store
    working = store.working[i]
    entries = tuple(
        [
            e if e.answered or e.jid not in verdicts else e._replace(barred=True)
            for e in working.entries
        ]
    )
    return put_working(store, i, working._replace(entries=entries))


def _reborn(world: World, i: int) -> World:
    """Drops its results, takes a new identity, starts clean."""
    store = put_working(world.store, i, Working())
    process = Process(fresh_identity(world))
    return world._replace(
        store=store, processes=(*world.processes[:i], process, *world.processes[i + 1 :])
    )


# --- standing still and dying ------------------------------------------------------


def _falter(world: World, _: Rules, i: int, __: Process) -> Moves:
    if world.budget.freezes:
        yield Move("freezes", _process(spend(world, "freezes"), i, power=FROZEN), fault=True)
    if world.budget.crashes:
        dead = _process(
            spend(world, "crashes"),
            i,
            power=DEAD,
            job=NOBODY,
            phase=FREE,
            sent=QUIET,
            reply=NOBODY,
            superseded=NO,
            late=0,
            beating=False,
        )
        yield Move("crashes", dead, fault=True)


def _thaw(world: World, _: Rules, i: int, process: Process) -> Moves:
    if process.power == DEAD:
        return
    if process.power < UNRENEWED:
        yield Move("stays frozen", _process(world, i, power=process.power + 1))
    yield Move("thaws", _process(world, i, power=AWAKE, late=process.power))


def _convict(world: World, _: Rules, i: int, process: Process) -> Moves:
    """Others have read the same beat for L - 2 H: they fence it; a dead one is replaced."""
    store = world.store
    working = store.working[i]
    known = working.alive or working.mark in (ANSWERED, APPLIED)
    if process.power >= CONVICTABLE and known and working.mark != FENCED:
        store = scripts.fence(store, i, process.identity)
    if process.power == DEAD:
        yield Move("is fenced and replaced", _reborn(world._replace(store=store), i))
    elif store is not world.store:
        yield Move("is fenced", world._replace(store=store))


_AWAKE: Final = (_start, _end, _hand_back, _exchange, _reply, _beat, _falter)
_STILL: Final = (_thaw, _convict)
