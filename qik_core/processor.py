"""One job: decode, look up, run the server chain and `perform`, and say what becomes of it. Read `process` first.

Nothing here speaks to Redis: the outcome is settled by the courier, with the next exchange.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, assert_never

import msgspec

from qik_core import retry
from qik_core.context import Context
from qik_core.definition import Definition
from qik_core.errors import ArgumentError, Cancelled, MalformedPayload
from qik_core.middleware import ServerMiddleware, wrap
from qik_core.payload import Payload, Unique, header, new_jid
from qik_core.store.exchange import Done, Fetched, Kind, Other, Outcome
from qik_core.store.keys import is_queue

log: Final = logging.getLogger("qik_core.jobs")
Await = Callable[[Coroutine[Any, Any, Any]], Any]


class Run(msgspec.Struct, frozen=True):
    """A job that can be performed."""

    job: Fetched
    payload: Payload
    definition: Definition
    args: Sequence[Any]
    context: Context


class Processor:
    """Performs jobs. One for all threads of a process; keeps nothing between two jobs."""

    def __init__(
        self,
        *,
        find: Callable[[str], Definition | None],
        wait: Await,
        now: Callable[[], float],
        dice: Callable[[], float],
        middleware: Sequence[ServerMiddleware] = (),
        milliseconds: bool = False,
    ) -> None:
        self._find = find
        self._wait = wait
        self._now = now
        self._dice = dice
        self._middleware = middleware
        self._milliseconds = milliseconds

    def process(self, job: Fetched, entered: Callable[[Context], None]) -> Outcome:
        """Perform one job and say what becomes of it. Never raises: a job may raise anything.

        `entered` is told the context of the run just before it begins.
        """
        try:
            return self._process(job, entered)
        except MalformedPayload as error:
            return self._set_aside(job, str(error))
        except BaseException as error:
            log.exception("a job could not be dealt with", extra={"queue": job.queue})
            reason = f"not dealt with: {retry.class_of(error)}: {retry.message_of(error)}"
            return self._set_aside(job, reason)

    def _process(self, job: Fetched, entered: Callable[[Context], None]) -> Outcome:
        payload = Payload.decode(job.raw)
        if payload.class_name == retry.MALFORMED:  # somebody wanted it retried: it is no job still
            return Other(job, Kind.DEAD, None, payload.jid, job.queue, payload.encode())
        definition = self._find(payload.class_name)
        if definition is None:
            return self._unknown(
                job, payload, f"no imported module defines the job {payload.class_name!r}"
            )
        try:
            args = definition.arguments.load(payload.args)
        except ArgumentError as error:
            return self._unknown(job, payload, f"the arguments do not fit: {error}")
        if "expiry" in payload.fields and self._is_late(payload):
            log.warning(
                "job expired",
                extra={"jid": payload.jid, "job": payload.class_name, "queue": job.queue},
            )
            return _done(job, payload)
        run = Run(job, payload, definition, args, Context(payload))
        entered(run.context)
        return self._perform(run)

    def _perform(self, run: Run) -> Outcome:
        logged = log.isEnabledFor(logging.INFO)
        began = self._now() if logged else 0.0
        if logged:
            log.info("job started", extra=_fields(run))
        try:
            if self._middleware:
                wrap(self._middleware, lambda _: self._call(run))(run.payload)
            else:
                self._call(run)
        except Cancelled:
            log.warning("job cancelled", extra=_fields(run))
            return _done(run.job, run.payload)
        except BaseException as error:
            log.warning("job failed", exc_info=error, extra=_fields(run))
            return self._failed(run, error)
        if logged:
            log.info("job done", extra={**_fields(run), "seconds": round(self._now() - began, 6)})
        return _done(run.job, run.payload)

    def _call(self, run: Run) -> None:
        perform = run.definition.new(run.context).perform
        if run.definition.is_async:
            self._wait(perform(*run.args))
        else:
            perform(*run.args)

    def _failed(self, run: Run, error: BaseException) -> Outcome:
        payload, definition = run.payload, run.definition
        now = self._now()
        limit = retry.limit_of(payload, definition.retry)
        dead = payload.get("dead") is not False
        decision = retry.decide(retry.failures_of(payload), limit, dead=dead, dice=self._dice())
        after = retry.failed(payload, error, now, milliseconds=self._milliseconds)
        return _other(run.job, payload, after, decision)

    def _unknown(self, job: Fetched, payload: Payload, reason: str) -> Outcome:
        now = self._now()
        log.error(
            "job unknown", extra={"jid": payload.jid, "job": payload.class_name, "reason": reason}
        )
        return _other(
            job, payload, retry.unknown(payload, reason, now), retry.decide_unknown(payload, now)
        )

    def _set_aside(self, job: Fetched, reason: str) -> Outcome:
        """Bury the bytes. What begins with our header held its lock since the fetch, whatever stands behind it."""
        unique, jid, _ = header(job.raw) or ("-", new_jid(), "")
        log.error(
            "not a job: set aside in the dead set",
            extra={"jid": jid, "queue": job.queue, "reason": reason},
        )
        envelope = retry.set_aside(job.raw, job.queue, reason, jid, self._now())
        return Other(job, Kind.DEAD, Unique.parse(unique), jid, job.queue, envelope.encode())

    def _is_late(self, payload: Payload) -> bool:
        expiry = payload.get("expiry")
        return isinstance(expiry, (int, float)) and expiry < self._now()


class LoopThread:
    """Where `async def perform` runs: one event loop, made when the first such job comes."""

    def __init__(self, start: Callable[[Callable[[], None]], object]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop and return its result, or raise what it raised."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._start(self._loop.run_forever)
        result, error = asyncio.run_coroutine_threadsafe(_shielded(work), self._loop).result()
        if error is not None:
            raise error
        return result


async def _shielded(work: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Keep SystemExit and its like from ending the loop: they are failures of the job."""
    try:
        return await work, None
    except BaseException as error:  # noqa: BLE001 - raised again in the job's own thread
        return None, error


def _done(job: Fetched, payload: Payload) -> Done:
    if "retry_count" in payload.fields:
        return Done(job, retry.fresh(payload).encode())
    return Done(job)


def _other(job: Fetched, before: Payload, after: Payload, decision: retry.Decision) -> Other:
    if not after.jid:
        after = after.replace(jid=new_jid())
    if not is_queue(after.get("queue")):
        after = after.replace(queue=job.queue)
    unique, again = before.unique, retry.fresh(before).encode()
    match decision:
        case retry.Again(delay):
            return Other(
                job, Kind.RETRY, unique, after.jid, job.queue, after.encode(), delay, again
            )
        case retry.Bury():
            return Other(job, Kind.DEAD, unique, after.jid, job.queue, after.encode(), again=again)
        case retry.Drop():
            return Other(job, Kind.GONE, unique, after.jid, job.queue, again=again)
        case _:
            assert_never(decision)


def _fields(run: Run) -> dict[str, Any]:
    return {
        "jid": run.payload.jid,
        "job": run.definition.name,
        "queue": run.job.queue,
        "attempt": run.context.attempt,
    }


def unique_of(job: Fetched) -> tuple[Unique | None, str]:
    """Return the lock and the jid of a fetched job; nothing for one that cannot be read."""
    try:
        payload = Payload.decode(job.raw)
    except MalformedPayload:
        return None, ""
    return payload.unique, payload.jid
