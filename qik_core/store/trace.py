"""Where the job of one key is, and why it does not run: for `reconciler why`. Writes nothing, not even an epoch.

The lock says in which state its job is, and mostly where: a scheduled or retrying one stands at a score, a running one
with its holder. The lists are searched for the rest, from the fetch end, so the answer is also how many come before it.
Jobs move meanwhile: what was not found is looked for again while its lock stays the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from qik_core.errors import MalformedPayload
from qik_core.payload import Payload
from qik_core.store import held, keys, numbers
from qik_core.store.cursors import keys_like, members, pages
from qik_core.store.epoch import Epoch
from qik_core.store.glance import records_of
from qik_core.store.push import MOST
from qik_core.store.records import Records
from qik_core.store.store import Store
from qik_core.store.windows import Entry

PATIENCE: Final = 1.5
"""Seconds for which lists are searched."""
FARTHEST: Final = 250_000
"""Jobs of one list that are looked at."""
_STRIDE: Final = MOST - 100  # windows overlap: some are fetched while we look
_TRIES: Final = 3
_SILENT: Final = 60.0
_ERROR: Final = 500


class LockState(StrEnum):
    """What the lock of a key says."""

    ABSENT = "absent"
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"


_STATES: Final = {
    "q": LockState.QUEUED,
    "s": LockState.SCHEDULED,
    "r": LockState.RUNNING,
    "t": LockState.RETRYING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a job was found. Times are epoch seconds."""

    key: str
    """The list, sorted set or hash."""
    queue: str
    """The queue that it is on, or goes to."""
    name: str = ""
    """The job class, as on the wire."""
    args: Sequence[Any] = ()
    jid: str = ""
    digest: str = ""
    """Of its lock; empty without one."""
    position: int | None = None
    """In a list: 1 is fetched next."""
    length: int | None = None
    due: float | None = None
    """In a sorted set: its score."""
    error: str = ""
    """How it failed last."""
    failures: int = 0

    @property
    def is_held(self) -> bool:
        """Its class is switched off, so it is on no queue."""
        return self.key.startswith(keys.held("").decode())

    @property
    def is_aside(self) -> bool:
        """A flush has put it aside, and it is neither gone nor back."""
        return self.key.startswith(keys.TRASH_PREFIX.decode())

    @property
    def is_suspect(self) -> bool:
        """It is among the suspects of its queue: two processes died while it ran, so it runs alone."""
        return self.key == keys.suspect(self.queue).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that runs a job. Times are epoch seconds."""

    identity: str
    """Empty: no process is known that this lock could belong to."""
    beat: float | None = None
    """When it was last heard of."""
    since: float | None = None
    """When the job started; None where it is fetched and the process has not said yet that it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One queue, as its jobs see it."""

    queue: str
    paused: bool
    processes: int
    """How many living processes fetch from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What Redis knows of one key. Times are epoch seconds by the server's clock."""

    now: float
    epoch: Epoch | None = None
    """None: Redis has no epoch, so nobody has used it since it was emptied."""
    state: LockState = LockState.ABSENT
    jid: str = ""
    version: str = ""
    """The tag of the row version that was told; empty without one."""
    dirty: bool = False
    """It runs once more after it ends."""
    expires_at: float | None = None
    spot: Spot | None = None
    holder: Holder | None = None
    line: Line | None = None
    dead: Spot | None = None
    """The dead job of this key that died last."""
    searched: int = 0
    """Jobs that were looked at in the list in which it was expected."""
    cut: bool = False
    """The search ended at its limit, so the job may be further back."""

    @property
    def orphan(self) -> bool:
        """The lock says that a job waits, and there is none: somebody deleted it under its lock."""
        waits = self.state not in (LockState.ABSENT, LockState.RUNNING)
        return waits and self.spot is None and not self.cut


def trace(
    store: Store,
    digest: str,
    queues: Iterable[str] = (),
    *,
    patience: float = PATIENCE,
    now: Callable[[], float] = time.monotonic,
) -> Trace:
    """Return what Redis knows of a key; `queues` are looked at first. Raises StoreError."""
    look = _Look(store, '{"qik":"' + digest, tuple(queues), now() + patience, now)
    found = look.trace(digest)
    for _ in range(_TRIES - 1):
        if not found.orphan or now() >= look.until:
            break
        again = look.trace(digest)
        if (again.state, again.jid, again.expires_at) == (found.state, found.jid, found.expires_at):
            return again
        found = again
    return found


def find(
    store: Store,
    jid: str,
    *,
    patience: float = PATIENCE,
    now: Callable[[], float] = time.monotonic,
) -> Spot | None:
    """Return where the job of a jid is, wherever it waits, runs or lies dead; None if it was not found. Raises StoreError."""
    look = _Look(store, f'"jid":"{jid}"', (), now() + patience, now, inside=True)
    return look.anywhere(jid)


@dataclass(slots=True)
class _Look:
    """One search. `text` is how the job begins; with `inside`, what it contains."""

    store: Store
    text: str
    queues: tuple[str, ...]
    until: float
    now: Callable[[], float]
    inside: bool = False
    searched: int = 0
    cut: bool = False
    records: Records = field(init=False)

    def __post_init__(self) -> None:
        self.records = Records(self.store)

    def trace(self, digest: str) -> Trace:
        self.searched, self.cut = 0, False
        links = self.store.links
        text = links.call("GET", keys.EPOCH)
        seen = Trace(now=self.records.time(), epoch=None if text is None else Epoch.parse(text))
        seen = replace(seen, dead=self._dead())
        record = None
        if seen.epoch is not None:
            record = records_of(links, seen.epoch, [digest.encode()])[0]
        if record is None:
            return seen
        seen = _lock(seen, record.decode())
        tail = record.decode()[18:].partition("|")[2]
        if seen.state is LockState.RUNNING:
            holder, spot = self._running(tail)
            return replace(seen, holder=holder, spot=spot)
        spot = self._waiting(seen.state, tail)
        first = next(iter(self.queues), "")
        line = self._line(first if spot is None else spot.queue) if spot or first else None
        return replace(seen, spot=spot, line=line, searched=self.searched, cut=self.cut)

    def anywhere(self, jid: str) -> Spot | None:
        for identity, raw in self.records.held():
            if self._is_it(raw) and _spot(raw).jid == jid:
                return replace(_spot(raw), key=keys.working(identity).decode())
        spots = (self._in_set(key, None) for key in (keys.SCHEDULE, keys.RETRY))
        found = next(filter(None, spots), None) or self._in_lists()
        return found or self._in_laters() or self._dead()

    # --- where a job waits -----------------------------------------------------------------------

    def _waiting(self, state: LockState, tail: str) -> Spot | None:
        score, _, queue = tail.partition("@")
        if state is LockState.RETRYING:
            return self._in_set(keys.RETRY, float(score)) or self._in_lists()
        if state is LockState.SCHEDULED:
            key = keys.later(queue) if queue else keys.SCHEDULE
            return self._in_set(key, float(score)) or self._in_lists()
        # Fetched by a process that has not beaten since a loss: its lock is queued again until it asserts.
        return self._in_lists()

    def _in_set(self, key: bytes, score: float | None) -> Spot | None:
        entries: Iterable[Entry] = () if score is None else self.records.at_score(key, score)
        found = [each for each in entries if self._is_it(each.raw)]
        if not found:
            entries = self.records.search_sorted(key, self.text, self._has_time)
            found = [each for each in entries if self._is_it(each.raw)]
        if not found:
            return None
        newest = max(found, key=lambda each: each.score or 0.0)
        return replace(_spot(newest.raw), key=key.decode(), due=newest.score)

    def _has_time(self) -> bool:
        self.cut = self.cut or self.now() >= self.until
        return not self.cut

    def _dead(self) -> Spot | None:
        return self._in_set(keys.DEAD, None)

    def _in_laters(self) -> Spot | None:
        found = (self._in_set(keys.later(name), None) for name in self.records.queues())
        return next(filter(None, found), None)

    def _in_lists(self) -> Spot | None:
        names = list(dict.fromkeys([*self.queues, *self.records.queues()]))
        for name in names:
            spot = self._in_list(keys.queue(name), name, first=name == names[0])
            if spot is not None:
                return spot
        suspects = (
            self._in_list(keys.suspect(name), name, first=False) for name in self.records.suspects()
        )
        return next(filter(None, suspects), None) or self._in_no_queue()

    def _in_no_queue(self) -> Spot | None:
        """Return it where it is held, or aside."""
        call = self.store.links.call
        places = [key for name in held.names(call) for key in held.lists(name)]
        places += [name.encode() for name in members(call, keys.ASIDE)]
        found = (self._in_list(key, "", first=False) for key in places)
        return next(filter(None, found), None)

    def _in_list(self, key: bytes, name: str, *, first: bool) -> Spot | None:
        skip, length = 0, 1
        while skip < length:
            if skip >= FARTHEST or self.now() >= self.until:
                self.cut = True
                break
            args = (skip, MOST, self.text, "1" if self.inside else "")
            length, place, raw = self.store.links.run("ahead", (key,), args)
            if place:
                spot = replace(_spot(raw), key=key.decode(), position=place, length=length)
                return replace(spot, queue=name or spot.queue)
            skip += _STRIDE
        if first:
            self.searched = min(skip, length)
        return None

    def _line(self, queue: str) -> Line:
        serve = sum(queue in each for each in self._served())
        return Line(queue=queue, paused=self.records.is_paused(queue), processes=serve)

    def _served(self) -> Iterator[Sequence[Any]]:
        """Yield the queues of each process that has beaten within the last minute; Ruby's among them."""
        server = self.records.time()
        for row in numbers.processes(self.store.links):
            info, beat = _object(row.beat[0]), row.beat[3]
            queues = info.get("queues")
            if isinstance(queues, list) and server - float(beat or 0) < _SILENT:
                yield queues

    # --- where a job runs ------------------------------------------------------------------------

    def _running(self, tag: str) -> tuple[Holder, Spot | None]:
        for identity in self._identities():
            if keys.holder(identity).decode() != tag:
                continue
            beat = self.store.links.call("ZSCORE", keys.ALIVE, identity)
            holder = Holder(identity=identity, beat=None if beat is None else float(beat))
            for key in (keys.working(identity), keys.recovering(identity)):
                for rows in pages(self.store.links.call, "HSCAN", key):
                    for name, raw in zip(rows[::2], rows[1::2], strict=True):
                        if self._is_it(raw):
                            spot = replace(_spot(raw), key=key.decode())
                            return replace(holder, since=self._since(identity, name)), spot
            return holder, None
        return Holder(identity=""), None

    def _identities(self) -> Iterator[str]:
        """Yield those who beat; then those who left jobs behind, as far as there is time to look for them."""
        yield from (
            each.decode("utf-8", "replace")
            for each in self.store.links.call("ZRANGE", keys.ALIVE, 0, -1)
        )
        for prefix in (keys.WORKING_PREFIX, keys.RECOVERING_PREFIX):
            for key in keys_like(self.store.links.call, prefix + b"*"):
                yield key[len(prefix) :].decode("utf-8", "replace")
                if self.now() >= self.until:
                    return

    def _since(self, identity: str, name: bytes) -> float | None:
        text = self.store.links.call("HGET", keys.work(identity), name)
        started = _object(text or b"").get("run_at")
        return float(started) if isinstance(started, (int, float)) else None

    def _is_it(self, raw: bytes) -> bool:
        text = self.text.encode()
        return text in raw if self.inside else raw.startswith(text)


def _lock(seen: Trace, record: str) -> Trace:
    version = record[2:8]
    return replace(
        seen,
        state=_STATES[record[0]],
        dirty=record[1] == "1",
        version="" if version == "------" else version,
        expires_at=float(record[8:18]),
        jid=record[18:].partition("|")[0],
    )


def _spot(raw: bytes) -> Spot:
    """Return what a payload says of itself; little for bytes that are no job."""
    try:
        payload = Payload.decode(raw)
    except MalformedPayload as error:
        return Spot(key="", queue="", error=str(error)[:_ERROR])
    unique, count = payload.unique, payload.get("retry_count")
    kind, message = payload.get("error_class"), payload.get("error_message")
    return Spot(
        key="",
        queue=payload.queue,
        name=payload.class_name,
        args=tuple(payload.args),
        jid=payload.jid,
        digest="" if unique is None else unique.digest,
        error=" ".join(f"{kind}: {message or ''}".split())[:_ERROR] if kind else "",
        failures=count + 1 if type(count) is int else 0,
    )


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
