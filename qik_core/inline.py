"""A job here and now: through the client middleware, JSON and the server middleware, and without Redis.

No lock is taken, nothing is retried, and nothing is counted. What `perform` returns is returned, what it raises is raised.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from qik_core import aio, client, settings
from qik_core.arguments import RowError
from qik_core.chain import server_chain
from qik_core.context import Context
from qik_core.definition import Definition
from qik_core.errors import ArgumentError, NotEnqueued, QikError
from qik_core.payload import Payload
from qik_core.plan import Plan
from qik_core.results import Refused

log: Final = logging.getLogger("qik_core.jobs")
Wait = Callable[[Coroutine[Any, Any, Any]], Any]


def perform(definition: Definition, row: Sequence[Any], plan: Plan) -> Any:
    """Run a job in this thread and return what its `perform` returned; None when a server middleware skipped it.

    Raises:
        ArgumentError: an argument cannot travel, or the call has a time.
        NotEnqueued: the client middleware refused the job, or failed.
        QikError: an async job where an event loop runs.
    """
    if definition.is_async and aio.running() is not None:
        raise QikError(
            f"{definition.name} is async, and an event loop runs here: await {definition.name}.aio.perform_inline(…)"
        )
    return _perform(definition, row, plan, asyncio.run)


async def perform_on_loop(definition: Definition, row: Sequence[Any], plan: Plan) -> Any:
    """Run a job as `perform`, for asyncio code: an async `perform` runs on the caller's event loop.

    The middleware, and a `perform` that is not async, run on a thread of the call's own, so that they block no loop.
    Cancelling the call cancels an async `perform`.
    """
    bridge = _Bridge(asyncio.get_running_loop())
    context = contextvars.copy_context()
    done: Future[Any] = Future()
    done.set_running_or_notify_cancel()  # so that a call that is cancelled leaves the thread where to put its answer

    def run() -> None:
        try:
            done.set_result(context.run(_perform, definition, row, plan, bridge.wait))
        except BaseException as error:  # noqa: BLE001 - raised where the call is awaited
            done.set_exception(error)

    threading.Thread(target=run, name=f"qik-inline-{definition.name}", daemon=True).start()
    try:
        return await asyncio.wrap_future(done)
    except asyncio.CancelledError:
        bridge.cancel()
        raise


@dataclass(slots=True)
class _Bridge:
    """From a thread back to the event loop that waits for it."""

    loop: asyncio.AbstractEventLoop
    work: list[Future[Any]] = field(default_factory=list)
    cancelled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        # Under the lock: the loop can start the coroutine, and the caller cancel it, before this thread has noted the work.
        with self.lock:
            if self.cancelled:
                coroutine.close()
                raise asyncio.CancelledError
            work = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
            self.work.append(work)
        return work.result()

    def cancel(self) -> None:
        with self.lock:
            self.cancelled = True
        for each in self.work:
            each.cancel()


def _perform(definition: Definition, row: Sequence[Any], plan: Plan, wait: Wait) -> Any:
    raw = _passed(definition, row, plan)
    payload = Payload.decode(raw)
    args = definition.arguments.load(payload.args)
    answers: list[Any] = []

    def run(_: Payload) -> None:
        answer = definition.new(Context(payload, definition, args)).perform(*args)
        answers.append(wait(answer) if definition.is_async else answer)

    skipped_by = server_chain(settings.current().server_middleware, run)(Payload.decode(raw))
    if skipped_by is not None:
        log.warning(
            "job skipped",
            extra={"jid": payload.jid, "job": definition.name, "middleware": skipped_by},
        )
    return answers[0] if answers else None


def _passed(definition: Definition, row: Sequence[Any], plan: Plan) -> bytes:
    if plan.delay or plan.due is not None or plan.jitter:
        raise ArgumentError(
            f"{definition.name}: perform_inline runs the job now: leave out wait, wait_until and jitter"
        )
    try:
        passed = client.current().passed(definition, row, plan)
    except RowError as error:
        raise ArgumentError(error.message) from None
    if isinstance(passed, Refused):
        raise NotEnqueued(f"{definition.name} did not run: {passed.by} refused it: {passed.reason}")
    return passed
