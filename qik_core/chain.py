"""Chains of middleware: one to put together and to change by name of its parts, and the onion that runs around a job.

configure(server_middleware=Chain([Sentry()]).prepend(timing).insert_before(timing, tenant))
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, overload

from qik_core import hooks
from qik_core.errors import DefinitionError
from qik_core.middleware import Next, ServerMiddleware, name_of
from qik_core.payload import Payload

log: Final = logging.getLogger("qik_core.jobs")
M = TypeVar("M", bound=Callable[..., Any])


class Chain(Sequence[M], Generic[M]):
    """An ordered list of middleware, the first outermost. Every change returns the chain, so that changes can be strung.

    `configure()` copies it: what is changed later takes part from the next `configure()` on.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[M] = ()) -> None:
        self._entries: list[M] = []
        for each in entries:
            self.add(each)

    def add(self, middleware: M) -> Chain[M]:
        """Put it last; an entry equal to it goes."""
        return self._put(middleware, len(self))

    def prepend(self, middleware: M) -> Chain[M]:
        """Put it first; an entry equal to it goes."""
        return self._put(middleware, 0)

    def insert_before(self, old: M, middleware: M) -> Chain[M]:
        """Put it in front of `old`, or first where `old` is absent; an entry equal to it goes."""
        self._forget(middleware, unless=old)
        return self._put(middleware, self._place(old, 0))

    def insert_after(self, old: M, middleware: M) -> Chain[M]:
        """Put it behind `old`, or last where `old` is absent; an entry equal to it goes."""
        self._forget(middleware, unless=old)
        return self._put(middleware, self._place(old, len(self) - 1) + 1)

    def remove(self, middleware: M) -> Chain[M]:
        """Take it out, where it is in."""
        self._forget(middleware)
        return self

    def clear(self) -> Chain[M]:
        """Take all out."""
        self._entries.clear()
        return self

    def exists(self, middleware: M) -> bool:
        """Whether it is in."""
        return middleware in self._entries

    def names(self) -> list[str]:
        """Return the names in order, as errors and `doctor` write them."""
        return [name_of(each) for each in self._entries]

    @overload
    def __getitem__(self, index: int) -> M: ...
    @overload
    def __getitem__(self, index: slice) -> list[M]: ...
    def __getitem__(self, index: int | slice) -> M | list[M]:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[M]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"Chain({self.names()})"

    def _put(self, middleware: M, place: int) -> Chain[M]:
        check(middleware)
        before = [each for each in self._entries[:place] if each != middleware]
        self._entries = [
            *before,
            middleware,
            *(each for each in self._entries[place:] if each != middleware),
        ]
        return self

    def _forget(self, middleware: M, *, unless: M | None = None) -> None:
        if unless is None or middleware != unless:
            self._entries = [each for each in self._entries if each != middleware]

    def _place(self, old: M, otherwise: int) -> int:
        return self._entries.index(old) if old in self._entries else otherwise


def check(middleware: object) -> None:
    """Refuse what can be no middleware.

    Raises:
        DefinitionError: not callable, or one that would never go on: a coroutine or a generator function.
    """
    if not callable(middleware):
        raise DefinitionError(
            f"a {type(middleware).__name__} is no middleware: use functions (job, call_next)"
        )
    given: Any = middleware
    function = given if inspect.isroutine(given) else type(given).__call__
    if inspect.iscoroutinefunction(function) or _generates(function):
        raise DefinitionError(
            f"middleware {name_of(middleware)} is async or yields, so its call would run nothing: "
            "use def, and return call_next(job)"
        )


def server_chain(
    chain: Sequence[ServerMiddleware], inner: Next[object]
) -> Callable[[Payload], str | None]:
    """Return the server chain as one step, which answers who skipped the job: None when `inner` was reached.

    What a middleware raises, the step raises: the job has failed. One that does not call `call_next` skips the job,
    which is then done. `inner` runs once: a second call of `call_next` returns at once and is reported as an error.
    What a middleware returns is ignored.
    """

    def step(job: Payload) -> str | None:
        run = _Run(inner)
        _call(tuple(chain), run, job)
        return run.skipped_by

    return step


class _Run:
    """One run through a chain."""

    __slots__ = ("inner", "skipped_by")

    def __init__(self, inner: Next[object]) -> None:
        self.inner = inner
        self.skipped_by: str | None = None


def _call(chain: tuple[ServerMiddleware, ...], run: _Run, job: Payload) -> None:
    if not chain:
        run.inner(job)
        return
    middleware, rest = chain[0], chain[1:]
    calls = 0

    def call_next(job: Payload) -> None:
        nonlocal calls
        calls += 1
        if not isinstance(job, Payload):
            raise DefinitionError(
                f"server middleware {name_of(middleware)} gave call_next a {type(job).__name__}: "
                "give it the job, or job.replace(…)"
            )
        if calls > 1:
            _twice(middleware, job)
        else:
            _call(rest, run, job)

    result: object = middleware(job, call_next)
    if not calls:
        _refuse_unrun(middleware, result)
        run.skipped_by = name_of(middleware)


def _twice(middleware: ServerMiddleware, job: Payload) -> None:
    error = DefinitionError(
        f"server middleware {name_of(middleware)} called call_next twice: the job ran once; call it once"
    )
    log.error(
        "a middleware called call_next twice",
        extra={"jid": job.jid, "job": job.class_name, "middleware": name_of(middleware)},
    )
    hooks.report(error, {"jid": job.jid, "job": job.class_name})


def _refuse_unrun(middleware: ServerMiddleware, result: object) -> None:
    """Tell a middleware that skipped the job from one whose body did not run, which would skip every job."""
    if inspect.iscoroutine(result):
        result.close()
    elif not (inspect.isgenerator(result) or inspect.isasyncgen(result)):
        return
    raise DefinitionError(
        f"server middleware {name_of(middleware)} is async or yields, so its call ran nothing: "
        "use def, and return call_next(job)"
    )


def _generates(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
