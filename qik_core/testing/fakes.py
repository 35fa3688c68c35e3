"""`fake()`: jobs are kept in memory until a test performs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from qik_core.errors import QikError
from qik_core.retry import is_late
from qik_core.settings import Settings
from qik_core.store import Store
from qik_core.testing.errors import NothingEnqueued, Unending
from qik_core.testing.memory import Entry, Memory, stamped
from qik_core.testing.modes import Mode, listed, name_of
from qik_core.testing.running import Await, EnqueuedJob, runnable, wait_in
from qik_core.testing.stores import MemoryStore

MOST: Final = 10_000
"""Jobs that one `drain` performs at the most."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A job that was over without having been performed to its end, and why."""

    job: EnqueuedJob
    reason: str


class Fake(Mode):
    """Jobs in memory. A push is checked, passes the client middleware and meets locks as one into Redis does.

    Lengths and lists are of the jobs that wait. `drain` and `perform_one` perform them in this thread, through the server
    middleware, as a worker would, with three differences: a job that fails raises here and is over, no retry waits for it;
    scheduled jobs are performed too; time limits are not enforced. `now` gives epoch seconds.
    """

    name = "fake()"

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._memory = Memory(now)
        self._store = MemoryStore(self._memory, self.name)
        self.performed: list[EnqueuedJob] = []
        """The jobs that were performed to their end, in order."""
        self.dropped: list[Dropped] = []
        """The jobs that expired, discarded themselves or were cancelled."""

    @property
    def jobs(self) -> list[EnqueuedJob]:
        """The jobs that wait, in the order in which `drain` performs them."""
        return [_shown(entry) for entry in self._memory.entries()]

    @property
    def aio(self) -> AsyncFake:
        """The same calls, awaited: `async def perform` then runs on the event loop of the caller."""
        return AsyncFake(self)

    def __len__(self) -> int:
        return len(self._memory.entries())

    def __bool__(self) -> bool:
        return True

    def clear(self, job: object = None) -> int:
        """Forget the jobs that wait, or those of one class, with their locks; returns how many they were."""
        return self._memory.forget(_wanted(job))

    def drain(self, job: object = None, *, scheduled: bool = True, most: int = MOST) -> int:
        """Perform jobs, or those of one class, until none is left, also those that they push; returns how many.

        Those on queues come first, in the order of their pushes, then scheduled ones as they are due; `scheduled=False`
        leaves these. A job that asks to run again later (`RequeueAfter`) is left, due then.

        Raises:
            Exception: what a job raised, with a note that names it. It is over; the others still wait.
            Unending: more than `most` jobs.
            UnknownJob, ArgumentError: a job that cannot be performed here; it still waits.
        """
        return self._drain(job, self._loop.wait, scheduled=scheduled, most=most)

    def perform_one(self, job: object = None) -> EnqueuedJob:
        """Perform the next job, or the next of one class, and return it.

        Raises:
            NothingEnqueued: there is none.
            Exception: as `drain`.
        """
        return self._perform_one(job, self._loop.wait)

    # --- what both forms do --------------------------------------------------

    def _drain(self, job: object, wait: Await, *, scheduled: bool, most: int) -> int:
        self._usable("drain")
        wanted, later, count = _wanted(job), set[str](), 0

        def fits(entry: Entry) -> bool:
            return wanted(entry) and entry.jid not in later

        while (entry := self._memory.take(fits, scheduled=scheduled)) is not None:
            if count == most:
                self._memory.give_back(entry)
                raise Unending(
                    f"drain has performed {most:,} jobs and there are more, next {_shown(entry)}: "
                    "jobs that push themselves have no end; use perform_one, or drain(most=…)"
                )
            count += 1
            if self._perform(entry, wait):
                later.add(entry.jid)
        return count

    def _perform_one(self, job: object, wait: Await) -> EnqueuedJob:
        self._usable("perform_one")
        entry = self._memory.take(_wanted(job))
        if entry is None:
            what = "" if job is None else f" of {name_of(job)}"
            raise NothingEnqueued(
                f"no job{what} waits to be performed; what waits:\n{listed(self.jobs)}"
            )
        self._perform(entry, wait)
        return _shown(entry)

    def _perform(self, entry: Entry, wait: Await) -> bool:
        """Perform a fetched job and settle it; tells whether it asked to run again later."""
        job = _shown(stamped(entry, self._memory.now()))
        if is_late(job.payload, self._memory.now()):
            self._drop(entry, job, "expired")
            return False
        try:
            run = runnable(job, wait)
        except QikError:
            self._memory.give_back(entry)
            raise
        try:
            ended = run.perform()
        except BaseException:
            self._memory.end(entry)
            raise
        if ended.again is not None:
            self._memory.again(entry, ended.again)
        elif ended.dropped:
            self._drop(entry, job, ended.dropped)
        else:
            self._memory.end(entry)
            self.performed.append(job)
        return ended.again is not None

    def _drop(self, entry: Entry, job: EnqueuedJob, reason: str) -> None:
        self._memory.end(entry)
        self.dropped.append(Dropped(job, reason))

    def _open(self, settings: Settings) -> Store:  # noqa: ARG002 - a memory needs none
        return self._store


class AsyncFake:
    """`drain` and `perform_one` of a `Fake`, for asyncio code.

    Plain jobs run on another thread, as in a worker; `async def perform` on the caller's own event loop.
    """

    def __init__(self, jobs: Fake) -> None:
        self._jobs = jobs

    async def drain(self, job: object = None, *, scheduled: bool = True, most: int = MOST) -> int:
        """Perform jobs until none is left. See `Fake.drain`."""
        wait = wait_in(asyncio.get_running_loop())
        return await asyncio.to_thread(
            self._jobs._drain,  # noqa: SLF001 - its other half
            job,
            wait,
            scheduled=scheduled,
            most=most,
        )

    async def perform_one(self, job: object = None) -> EnqueuedJob:
        """Perform the next job. See `Fake.perform_one`."""
        wait = wait_in(asyncio.get_running_loop())
        return await asyncio.to_thread(self._jobs._perform_one, job, wait)  # noqa: SLF001 - as above


def fake(*, now: Callable[[], float] = time.time) -> Fake:
    """Return a mode that keeps jobs in memory, to be used in a with statement."""
    return Fake(now=now)


def _wanted(job: object) -> Callable[[Entry], bool]:
    if job is None:
        return lambda _: True
    name = name_of(job)
    return lambda entry: entry.name == name


def _shown(entry: Entry) -> EnqueuedJob:
    return EnqueuedJob.of(entry.raw, entry.queue, entry.at)
