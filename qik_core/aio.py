"""Where blocking calls run for asyncio code: a few threads of their own, one pool per process."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

R = TypeVar("R")
_THREADS: Final = 4

_lock = threading.Lock()
_pool: tuple[int, ThreadPoolExecutor] | None = None


async def on_thread(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Call a blocking function on one of the threads, with the caller's context variables, and await its result."""
    call = partial(contextvars.copy_context().run, function, *args, **kwargs)
    try:
        done = asyncio.get_running_loop().run_in_executor(_executor(), call)
    except RuntimeError:  # the interpreter is ending, and starts no more threads
        return call()
    return await done


def later(function: Callable[..., R], *args: Any) -> Future[R]:
    """Call a blocking function on one of the threads; where the interpreter is ending, here and now."""
    try:
        return _executor().submit(function, *args)
    except RuntimeError:
        done: Future[R] = Future()
        done.set_result(function(*args))
        return done


def running() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, which must not be blocked."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_warned = False


def warn_in_loop(call: str, remedy: str, level: int = 3) -> None:
    """Warn, once per process, that a blocking call is made where an event loop runs; `level` as in `warnings.warn`."""
    global _warned  # noqa: PLW0603 - once per process
    if _warned or running() is None:
        return
    _warned = True
    warnings.warn(
        f"{call} blocks the event loop while Redis answers: {remedy}",
        RuntimeWarning,
        stacklevel=level,
    )


def _executor() -> ThreadPoolExecutor:
    global _pool  # noqa: PLW0603 - threads do not survive a fork, so the pool is one process's
    with _lock:
        if _pool is None or _pool[0] != os.getpid():
            _pool = (os.getpid(), ThreadPoolExecutor(_THREADS, thread_name_prefix="qik-aio"))
        return _pool[1]
