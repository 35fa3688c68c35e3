"""What an application writes: a class with `perform`, or a function, and what a running job can ask.

class Charge(Job, queue="billing", retry=8, unique_for=timedelta(hours=1)):
    def perform(self, invoice_id: int) -> None: ...

Charge.perform_async(7)
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, Unpack, overload

from qik_core import options, registry
from qik_core.arguments import Arguments
from qik_core.calls import Pusher
from qik_core.context import Context
from qik_core.definition import Definition, Rules, define
from qik_core.doors import (
    AfterCommit,
    Aio,
    PerformAsync,
    PerformAt,
    PerformBulk,
    PerformIn,
    PerformInline,
    Set,
)
from qik_core.errors import DefinitionError, QikError
from qik_core.options import Options
from qik_core.outcomes import Discard, Outcome
from qik_core.payload import Payload
from qik_core.shapes import P

T = TypeVar("T")
R = TypeVar("R")
_OWN = frozenset({"name", "aliases"})  # never inherited: they are one class's


class Running:
    """Stands where a run's context will be, in a job that no worker runs."""

    def __get__(self, job: object, owner: type) -> Context:
        raise AttributeError(
            f"{owner.__qualname__} has its context only while a worker runs it: call {owner.__qualname__}.perform_inline(…)"
        )


class Job:
    """The base of job classes. Options are class keywords (`Options`), inherited by subclasses but for name and aliases.

    A subclass with `perform` is registered under its class name, or `name=`.

    Raises:
        DefinitionError: at definition, when an option, a parameter or an annotation cannot work.
    """

    perform_async = PerformAsync()
    perform_in = PerformIn()
    perform_at = PerformAt()
    perform_bulk = PerformBulk()
    perform_inline = PerformInline()
    set = Set()
    aio = Aio()
    after_commit = AfterCommit()

    @classmethod
    def retry_in(
        cls, count: int, error: BaseException, job: Payload
    ) -> timedelta | float | Outcome | None:
        """Return how long to wait before the next retry, to be overridden.

        `count` failures came before this one. A duration replaces Sidekiq's formula (its jitter is added), None keeps it;
        `RetryIn` is exact; `Discard` and `Terminal` end the job.
        """

    @classmethod
    def retries_exhausted(cls, job: Payload, error: BaseException) -> Discard | None:
        """Be told that a job is at its end, before it is dead; to be overridden. `Discard` keeps it out of the dead set."""

    definition: ClassVar[Definition]
    context = Running()
    """This run; only while the job runs."""
    _options: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **given: Unpack[Options]) -> None:
        super().__init_subclass__()
        options.known(given, options.JOB_OPTIONS, cls.__qualname__)
        cls._options = {
            **{key: value for key, value in cls._options.items() if key not in _OWN},
            **given,
        }
        perform = inspect.getattr_static(cls, "perform", None)
        if perform is None:
            return  # a base that only carries options
        if not inspect.isfunction(perform):
            raise DefinitionError(
                f"{cls.__qualname__}: perform is a {type(perform).__name__}: use a plain method"
            )
        cls.definition = _define(
            perform, {"name": cls.__name__, **cls._options}, cls.__qualname__, cls, vars(cls)
        )
        registry.register(cls.definition)


class FunctionJob(Pusher[P, R], Generic[P, T, R]):
    """A function as a job. Called, it is the function; its other calls push it."""

    __slots__ = ("__wrapped__", "definition")

    __wrapped__: Any
    """The function. Typed as one it would be taken for a method, and pyright could not match it with a protocol."""

    def __init__(self, function: Callable[P, T], given: Mapping[str, Any]) -> None:
        options.known(given, options.JOB_OPTIONS, function.__qualname__)
        self.__wrapped__ = function
        named = {"name": function.__name__, **given}
        self.definition = _define(function, named, function.__qualname__, None, {})
        super().__init__(self.definition)
        registry.register(self.definition)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function here and now."""
        result: T = self.__wrapped__(*args, **kwargs)
        return result

    def __repr__(self) -> str:
        return f"<job {self.definition.name}>"


class _Deco(Protocol):
    """`@job(...)`, before it has its function."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> FunctionJob[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> FunctionJob[P, T, T]: ...


@overload
def job(
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> FunctionJob[P, Coroutine[Any, Any, R], R]: ...
@overload
def job(function: Callable[P, T], /) -> FunctionJob[P, T, T]: ...
@overload
def job(**given: Unpack[Options]) -> _Deco: ...
def job(function: Any = None, /, **given: Any) -> Any:
    """Make a job of a function: `@job` or `@job(queue="mail")`, with the options of a `Job` class.

    Raises:
        DefinitionError: as for a `Job` class.
    """
    if function is None:
        return lambda each: FunctionJob(each, given)
    return FunctionJob(function, given)


_running: ContextVar[Context] = ContextVar("qik_running")


def current_context() -> Context:
    """Return the context of the running function job; a class has `self.context`.

    Raises:
        QikError: called outside of one.
    """
    try:
        return _running.get()
    except LookupError:
        raise QikError(
            "no function job runs here: current_context() is for the inside of a function with @job"
        ) from None


class _Run:
    """One run of a function job: the function, with the context set around it."""

    __slots__ = ("_context", "_function", "perform")

    def __init__(self, function: Callable[..., Any], context: Context, *, is_async: bool) -> None:
        self._function = function
        self._context = context
        self.perform: Callable[..., Any] = self._await if is_async else self._call

    def _call(self, *args: Any) -> Any:
        token = _running.set(self._context)
        try:
            return self._function(*args)
        finally:
            _running.reset(token)

    async def _await(self, *args: Any) -> Any:
        token = _running.set(self._context)
        try:
            return await self._function(*args)
        finally:
            _running.reset(token)


def _define(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    qualname: str,
    owner: type[Job] | None,
    local: Mapping[str, Any],
) -> Definition:
    name = options.job_name(given["name"], qualname)
    unique = given.get("unique_args")
    if unique is not None and given.get("unique_for") is None:
        raise DefinitionError(
            f"{name}: unique_args has no meaning without unique_for: say for how long"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(
            f"{name}: perform is a generator, which would never run: use def or async def"
        )
    is_async = inspect.iscoroutinefunction(function)
    module = function.__module__ if owner is None else owner.__module__
    arguments = Arguments.of(
        function,
        name,
        method=owner is not None,
        local=local,
        unique=None if unique is None else options.names(unique, "unique_args", name),
    )
    return define(
        {**given, "name": name},
        arguments=arguments,
        is_async=is_async,
        rules=_rules(owner),
        make=_maker(owner)
        if owner is not None
        else lambda context: _Run(function, context, is_async=is_async),
        origin=(_file_of(module), qualname),
    )


def _rules(owner: type[Job] | None) -> Rules:
    if owner is None:
        return Rules()
    return Rules(
        retry_in=owner.retry_in if _overrides(owner, "retry_in") else None,
        exhausted=owner.retries_exhausted if _overrides(owner, "retries_exhausted") else None,
    )


def _overrides(owner: type[Job], name: str) -> bool:
    return inspect.getattr_static(owner, name) is not inspect.getattr_static(Job, name)


def _maker(owner: type[Job]) -> Callable[[Context], Job]:
    def make(context: Context) -> Job:
        made = owner()
        vars(made)["context"] = context
        return made

    return make


def _file_of(module: str) -> str:
    """Return the file of a module: one that runs as `__main__` and is imported as itself has one file and two names."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return module if file is None else str(Path(file).resolve())
