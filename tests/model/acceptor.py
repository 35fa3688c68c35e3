"""Replays what happened in a real run: every event must be possible in the model, with the same answer.

A trace has many keys; the model has one. So a trace is read once for each key, and only what concerns the key is looked
at. What the trace does not say (whether a lock's window has passed, how many copies were popped and dropped) is left open:
the replay keeps every state that the run may be in, and refuses an event when none is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from tests.model import rolls, scripts
from tests.model.locks import locked, new_loss, opened, put_working
from tests.model.rules import Rules
from tests.model.state import (
    ANSWERED,
    APPLIED,
    FENCED,
    GONE,
    NOBODY,
    RUNS,
    Entry,
    Store,
    Working,
)  # fmt: skip
from tests.model.trace import (
    Assert,
    Beat,
    Delete,
    DeleteLocks,
    DeleteQueue,
    Event,
    Exchange,
    Fence,
    Flush,
    GiveBack,
    Leave,
    Promote,
    Push,
    Recover,
    RollBegin,
    RollEnd,
    RollWalk,
)  # fmt: skip

Stores = Iterator[Store]
LETTERS: Final = {
    "duplicate_queued": "q",
    "duplicate_scheduled": "s",
    "duplicate_running": "r",
    "duplicate_retrying": "t",
}


class RefusedError(AssertionError):
    """The model cannot do what happened."""


def keys_of(events: Iterable[Event]) -> list[Any]:
    """Return the unique keys of a trace, in the order of their first push."""
    return list(dict.fromkeys(e.key for e in events if isinstance(e, Push) and e.key is not None))


def accept(events: Sequence[Event], key: Any, rules: Rules | None = None) -> int:
    """Replay what concerns one key; returns the largest number of states that the run might have been in.

    Raises:
        RefusedError: no state of the model allows an event; says which, and what the states before it were.
    """
    replay, most = Replay(events, key, rules or Rules()), 1
    for number, event in enumerate(events, 1):
        before = replay.states
        replay.step(event)
        if not replay.states:
            states = "\n".join(f"  {state}" for state in sorted(before, key=repr)[:5])
            raise RefusedError(
                f"key {key}: the model refuses event {number}, {event}, in\n{states}"
            )
        most = max(most, len(replay.states))
    return most


class Replay:
    """The states that Redis may be in, as far as one key is concerned."""

    def __init__(self, events: Sequence[Event], key: Any, rules: Rules) -> None:
        self.states: set[Store] = {Store(working=())}
        self._rules = rules
        pushes = [e for e in events if isinstance(e, Push) and e.key == key]
        self._numbers = {jid: n for n, jid in enumerate(dict.fromkeys(e.jid for e in pushes))}
        self._queues = {self._numbers[e.jid]: e.queue for e in pushes}
        self._sets: dict[int, str] = {}
        """In which sorted set a job waits, if it does and not for a retry."""
        self._suspects: set[int] = set()
        """Jobs that may be in a list of suspects, which has an order of its own."""
        self._processes: dict[str, int] = {}
        self._last: dict[int, int | None] = {}
        """The number of each process's last exchange that was applied; None: not known."""

    def step(self, event: Event) -> None:
        """Do what happened in every state that allows it."""
        process = getattr(event, "proc", None)
        if process is not None and process not in self._processes:
            self._processes[process] = len(self._processes)
            unknown = Working(mark=GONE, beaten=False, alive=False, heard=False)
            self.states = {s._replace(working=(*s.working, unknown)) for s in self.states}
        possible: Callable[[Store, Any], Stores] = getattr(self, f"_{event.name}", self._nothing)
        self.states = {after for state in self.states for after in possible(state, event)}
        self._remember(event)

    def _remember(self, event: Event) -> None:
        if isinstance(event, Exchange) and event.status == scripts.DONE:
            self._last[self._processes[event.proc]] = event.seq
            for jid, kind in event.settled:
                if kind == scripts.LATER and jid in self._numbers:
                    self._sets[self._numbers[jid]] = "schedule"
        elif isinstance(event, Assert) and event.restored:
            self._last[self._processes[event.proc]] = None
        elif isinstance(event, Push) and event.timed and event.jid in self._numbers:
            zset = "schedule" if event.origin == scripts.EDGE else f"qik:later:{event.queue}"
            self._sets[self._numbers[event.jid]] = zset
        elif isinstance(event, Recover):
            self._suspects.update(self._ours(event.jids))

    def _ours(self, jids: Iterable[str]) -> list[int]:
        return [self._numbers[jid] for jid in jids if jid in self._numbers]

    # --- pushes -----------------------------------------------------------------

    def _push(self, state: Store, event: Push) -> Stores:
        jid = self._numbers.get(event.jid)
        if jid is None or self._queues[jid] != event.queue:
            yield state
            return
        for before in _aging(state):
            if event.origin == scripts.PASS and event.code == scripts.DIRTIED:
                yield from _told_a_newer_version(before)
                continue
            lock = locked(opened(before))
            after, code = scripts.push(before, self._rules, event.origin, jid, timed=event.timed)
            if code == event.code or (
                lock and code == scripts.DUPLICATE and LETTERS.get(event.code) == lock.state
            ):
                yield after

    def _promote(self, state: Store, event: Promote) -> Stores:
        for jid in self._ours(event.jids):
            source = "later" if jid in state.later else "retry"
            if jid not in getattr(state, source):
                return
            state = scripts.promote(state, source, jid)
        yield state

    # --- exchanges --------------------------------------------------------------

    def _exchange(self, state: Store, event: Exchange) -> Stores:
        i = self._processes[event.proc]
        mark, last = state.working[i].mark, self._last.get(i)
        settled = [(jid, kind) for jid, kind in event.settled if jid in self._numbers]
        match event.status:
            case scripts.REFUSED | scripts.LOST:
                if mark == (FENCED if event.status == scripts.REFUSED else GONE):
                    yield state
            case scripts.AGAIN:
                handed = [e.jid for e in state.working[i].entries if not e.answered]
                if mark == APPLIED and event.seq == last and handed == self._ours(event.fetched):
                    yield state
            case scripts.IDLE | scripts.DONE if mark in (ANSWERED, APPLIED) and event.seq != last:
                idle = event.status == scripts.IDLE
                if (last is None or event.seq == last + 1) and not (idle and event.settled):
                    yield from self._applied(_answered(state, i), i, settled, event, idle=idle)

    def _applied(
        self,
        state: Store,
        i: int,
        settled: Sequence[tuple[str, str]],
        event: Exchange,
        *,
        idle: bool,
    ) -> Stores:
        states = {state, opened(state)}
        if idle:
            yield from states
            return
        for jid, kind in sorted(settled, key=lambda one: one[1] != scripts.DONE):
            states = {
                after
                for before in states
                for after in self._settled(before, i, self._numbers[jid], kind)
            }
        fetched = self._ours(event.fetched)
        for before in states:
            if not (before.headless and fetched and self._rules.notice_first):
                for after in self._popped(before, i, fetched):
                    yield put_working(after, i, after.working[i]._replace(mark=APPLIED))

    def _settled(self, state: Store, i: int, jid: int, kind: str) -> Stores:
        yield scripts.settle(state, self._rules, i, i, jid, kind)
        if kind == scripts.LATER:  # without a delay: at once, behind all others
            after = scripts.settle(state, self._rules, i, i, jid, scripts.BACK)
            if after.queue[-1:] == (jid,):
                yield after._replace(queue=(jid, *after.queue[:-1]))

    def _popped(self, state: Store, i: int, fetched: Sequence[int]) -> Stores:
        """Pop any number of copies, of which exactly these are handed out."""
        if not fetched:
            yield state
        for jid in self._next(state):
            at = len(state.queue) - 1 - state.queue[::-1].index(jid)
            moved = state._replace(queue=(*state.queue[:at], *state.queue[at + 1 :], jid))
            for before in _aging(moved):
                after, got = scripts.fetch(before, i, i, self._rules)
                if got == NOBODY:
                    yield from self._popped(after, i, fetched)
                elif fetched and got == fetched[0]:
                    yield from self._popped(after, i, fetched[1:])

    def _next(self, state: Store) -> set[int]:
        """Of each queue the next; of suspects any."""
        last = {self._queues[jid]: jid for jid in state.queue}
        return set(last.values()) | (self._suspects & set(state.queue))

    # --- beats ------------------------------------------------------------------

    def _beat(self, state: Store, event: Beat) -> Stores:
        i = self._processes[event.proc]
        before = state.working[i].entries
        after, status = scripts.beat(state, i)
        if status == event.status:  # what is named is said by the assertion
            yield put_working(after, i, after.working[i]._replace(entries=before))

    def _assert(self, state: Store, event: Assert) -> Stores:
        i = self._processes[event.proc]
        mark = state.working[i].mark
        if (
            event.status == scripts.REFUSED
        ):  # or its fence was deleted, and others recover what it held
            yield from [state] if mark in (FENCED, GONE) else []
            return
        if mark == FENCED or any(identity == i for _, identity in state.recovering):
            return
        for before in self._named(state, i, event):
            after, _, superseded = scripts.assert_held(before, self._rules, i, i)
            if superseded == frozenset(self._ours(event.superseded)):
                yield after

    def _named(self, state: Store, i: int, event: Assert) -> Stores:
        entries = state.working[i].entries
        held = [e.jid for e in entries] if event.held is None else self._ours(event.held)
        settling = self._ours(event.settling or ())
        if event.restored is not False and (event.restored or state.working[i].mark == GONE):
            yield scripts.restore(state, i, held, settling)
        if not event.restored:
            named = tuple([_name(entry, held, settling) for entry in entries])
            yield put_working(state, i, state.working[i]._replace(entries=named))

    def _giveback(self, state: Store, event: GiveBack) -> Stores:
        i = self._processes[event.proc]
        refused = {FENCED: scripts.REFUSED, GONE: scripts.LOST}.get(
            state.working[i].mark, scripts.OKAY
        )
        if refused != event.status:
            return
        for jid in self._ours(event.jids) if refused == scripts.OKAY else ():
            entry = next((e for e in state.working[i].entries if e.jid == jid), None)
            if entry is not None:
                state, _ = scripts.giveback(state, self._rules, i, i, entry)
        yield state

    # --- death ------------------------------------------------------------------

    def _fence(self, state: Store, event: Fence) -> Stores:
        i = self._processes[event.proc]
        state = scripts.fence(state, i, i)
        if event.sure and state.working[i].mark != GONE:
            gone = Working(mark=GONE, beaten=True, alive=False)
            state = put_working(state, i, gone)
        yield state

    def _leave(self, state: Store, event: Leave) -> Stores:
        i = self._processes[event.proc]
        if not state.working[i].entries:
            yield put_working(state, i, Working(mark=GONE, alive=False))

    def _recover(self, state: Store, event: Recover) -> Stores:
        i = self._processes[event.proc]
        for jid in self._ours(event.jids):
            if (jid, i) not in state.recovering:
                return
            state = scripts.recover(state, self._rules, jid, i)
        yield state

    # --- rolls ------------------------------------------------------------------

    def _roll_begin(self, state: Store, _: RollBegin) -> Stores:
        yield rolls.roll_begin(state, self._rules)

    def _roll_walk(self, state: Store, event: RollWalk) -> Stores:
        state = opened(state)
        for jid in self._seen(state, event.source) if state.walk else ():
            state = rolls.keep(state, self._rules, jid)
        yield state

    def _seen(self, state: Store, source: str | None) -> Sequence[int]:
        if source is None:
            return (*state.later, *state.retry, *state.queue)
        if source == "retry":
            return state.retry
        if source.startswith(("queue:", "qik:suspect:")):
            return [jid for jid in state.queue if self._queues[jid] == source.split(":")[-1]]
        return [jid for jid in state.later if self._sets.get(jid) == source]

    def _roll_end(self, state: Store, event: RollEnd) -> Stores:
        if event.result < 0:  # another key's jobs, or another generation: not said
            yield state
            return
        after, left = rolls.roll_end(state, self._rules)
        if 0 <= left <= event.result:
            yield after

    # --- losses -----------------------------------------------------------------

    def _flush(self, state: Store, _: Flush) -> Stores:
        yield new_loss(rolls.flushall(state))

    def _delete_queue(self, state: Store, event: DeleteQueue) -> Stores:
        yield state._replace(
            queue=tuple([j for j in state.queue if self._queues[j] != event.queue])
        )

    def _delete_locks(self, state: Store, _: DeleteLocks) -> Stores:
        yield rolls.delete_locks(state, self._rules)
        yield state  # a hash that a lost epoch has left behind

    def _delete(self, state: Store, event: Delete) -> Stores:
        name = event.key
        if name == "retry":
            state = state._replace(retry=())
        elif name == "schedule" or name.startswith("qik:later:"):
            state = state._replace(
                later=tuple([j for j in state.later if self._sets.get(j) != name])
            )
        elif name == "qik:epoch":
            state = new_loss(state)
        elif name == "qik:alive":
            state = state._replace(working=tuple([w._replace(alive=False) for w in state.working]))
        elif name.startswith("qik:working:") and name.split(":", 2)[2] in self._processes:
            state = rolls.delete_working(state, self._processes[name.split(":", 2)[2]])
        yield state

    def _nothing(self, state: Store, _: Event) -> Stores:
        yield state


def _aging(state: Store) -> Stores:
    """Its window may have passed meanwhile."""
    yield state
    lock = locked(state)
    if lock is not None and lock.state != RUNS and not lock.expired:
        passed = lock._replace(expired=True)
        yield state._replace(lock=passed) if state.lock else state._replace(old=passed)


def _told_a_newer_version(state: Store) -> Stores:
    """ "Pass: duplicate, unless its version tag differs on r: dirty" (versions are not modelled)"""
    lock = locked(opened(state))
    if lock is not None and lock.state == RUNS:
        yield opened(state)._replace(lock=lock._replace(dirty=True), old=None)


def _answered(state: Store, i: int) -> Store:
    """A process that sends another number has got the answer to the last."""
    working = state.working[i]
    entries = tuple([e._replace(answered=True) for e in working.entries])
    return put_working(state, i, working._replace(mark=ANSWERED, entries=entries))


def _name(entry: Entry, held: Sequence[int], settling: Sequence[int]) -> Entry:
    if entry.jid not in held:
        return entry._replace(named="")
    return entry._replace(named="s" if entry.jid in settling else "-")
