"""Where `async def perform` runs: one event loop for all job threads of a process, each of which waits for its own run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from qik_core.errors import JobTimeout


class LoopThread:
    """Where `async def perform` runs: one event loop, made when the first such job comes."""

    def __init__(self, start: Callable[[Callable[[], None]], object]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(
        self,
        work: Coroutine[Any, Any, Any],
        entered: Callable[[Callable[[], object]], None] = lambda _: None,
    ) -> Any:
        """Run a coroutine on the loop and return its result, or raise what it raised.

        `entered` is told, before the first step, what cancels it from another thread.
        """
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._start(self._loop.run_forever)
        shielded = _shielded(work, entered)
        result, error = asyncio.run_coroutine_threadsafe(shielded, self._loop).result()
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        """End the loop, if there is one. Nothing may run on it."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)


async def _shielded(
    work: Coroutine[Any, Any, Any], entered: Callable[[Callable[[], object]], None]
) -> tuple[Any, BaseException | None]:
    """Keep SystemExit and its like from ending the loop: they are failures of the job."""
    task = asyncio.ensure_future(_caught(work))
    loop = asyncio.get_running_loop()
    entered(lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        return await task
    except asyncio.CancelledError as error:  # before its first step
        work.close()
        return None, error


async def _caught(work: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    try:
        return await work, None
    except BaseException as error:  # noqa: BLE001 - raised again in the job's own thread
        return None, error


async def within(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns, cancelled after so many seconds.

    Raises:
        JobTimeout: it was.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise JobTimeout(f"the run took longer than its timeout of {seconds:g} s") from None
