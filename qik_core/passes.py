"""The seam for `reconciler`: which keys are told, push as a pass, look at the epoch, audit, roll; what waits, what has ended.

A pass is one of the two origins of a push. It neither advances a scheduled duplicate nor marks a running one dirty,
because it always sees the row of a long job as still pending; and it never adds a second copy, however long the backlog.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from qik_core import tracing
from qik_core.answers import Answers
from qik_core.api.numbers import latency
from qik_core.client import Client, open_store
from qik_core.definition import Definition
from qik_core.jobs import Job
from qik_core.plan import Plan
from qik_core.results import Code
from qik_core.settings import current
from qik_core.store import Epoch, Origin, Store, ended, rolls
from qik_core.store.census import Census, Where, census
from qik_core.store.ended import ANY_VERSION, Ended, EndedKind
from qik_core.store.epoch import lineage
from qik_core.store.glance import glance
from qik_core.store.pressure import load_of, orphans
from qik_core.store.trace import PATIENCE, Holder, Line, LockState, Spot, Trace, find, trace
from qik_core.store.witness import Witness, life, witness
from qik_core.switching import HeldJobs, Running, Switching
from qik_core.tracing import PassEnd

__all__ = [
    "ANY_VERSION",
    "Census",
    "Ended",
    "EndedKind",
    "HeldJobs",
    "Holder",
    "Line",
    "LockState",
    "PassEnd",
    "Passes",
    "Pressure",
    "Running",
    "Spot",
    "Telling",
    "Told",
    "Trace",
    "Where",
    "Witness",
    "lineage",
]

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What a push of a pass answered."""

    codes: list[Code]
    """One per row, in order."""
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much waits for one queue, and how full Redis is."""

    depth: int
    """Jobs on the queue, and those of passes that wait for their time."""
    memory: float
    """Of the memory that Redis may use, 0 to 1 and above; 0 without a limit, or where this user may not ask."""
    latency: float
    """For how many seconds the job that is fetched next has been waiting; 0 for an empty queue."""


class Telling:
    """A push of a pass whose last chunk is on its way."""

    def __init__(self, answers: Answers, look: Callable[[], Epoch]) -> None:
        self._answers = answers
        self._look = look

    def land(self) -> Told:
        """Wait for what it answers; raises StoreError."""
        answers = self._answers.land()
        return Told(answers.codes, answers.epoch or self._look())


class Passes(Switching):
    """Redis, as a pass sees it. Safe to use from many threads.

    All methods raise StoreError: Redis did not answer, or refused.
    """

    def __init__(self, store: Store | None = None) -> None:
        settings = current()
        if store is None:
            store = open_store(settings)
        self._store = store
        self._client = Client(store, settings)
        self._read = threading.local()
        self._walker = f"pass:{os.getpid()}:{os.urandom(4).hex()}"

    def look(self) -> Epoch:
        """Return the epoch; its loss id changes when Redis has lost its data."""
        return self._store.look()

    def digests(self, job: type[Job], rows: Sequence[Row]) -> list[bytes]:
        """Return the keys of these rows' jobs: 22 characters each.

        Raises:
            RowError: a row does not fit `perform`.
        """
        return _definition(job).digests(rows)

    def told(self, digests: Sequence[bytes], versions: Sequence[str] | None = None) -> list[bool]:
        """Say for each key whether a job exists; a running job of an older row version does not count."""
        return self._store.told(digests, _encoded(versions))[0]

    def glance(self, digests: Sequence[bytes], versions: Sequence[str] | None = None) -> list[bool]:
        """Say the same as `told`, and change nothing: not even an epoch is made."""
        return glance(self._store.links, digests, _encoded(versions))

    def push(
        self,
        job: type[Job],
        rows: Sequence[Row],
        *,
        delays: Sequence[float] | None = None,
        versions: Sequence[str] | None = None,
        queue: str | None = None,
        digests: list[bytes] | None = None,
    ) -> Told:
        """Tell these rows, through the client middleware; `delays` in seconds, `versions` of 6 characters.

        `digests` are what `digests()` returned for these rows.

        Whole chunks of 500 are written or not.

        Raises:
            RowError: a row does not fit `perform`; nothing was written.
        """
        return self.start(
            job, rows, delays=delays, versions=versions, queue=queue, digests=digests
        ).land()

    def start(
        self,
        job: type[Job],
        rows: Sequence[Row],
        *,
        delays: Sequence[float] | None = None,
        versions: Sequence[str] | None = None,
        queue: str | None = None,
        digests: list[bytes] | None = None,
    ) -> Telling:
        """Do the same, but leave the last chunk on its way: Redis works meanwhile. `land` it before anything else is pushed."""
        definition = _definition(job)
        if queue is not None:
            definition = definition.with_options({"queue": queue}, definition.name)
        if tracing.installed:
            definition = tracing.marked(definition)
        tags = _encoded(versions)
        answers = Answers()
        plan = Plan(origin=Origin.PASS, delays=delays, versions=tags, digests=digests)
        self._client.start(definition, rows, plan, answers)
        return Telling(answers, self.look)

    def passing(
        self, reconciler: str, queues: Sequence[str]
    ) -> AbstractContextManager[Callable[[PassEnd], None]]:
        """Surround one pass for the tracers; what it yields takes its end. `flush_spans` before the process ends."""
        return tracing.passing(reconciler, queues)

    def flush_spans(self) -> None:
        """Let the tracers send what they hold back."""
        tracing.flush()

    def audit(self, queues: Iterable[str]) -> bool:
        """Whether somebody deleted jobs of ours from these queues: their locks must be found by a roll."""
        return self._store.audit(queues) > 0

    def roll(self, deadline: float, wait: Callable[[float], object] = time.sleep) -> bool:
        """Collect the locks behind which no job stands; True when that ended by `deadline` (monotonic seconds).

        `wait` is called ten times a second while others must be waited for, and may raise to end that.
        """
        links, candidate = self._store.links, self._store.candidate
        link = links.borrow()
        try:
            left = rolls.roll(link, candidate, self._walker, deadline=deadline, wait=wait)
            return left is not None
        finally:
            links.give(link)

    def pressure(self, queue: str) -> Pressure:
        """Return how much waits for a queue, and how full Redis is: one round trip, which writes nothing."""
        load = load_of(self._store.links, queue)
        memory = load.used / load.limit if load.limit else 0.0
        return Pressure(load.queued + load.later, memory, latency(queue, load.oldest, load.time))

    def trace(
        self, digest: str, queues: Iterable[str] = (), *, patience: float = PATIENCE
    ) -> Trace:
        """Return where the job of a key is, for people; these queues are searched first. Writes nothing.

        Lists are searched for `patience` seconds.
        """
        return trace(self._store, digest, queues, patience=patience)

    def find(self, jid: str, *, patience: float = PATIENCE) -> Spot | None:
        """Return the job of this jid, wherever it waits, runs or lies dead; None if it was not found. Writes nothing.

        Lists are searched for `patience` seconds.
        """
        return find(self._store, jid, patience=patience)

    def orphans(self, digests: Sequence[bytes], *, forget: bool = False) -> list[bool]:
        """Say for each key whether a roll of the last hour found its lock without a job; `forget` those: they are counted.

        After a roll that found more than 500,000 of them none is known.
        """
        return orphans(self._store.links, digests, forget=forget)

    def witness(self, name: str, *, leave: bool = False) -> Witness:
        """Look at the epoch, and leave a number under the name of this process, which proves later that no data went back.

        `leave` takes it away.
        """
        return witness(self._store, name, leave=leave)

    def life(self) -> str:
        """Return what tells one start of the server from another; empty where this user may not ask."""
        return life(self._store)

    def census(self) -> Census:
        """Return how many jobs of which class wait: of long lists a part is counted. Writes nothing."""
        return census(self._store.links)

    def ended(self, most: int = 500) -> Sequence[Ended]:
        """Return records of jobs that have ended badly or for nothing, the oldest first, at most 500; they stay in Redis.

        What cannot be read is removed, counted as `ended_unreadable`, and logged raw.
        """
        found = ended.oldest(self._store.links, most)
        self._read.records = list(found)
        return list(found.values())

    def forget_ended(self, count: int) -> None:
        """Remove the oldest `count` records that this thread read last, where another reader has not done so already."""
        records: list[bytes] = getattr(self._read, "records", [])
        ended.forget(self._store.links, records[:count])
        self._read.records = records[count:]


def _definition(job: type[Job]) -> Definition:
    definition: Definition = job.definition
    return definition


def _encoded(versions: Sequence[str] | None) -> list[bytes] | None:
    return None if versions is None else [version.encode() for version in versions]
