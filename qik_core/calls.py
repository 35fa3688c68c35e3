"""The calls that push a job, typed from its `perform`, for plain code and for asyncio code.

A descriptor's `__get__` takes `type[HasPerform[P]]`: that is how mypy and pyright tie `X.perform_async` to `X.perform`.
Rows of `perform_bulk` are typed by arity, 1 to 6, the longest first.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    Unpack,
    overload,
)

from qik_core import aio, client, options
from qik_core.client import BATCH
from qik_core.definition import Definition
from qik_core.errors import ArgumentError, DefinitionError
from qik_core.options import SetOptions
from qik_core.plan import Plan
from qik_core.results import BulkResult, Push

P = ParamSpec("P")
R = TypeVar("R")
Row = TypeVar("Row", contravariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
A_ = TypeVar("A_", contravariant=True)
B_ = TypeVar("B_", contravariant=True)
C_ = TypeVar("C_", contravariant=True)
D_ = TypeVar("D_", contravariant=True)
E_ = TypeVar("E_", contravariant=True)
F_ = TypeVar("F_", contravariant=True)

Delay: TypeAlias = timedelta | float
Moment: TypeAlias = datetime | float
_AIO_THREADS: Final = 4


class HasPerform(Protocol[P]):
    """A class with `perform`."""

    def perform(self, *args: P.args, **kwargs: P.kwargs) -> object: ...


class Takes1(Protocol[A_]):
    """`perform` can be called with one argument."""

    def perform(self, a: A_, /) -> object: ...


class Takes2(Protocol[A_, B_]):
    """`perform` can be called with two arguments."""

    def perform(self, a: A_, b: B_, /) -> object: ...


class Takes3(Protocol[A_, B_, C_]):
    """`perform` can be called with three arguments."""

    def perform(self, a: A_, b: B_, c: C_, /) -> object: ...


class Takes4(Protocol[A_, B_, C_, D_]):
    """`perform` can be called with four arguments."""

    def perform(self, a: A_, b: B_, c: C_, d: D_, /) -> object: ...


class Takes5(Protocol[A_, B_, C_, D_, E_]):
    """`perform` can be called with five arguments."""

    def perform(self, a: A_, b: B_, c: C_, d: D_, e: E_, /) -> object: ...


class Takes6(Protocol[A_, B_, C_, D_, E_, F_]):
    """`perform` can be called with six arguments."""

    def perform(self, a: A_, b: B_, c: C_, d: D_, e: E_, f: F_, /) -> object: ...


class Bulk(Protocol[Row]):
    """`perform_bulk` of a job whose rows are typed."""

    def __call__(
        self,
        rows: Iterable[Row],
        *,
        batch_size: int = BATCH,
        jitter: Delay | None = None,
        at: Moment | None = None,
    ) -> BulkResult: ...


class Pusher(Generic[P]):
    """Pushes one job class with the options of one call.

    Every method raises ArgumentError before anything is written, and NotEnqueued or OutcomeUnknown within 3 seconds
    when Redis does not answer.
    """

    __slots__ = ("_changes", "_definition")

    def __init__(self, definition: Definition, changes: Mapping[str, Any] | None = None) -> None:
        self._definition = definition
        self._changes = changes or {}
        if changes:
            client.resolve(definition, changes)  # what cannot work fails where it is written

    def perform_async(self, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run as soon as a worker is free."""
        aio.warn_in_loop(
            "perform_async", "await the same call behind .aio, as in X.aio.perform_async(…)"
        )
        return self._now(args, kwargs)

    def perform_in(self, delay: Delay, /, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run after a delay: a timedelta or seconds. Zero is now."""
        aio.warn_in_loop("perform_in", "await the same call behind .aio, as in X.aio.perform_in(…)")
        return self._later(delay, args, kwargs)

    def perform_at(self, moment: Moment, /, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run at a moment: an aware datetime or epoch seconds. The past is now."""
        aio.warn_in_loop("perform_at", "await the same call behind .aio, as in X.aio.perform_at(…)")
        return self._then(moment, args, kwargs)

    def perform_bulk(
        self,
        rows: Iterable[Sequence[Any]],
        *,
        batch_size: int = BATCH,
        jitter: Delay | None = None,
        at: Moment | None = None,
    ) -> BulkResult:
        """Push a job per row and return a code per row. `rows` is taken lazily, a batch at a time.

        `jitter` spreads the jobs evenly over a duration, from now or from `at`. A batch is checked whole before it is
        written; an error about an item names its index, and the batches before it stay written.
        """
        aio.warn_in_loop(
            "perform_bulk", "await the same call behind .aio, as in X.aio.perform_bulk(…)"
        )
        return self._many(rows, batch_size, jitter, at)

    def set(self, **changes: Unpack[SetOptions]) -> Pusher[P]:
        """Return a pusher with these options besides those set before."""
        return Pusher(self._definition, {**self._changes, **changes})

    @property
    def aio(self) -> AsyncPusher[P]:
        """The same calls, awaited."""
        return AsyncPusher(self._definition, self._changes)

    def _now(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Push:
        definition, plan = self._resolve()
        return client.current().perform(definition, definition.arguments.bind(args, kwargs), plan)

    def _later(self, delay: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Push:
        definition, plan = self._resolve()
        where = f"{definition.name}.perform_in"
        plan = plan.at(where, delay=options.duration(delay, f"{where}: the delay"))
        return client.current().perform(definition, definition.arguments.bind(args, kwargs), plan)

    def _then(self, moment: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Push:
        definition, plan = self._resolve()
        where = f"{definition.name}.perform_at"
        plan = plan.at(where, due=options.moment(moment, f"{where}: the moment"))
        return client.current().perform(definition, definition.arguments.bind(args, kwargs), plan)

    def _many(self, rows: Any, batch_size: int, jitter: object, at: object) -> BulkResult:
        where = f"{self._definition.name}.perform_bulk"
        given = {
            name: value
            for name, value in (("jitter", jitter), ("wait_until", at))
            if value is not None
        }
        if doubled := given.keys() & self._changes.keys():
            raise ArgumentError(
                f"{where}: {', '.join(sorted(doubled))} was set already: give it once"
            )
        definition, plan = client.resolve(self._definition, {**self._changes, **given})
        return client.current().bulk(definition, rows, plan, batch_size)

    def _resolve(self) -> tuple[Definition, Plan]:
        if not self._changes:
            return self._definition, _PLAIN
        return client.resolve(self._definition, self._changes)


class AsyncPusher(Generic[P]):
    """The calls of `Pusher` for asyncio code: they run on a few threads of their own and never block the event loop.

    A cancelled call that had not begun is not made; one that had may have pushed its job.
    """

    __slots__ = ("_pusher",)

    def __init__(self, definition: Definition, changes: Mapping[str, Any] | None = None) -> None:
        self._pusher: Pusher[P] = Pusher(definition, changes)

    async def perform_async(self, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run as soon as a worker is free."""
        return await _on_thread(self._pusher.perform_async, *args, **kwargs)

    async def perform_in(self, delay: Delay, /, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run after a delay: a timedelta or seconds."""
        return await _on_thread(self._pusher.perform_in, delay, *args, **kwargs)

    async def perform_at(self, moment: Moment, /, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run at a moment: an aware datetime or epoch seconds."""
        return await _on_thread(self._pusher.perform_at, moment, *args, **kwargs)

    async def perform_bulk(
        self,
        rows: Iterable[Sequence[Any]],
        *,
        batch_size: int = BATCH,
        jitter: Delay | None = None,
        at: Moment | None = None,
    ) -> BulkResult:
        """Push a job per row, as `Pusher.perform_bulk`. `rows` is taken on another thread."""
        return await _on_thread(
            self._pusher.perform_bulk, rows, batch_size=batch_size, jitter=jitter, at=at
        )

    def set(self, **changes: Unpack[SetOptions]) -> AsyncPusher[P]:
        """Return a pusher with these options besides those set before."""
        return self._pusher.set(**changes).aio


_PLAIN: Final = Plan()


class PerformAsync:
    """`X.perform_async(…)`."""

    def __get__(self, obj: object, owner: type[HasPerform[P]]) -> Callable[P, Push]:
        return _pusher(owner).perform_async


class PerformIn:
    """`X.perform_in(delay, …)`."""

    def __get__(
        self, obj: object, owner: type[HasPerform[P]]
    ) -> Callable[Concatenate[Delay, P], Push]:
        return _pusher(owner).perform_in


class PerformAt:
    """`X.perform_at(moment, …)`."""

    def __get__(
        self, obj: object, owner: type[HasPerform[P]]
    ) -> Callable[Concatenate[Moment, P], Push]:
        return _pusher(owner).perform_at


class SetCall(Protocol[P]):
    """`set` of a job whose arguments are typed."""

    def __call__(self, **changes: Unpack[SetOptions]) -> Pusher[P]: ...


class Set:
    """`X.set(queue=…).perform_async(…)`."""

    def __get__(self, obj: object, owner: type[HasPerform[P]]) -> SetCall[P]:
        return _pusher(owner).set


class Aio:
    """`await X.aio.perform_async(…)`."""

    def __get__(self, obj: object, owner: type[HasPerform[P]]) -> AsyncPusher[P]:
        return _pusher(owner).aio


class PerformBulk:
    """`X.perform_bulk(rows, …)`. With no parameters, or more than six, rows are checked at run time only."""

    @overload
    def __get__(
        self, obj: object, owner: type[Takes6[A, B, C, D, E, F]]
    ) -> Bulk[tuple[A, B, C, D, E, F]]: ...
    @overload
    def __get__(
        self, obj: object, owner: type[Takes5[A, B, C, D, E]]
    ) -> Bulk[tuple[A, B, C, D, E]]: ...
    @overload
    def __get__(self, obj: object, owner: type[Takes4[A, B, C, D]]) -> Bulk[tuple[A, B, C, D]]: ...
    @overload
    def __get__(self, obj: object, owner: type[Takes3[A, B, C]]) -> Bulk[tuple[A, B, C]]: ...
    @overload
    def __get__(self, obj: object, owner: type[Takes2[A, B]]) -> Bulk[tuple[A, B]]: ...
    @overload
    def __get__(self, obj: object, owner: type[Takes1[A]]) -> Bulk[tuple[A]]: ...
    @overload
    def __get__(self, obj: object, owner: type[HasPerform[P]]) -> Bulk[tuple[Any, ...]]: ...
    def __get__(self, obj: object, owner: Any) -> Any:
        return _pusher(owner).perform_bulk


class NoPerform(DefinitionError, AttributeError):
    """A class without `perform` cannot be pushed; an AttributeError too, so that tools may look at such a class."""


def _pusher(owner: Any) -> Pusher[Any]:
    definition = getattr(owner, "definition", None)
    if definition is None:
        raise NoPerform(f"{owner.__qualname__} has no perform, so it cannot be pushed: define it")
    return Pusher(definition)


# --- asyncio -------------------------------------------------------------------------------------

_lock = threading.Lock()
_pool: tuple[int, ThreadPoolExecutor] | None = None


async def _on_thread(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    run = contextvars.copy_context().run
    return await asyncio.get_running_loop().run_in_executor(
        _executor(), partial(run, function, *args, **kwargs)
    )


def _executor() -> ThreadPoolExecutor:
    global _pool  # noqa: PLW0603 - threads do not survive a fork, so the pool is one process's
    with _lock:
        if _pool is None or _pool[0] != os.getpid():
            _pool = (os.getpid(), ThreadPoolExecutor(_AIO_THREADS, thread_name_prefix="qik-aio"))
        return _pool[1]
