"""One job of a test, run as a worker runs it: decoded, looked up, its arguments converted back, through the server chain.

What a worker would retry is raised instead, with a note that names the job, so that a test fails where its job fails.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from qik_core import registry
from qik_core.chain import server_chain
from qik_core.context import Context
from qik_core.definition import Definition
from qik_core.errors import ArgumentError, Cancelled, UnknownJob
from qik_core.options import did_you_mean
from qik_core.outcomes import Discard, Outcome, RequeueAfter
from qik_core.payload import Payload
from qik_core.settings import current

Await: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


@dataclass(frozen=True, slots=True)
class EnqueuedJob:
    """A job that waits, or waited, in a test."""

    name: str
    """The registered name of its class."""
    args: tuple[Any, ...]
    """As `perform` receives them; as they are in JSON where no class of this name is defined, or they do not fit."""
    queue: str
    at: datetime | None
    """When it is due, in UTC; None for a job on its queue."""
    jid: str
    payload: Payload = field(compare=False, repr=False)

    @classmethod
    def of(cls, raw: bytes, queue: str, at: float | None) -> EnqueuedJob:
        """Return the job in these bytes, due at these epoch seconds."""
        payload = Payload.decode(raw)
        when = None if at is None else datetime.fromtimestamp(at, UTC)
        return cls(payload.class_name, _shown(payload), queue, when, payload.jid, payload)

    def __str__(self) -> str:
        """Return it as an error names it: `Charge(7) on billing, at 2030-01-01 00:05:00+00:00`."""
        when = "" if self.at is None else f", at {self.at.isoformat(' ', 'seconds')}"
        return f"{self.name}({', '.join(map(repr, self.args))}) on {self.queue}{when}"


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job that did not raise."""

    dropped: str = ""
    """Why it was dropped; empty for a job that ended well."""
    again: float | None = None
    """It asked to run again after so many seconds."""


@dataclass(frozen=True, slots=True)
class Run:
    """A job that can be performed."""

    job: EnqueuedJob
    definition: Definition
    args: list[Any]
    wait: Await

    def perform(self) -> Ended:
        """Perform it through the server middleware.

        Raises:
            Exception: what the job raised, with a note; also RetryIn and Terminal, by which a job says that it failed.
        """
        try:
            said = self._through_chain()
            if isinstance(said, Outcome):
                raise said  # noqa: TRY301 - returned or raised is the same word
        except RequeueAfter as asked:
            return Ended(again=asked.seconds)
        except Discard as asked:
            return Ended(f"discarded: {asked}")
        except Cancelled:
            return Ended("cancelled")
        except self.definition.rules.discard_on as error:
            return Ended(f"discarded: {type(error).__name__}: {error}")
        except BaseException as error:
            error.add_note(f"in the job {self.job} (jid {self.job.jid})")
            raise
        return said if isinstance(said, Ended) else Ended()

    def _through_chain(self) -> object:
        """Return what `perform` returned."""
        said: list[object] = []
        step = server_chain(current().server_middleware, lambda _: said.append(self._call()))
        skipped_by = step(self.job.payload)
        return Ended(f"skipped: by {skipped_by}") if skipped_by else said[0]

    def _call(self) -> object:
        context = Context(self.job.payload, self.definition, self.args)
        perform = self.definition.new(context).perform
        return self.wait(perform(*self.args)) if self.definition.is_async else perform(*self.args)


def runnable(job: EnqueuedJob, wait: Await) -> Run:
    """Return what performs a job; `wait` runs a coroutine to its end.

    Raises:
        UnknownJob: no imported module defines it.
        ArgumentError: the arguments do not fit `perform`.
    """
    definition = registry.find(job.name)
    if definition is None:
        raise UnknownJob(
            f"no imported module defines the job {job.name!r}{did_you_mean(job.name, registry.names())}. "
            "Import the module that does; a job for another program can be looked at, not performed"
        )
    try:
        return Run(job, definition, definition.arguments.load(job.payload.args), wait)
    except ArgumentError as error:
        error.add_note(f"in the job {job} (jid {job.jid})")
        raise


class Loop:
    """Where `async def perform` runs in a test: one event loop for a whole mode, as one for a worker process.

    It runs on the thread that waits, so that what a test has bound to its thread is there. Where a loop runs already, or
    this one is in use, a coroutine gets a loop and a thread of its own.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = threading.Lock()

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end and return its result, or raise what it raised."""
        if _is_in_loop() or not self._free.acquire(blocking=False):
            return _on_own_thread(work)
        try:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            return self._loop.run_until_complete(work)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close the loop, with what its jobs have left running."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def wait_in(loop: asyncio.AbstractEventLoop) -> Await:
    """Return what runs a coroutine on a loop of another thread."""
    return lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _on_own_thread(work: Coroutine[Any, Any, Any]) -> Any:
    ended: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            ended.append((asyncio.run(work), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            ended.append((None, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="qik-test")
    thread.start()
    thread.join()
    result, error = ended[0]
    if error is not None:
        raise error
    return result


def _shown(payload: Payload) -> tuple[Any, ...]:
    definition = registry.find(payload.class_name)
    if definition is None:
        return tuple(payload.args)
    try:
        return tuple(definition.arguments.load(payload.args))
    except ArgumentError:
        return tuple(payload.args)
