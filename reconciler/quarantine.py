"""Rows whose jobs do not end well: remembered in SQL, so that no flush brings them back; held back by passes.

    drain     what the engine noted of ended jobs (`qik:ended`) becomes states of rows
    filter    a page's rows are held, or free: their time has come, they have changed, a new release runs
    healed    rows that match no more are forgotten

A state belongs to a job class and a key, whoever pushed the job: any process drains any record, also those of classes it
does not know. Records leave Redis when SQL has them, so SQL being down loses nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from threading import Lock
from time import monotonic
from typing import Any, Final

from sqlalchemy import Engine, exc

from qik_core.errors import ArgumentError
from qik_core.passes import Ended, Passes
from qik_core.rows import Asked, Standing
from reconciler import registry
from reconciler.definition import Definition
from reconciler.memory import CHUNK, Left, Memory
from reconciler.options import Quarantine
from reconciler.sql import again
from reconciler.states import Change, Hold, Reason, Seen, State, Verdict, after, judge, shown

log: Final = logging.getLogger("reconciler")

FRESH: Final = 1.0
"""Seconds for which what was read of a class is used: a pass of many pages does not ask for each."""
AT_ONCE: Final = 1_000
"""States of a class that are kept in memory while they are fresh; of more, those of each page are read."""
_MOST: Final = 10_000
"""Records that one call takes over, about: a pass waits for it."""
_PATIENCE: Final = 5.0
_SHARE: Final = 20.0
"""Counting takes a twentieth of the time at most."""
_ASKED: Final = 250
_DIGEST: Final = 22
_NAME: Final = 200
_ERROR: Final = 500
_DEFAULT: Final = Quarantine()

Look = Callable[[Sequence[Asked]], Sequence[Standing]]


@dataclass(frozen=True, slots=True)
class Held:
    """Why a row is left out of a pass."""

    code: Hold
    reason: Reason


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read of a class, and when, in monotonic seconds."""

    at: float
    states: Mapping[bytes, Left]


class RowStates:
    """What is remembered of rows, for the passes of one process. Thread-safe.

    `release` is the id of the application's release, empty when nobody says so; `now` is in monotonic seconds.
    All methods raise SqlUnavailable and NotMigrated.
    """

    def __init__(
        self,
        home: Engine,
        seam: Passes,
        release: str = "",
        *,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.memory: Final = Memory(home)
        self._seam = seam
        self._release = release
        self._now = now
        self._draining = Lock()
        self._lock = Lock()
        self._counts: tuple[float, Mapping[str, Mapping[Hold, int]]] | None = None
        self._kept: dict[str, _Kept] = {}
        self._cursors: dict[tuple[str, str], str] = {}

    # --- from Redis ------------------------------------------------------------------------------

    def drain(self) -> int:
        """Take over what the engine has noted; says how many records were new. Costs one read of Redis when there are none.

        Raises:
            StoreError: Redis did not answer; what was not taken over stays there.
        """
        if not self._draining.acquire(timeout=_PATIENCE):
            return 0  # another thread has a lot to take over
        total = 0
        try:
            while self._seam.ended(1) and total < _MOST:
                total += self._some()
        finally:
            self._draining.release()
            if total:
                self._forget_read()
        return total

    def _some(self) -> int:
        try:
            return again(lambda: self._take(CHUNK))
        except exc.DBAPIError as error:
            log.warning("records are drained one by one", extra={"error": str(error.orig)})
            return self._one_by_one()

    def _one_by_one(self) -> int:
        """Take over what stands before a record that SQL refuses, and remove that."""
        total = 0
        for _ in range(CHUNK):
            try:
                total += again(lambda: self._take(1))
            except exc.DBAPIError as error:
                extra = {"record": repr(self._seam.ended(1)), "error": str(error.orig)}
                log.exception("a record of an ended job cannot be kept: removed", extra=extra)
                self._seam.forget_ended(1)
                break
        return total

    def _take(self, most: int) -> int:
        """Take over the oldest records. What the mark says was drained, and Redis has still, is not taken again."""
        with self.memory.marked() as (connection, drained):
            records = self._seam.ended(most)  # under the mark: nobody else drains these meanwhile
            new = [each for each in records if _name(each) not in drained]
            good = [each for each in new if _usable(each)]
            if new:
                keys: dict[str, set[str]] = {}
                for each in good:
                    keys.setdefault(each.name, set()).add(each.digest)
                before = self.memory.locked(connection, keys)
                self.memory.ended(connection, before, self._folded(before, good))
                self.memory.mark(connection, map(_name, records))
        self._seam.forget_ended(len(records))
        return len(new)

    def _folded(
        self, before: Mapping[tuple[str, str], State], records: Sequence[Ended]
    ) -> dict[tuple[str, str], Change]:
        """Return what becomes of each key, one record after the other."""
        changes: dict[tuple[str, str], Change] = {}
        for record in records:
            at = record.name, record.digest
            state = changes[at].state if at in changes else before.get(at)
            known = registry.telling(record.name)
            policy = known[0].quarantine if known else _DEFAULT
            args = written(record.args)
            key = readable(known[0], record.args) if known else args
            clean = replace(record, error=_text(record.error)[:_ERROR], jid=_text(record.jid))
            change = after(state, clean, policy, key=key, args=args, release=self._release)
            if change.state is not None and at not in before:
                change = replace(change, state=replace(change.state, shard=_shard(known, record)))
            changes[at] = change
        return changes

    # --- for passes ------------------------------------------------------------------------------

    def filter(
        self, definition: Definition, digests: Sequence[bytes], tags: Sequence[str] | None = None
    ) -> list[Held | None]:
        """Say for each key why its row is left out, None for those that may be told; frees what is to be freed."""
        judged = self._judged(definition, digests, tags)
        changed = [
            (state, verdict.change)
            for state, verdict in judged.values()
            if verdict.change is not None
        ]
        if changed:
            before, changes = [each for each, _ in changed], [each for _, each in changed]
            again(lambda: self.memory.judged(before, changes, definition.shard))
            self._say(definition, changed)
            self._forget_read(definition.facts.name)
        return _held(len(digests), judged)

    def refresh(self, definition: Definition) -> None:
        """Forget what was read of a class: others may have taken over records meanwhile."""
        self._forget_read(definition.facts.name)

    def glance(
        self, definition: Definition, digests: Sequence[bytes], tags: Sequence[str] | None = None
    ) -> list[Held | None]:
        """Say the same as `filter`, and change nothing."""
        return _held(len(digests), self._judged(definition, digests, tags))

    def reasons(self, definition: Definition, digests: Sequence[bytes]) -> list[Reason | None]:
        """Say for each key how its job ended last, None for rows of which nothing is remembered."""
        found, _ = self._of(definition, digests)
        return [found[each][0].reason if each in found else None for each in digests]

    def counts(self, definition: Definition) -> dict[str, int]:
        """Return how many rows of a reconciler are `waiting` and `quarantined`."""
        held = {}
        if definition.facts.name in self._all():
            held = self.memory.held(definition.facts.name, definition.shard)
        return {each.value: held.get(each, 0) for each in Hold}

    def healed(self, definition: Definition, look: Look) -> int:
        """Forget rows that match no more; looks at up to CHUNK of those remembered, at others the next time.

        `look` says how rows stand, as `qik_core.rows` has it. A row that has a job is left alone: many jobs take their row
        out of the pending ones while they run. What an operator has quarantined stays so.

        Raises:
            StoreError: Redis did not answer.
        """
        name, shard = definition.facts.name, definition.shard
        if name not in self._all():
            return 0
        after = name, self._cursors.get((name, shard), "")
        page = self.memory.page(name, {shard, ""}, after=after)
        self._cursors[name, shard] = page[-1].digest if len(page) == CHUNK else ""
        idle = self._idle([each for each in page if each.reason is not Reason.OPERATOR])
        gone = self._idle(_gone(definition, idle, look))  # no job came and went meanwhile
        if not gone:
            return 0
        count = again(lambda: self.memory.forget(gone))
        self._forget_read(name)
        return count

    # --- inside ----------------------------------------------------------------------------------

    def _idle(self, states: Sequence[State]) -> list[State]:
        """Return the states of rows that have no job now."""
        if not states:
            return []
        told = self._seam.told([each.digest.encode() for each in states])
        return [state for state, has_job in zip(states, told, strict=True) if not has_job]

    def _judged(
        self, definition: Definition, digests: Sequence[bytes], tags: Sequence[str] | None
    ) -> dict[int, tuple[State, Verdict]]:
        """Return what is remembered of these rows, and what follows for a pass: by their places."""
        states, elapsed = self._of(definition, digests)
        if not states:
            return {}
        quarantined = self._all().get(definition.facts.name, {}).get(Hold.QUARANTINED, 0)
        judged = {}
        for at in [at for at, digest in enumerate(digests) if digest in states]:
            state, left = states[digests[at]]
            tag = None if tags is None else tags[at]
            seen = Seen(tag, self._release, left <= elapsed, quarantined)
            verdict = judge(state, seen, definition.quarantine)
            if verdict.change is None and state.shard != definition.shard:
                verdict = replace(verdict, change=Change(state))  # the first pass that knows it
            judged[at] = state, verdict
        return judged

    def _of(
        self, definition: Definition, digests: Sequence[bytes]
    ) -> tuple[Mapping[bytes, Left], float]:
        """Return the states among these keys at least, and how many seconds ago they were read."""
        name = definition.facts.name
        known = sum(self._all().get(name, {}).values())
        if not known or not digests:
            return {}, 0.0
        if known > AT_ONCE:
            found = self.memory.of_keys(name, [each.decode() for each in digests])
            return _by_digest(found), 0.0
        kept, now = self._kept.get(name), self._now()
        if kept is None or now - kept.at >= FRESH:
            kept = self._kept[name] = _Kept(now, _by_digest(self.memory.of_class(name)))
        return kept.states, self._now() - kept.at

    def _all(self) -> Mapping[str, Mapping[Hold, int]]:
        """Return the classes that have states, and how many: asked once a second at most, for all reconcilers together."""
        known, began = self._counts, self._now()
        if known is not None and began < known[0]:
            return known[1]
        counts = self.memory.counts()
        self._counts = began + max(FRESH, _SHARE * (self._now() - began)), counts
        with self._lock:
            for name in set(self._kept) - set(counts):
                del self._kept[name]
        return counts

    def _forget_read(self, name: str | None = None) -> None:
        with self._lock:
            self._counts = None
            if name is None:
                self._kept = {}
            else:
                self._kept.pop(name, None)

    def _say(self, definition: Definition, changed: Sequence[tuple[State, Change]]) -> None:
        freed = sum(
            before.hold is Hold.QUARANTINED
            and (change.state is None or change.state.hold is Hold.WAITING)
            for before, change in changed
        )
        if freed:
            extra = {"reconciler": definition.unit, "rows": freed, "release": self._release or "-"}
            log.info("quarantined rows get another chance", extra=extra)


def arguments(definition: Definition, state: State) -> tuple[Any, ...] | None:
    """Return the arguments of a row's job as `perform` takes them; None where they are not known, or do not fit any more."""
    if not state.args:
        return None
    try:
        return tuple(definition.job.definition.arguments.load(json.loads(state.args)))
    except (ArgumentError, ValueError):
        return None


def readable(definition: Definition, args: Sequence[Any]) -> str:
    """Return the key of a row as people read it, from the arguments of its job as JSON has them."""
    facts = definition.facts
    return _text(shown(args, [each.name for each in facts.parameters], facts.unique))


def written(args: Sequence[Any]) -> str:
    """Return the arguments of a job as the table has them."""
    return json.dumps(list(args))


def _gone(definition: Definition, states: Sequence[State], look: Look) -> list[State]:
    """Return the states of rows that match no more, as far as they can be asked for."""
    known = [(state, arguments(definition, state)) for state in states]
    asked = [
        (state, Asked(state.job, args, state.digest)) for state, args in known if args is not None
    ]
    gone: list[State] = []
    for start in range(0, len(asked), _ASKED):
        some = asked[start : start + _ASKED]
        stand = look([each for _, each in some])
        gone += [
            state for (state, _), each in zip(some, stand, strict=True) if each is Standing.GONE
        ]
    return gone


def _held(count: int, judged: Mapping[int, tuple[State, Verdict]]) -> list[Held | None]:
    held: list[Held | None] = [None] * count
    for at, (state, verdict) in judged.items():
        if verdict.hold is not None:
            held[at] = Held(verdict.hold, state.reason)
    return held


def _by_digest(found: Sequence[Left]) -> dict[bytes, Left]:
    return {state.digest.encode(): (state, left) for state, left in found}


def _name(record: Ended) -> str:
    """Return what tells a record from all others."""
    said = f"{record.jid} {record.kind.value} {record.at:.6f}".encode("utf-8", "surrogatepass")
    return blake2b(said, digest_size=9).hexdigest()


def _usable(record: Ended) -> bool:
    """Say whether a record names a row; one that does not is logged, and not kept."""
    named = 0 < len(record.name) <= _NAME and record.name.isprintable()
    if (
        named
        and len(record.digest) == _DIGEST
        and record.digest.isascii()
        and record.digest.isprintable()
    ):
        return True
    log.error("a record of an ended job names no row: removed", extra={"record": repr(record)})
    return False


def _text(text: str) -> str:
    """Return a text as every database takes it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _shard(known: Sequence[Definition], record: Ended) -> str:
    sharded = bool(known) and known[0].shards is not None and bool(record.args)
    return _text(str(record.args[0]))[:100] if sharded else ""
