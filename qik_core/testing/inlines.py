"""`inline()`: a job is performed by the call that pushes it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import Thread
from typing import Any, Final, TypeVar

from qik_core import aio
from qik_core.results import Code
from qik_core.retry import is_late
from qik_core.settings import Settings
from qik_core.store import Chunk, Store
from qik_core.testing.errors import Unending
from qik_core.testing.fakes import Dropped
from qik_core.testing.memory import Entry, Memory, stamped
from qik_core.testing.modes import Mode
from qik_core.testing.running import EnqueuedJob, runnable
from qik_core.testing.stores import MemoryStore

T = TypeVar("T")

DEEPEST: Final = 50
"""Jobs inside each other, each pushed by the one around it."""
_depth: ContextVar[int] = ContextVar("qik_inline_depth", default=0)


class Inline(Mode):
    """Jobs are performed at push, in the thread that pushes, scheduled ones as well.

    A push is checked, passes the client middleware, travels as JSON, and runs through the server middleware. What the job
    raises comes out of the push. A job whose key is held by one that is running marks that one dirty, as in production.
    """

    name = "inline()"

    def __init__(self) -> None:
        super().__init__()
        self._memory = Memory()
        self._store = MemoryStore(self._memory, self.name, self._push)
        self.dropped: list[Dropped] = []
        """The jobs that expired, discarded themselves or were cancelled."""
        self.failed: list[tuple[EnqueuedJob, BaseException]] = []
        """The jobs that raised; a push after a commit, which must not raise, leaves its error only here."""
        self._performed: list[EnqueuedJob] = []

    @property
    def jobs(self) -> list[EnqueuedJob]:
        """The jobs that were performed to their end, in order."""
        return list(self._performed)

    def drain(self, job: object = None) -> int:  # noqa: ARG002 - the form of the other modes
        """Return 0: nothing waits here."""
        self._usable("drain")
        return 0

    def _push(self, chunk: Chunk) -> tuple[list[Code], str]:
        """Push a chunk and perform what of it may run. Raises what a job raises."""
        depth = _depth.get()
        if depth >= DEEPEST:
            raise Unending(
                f"inline() is {DEEPEST} jobs deep, each pushed by the one around it: use fake() and drain()"
            )
        codes, jid = self._memory.push(chunk)
        mine = {each.decode() for each in chunk.jids}
        token = _depth.set(depth + 1)
        try:
            while (entry := self._memory.take(lambda each: each.jid in mine)) is not None:
                self._perform(entry)
        except BaseException:
            self._memory.forget(lambda each: each.jid in mine)
            raise
        finally:
            _depth.reset(token)
        return codes, jid

    def _perform(self, entry: Entry) -> None:
        job = EnqueuedJob.of(stamped(entry, self._memory.now()).raw, entry.queue, entry.at)
        try:
            if is_late(job.payload, self._memory.now()):
                self.dropped.append(Dropped(job, "expired"))
                return
            ended = runnable(job, self._loop.wait).perform()
        except BaseException as error:
            self.failed.append((job, error))
            raise
        finally:
            self._memory.end(entry)
        if ended.again is not None:
            self.dropped.append(Dropped(job, f"asked to run again in {ended.again:g} s"))
        elif ended.dropped:
            self.dropped.append(Dropped(job, ended.dropped))
        else:
            self._performed.append(job)

    def _open(self, settings: Settings) -> Store:  # noqa: ARG002 - a memory needs none
        return self._store

    def _start(self, begun: ExitStack) -> None:
        begun.enter_context(_threads_for_all())


class _Threads(ThreadPoolExecutor):
    """A thread per call: a call of `.aio` waits for its job, whose own calls of `.aio` must not wait for a free thread."""

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run the function on a new thread."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it belongs to who waits
                future.set_exception(error)

        Thread(target=run, name=f"qik-aio-{next(_numbers)}", daemon=True).start()
        return future


_numbers = itertools.count(1)


@contextmanager
def _threads_for_all() -> Iterator[None]:
    before, aio._pool = aio._pool, (os.getpid(), _Threads(1))  # noqa: SLF001 - one package
    try:
        yield
    finally:
        aio._pool = before  # noqa: SLF001 - as above


def inline() -> Inline:
    """Return a mode that performs jobs at push, to be used in a with statement."""
    return Inline()
