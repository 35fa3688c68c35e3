"""The descriptors by which a job class has its calls, each typed from the class's own `perform`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Protocol, Unpack, overload

from qik_core.calls import AsyncPusher, CommitPusher, Pusher
from qik_core.errors import DefinitionError
from qik_core.options import SetOptions
from qik_core.results import BulkResult, Push
from qik_core.shapes import (
    A,
    B,
    Bulk,
    C,
    D,
    Delay,
    E,
    F,
    HasPerform,
    Moment,
    P,
    Returns,
    T,
    Takes1,
    Takes2,
    Takes3,
    Takes4,
    Takes5,
    Takes6,
)


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


class PerformInline:
    """`X.perform_inline(…)`: what `perform` returns, also where it is async."""

    @overload
    def __get__(
        self, obj: object, owner: type[Returns[P, Coroutine[Any, Any, T]]]
    ) -> Callable[P, T]: ...
    @overload
    def __get__(self, obj: object, owner: type[Returns[P, T]]) -> Callable[P, T]: ...
    def __get__(self, obj: object, owner: Any) -> Any:
        return _pusher(owner).perform_inline


class SetCall(Protocol[P, T]):
    """`set` of a job whose arguments are typed."""

    def __call__(self, **changes: Unpack[SetOptions]) -> Pusher[P, T]: ...


class Set:
    """`X.set(queue=…).perform_async(…)`."""

    @overload
    def __get__(
        self, obj: object, owner: type[Returns[P, Coroutine[Any, Any, T]]]
    ) -> SetCall[P, T]: ...
    @overload
    def __get__(self, obj: object, owner: type[Returns[P, T]]) -> SetCall[P, T]: ...
    def __get__(self, obj: object, owner: Any) -> Any:
        return _pusher(owner).set


class Aio:
    """`await X.aio.perform_async(…)`."""

    @overload
    def __get__(
        self, obj: object, owner: type[Returns[P, Coroutine[Any, Any, T]]]
    ) -> AsyncPusher[P, T]: ...
    @overload
    def __get__(self, obj: object, owner: type[Returns[P, T]]) -> AsyncPusher[P, T]: ...
    def __get__(self, obj: object, owner: Any) -> Any:
        return _pusher(owner).aio


class AfterCommit:
    """`X.after_commit(session).perform_async(…)`."""

    def __get__(
        self, obj: object, owner: type[HasPerform[P]]
    ) -> Callable[[object], CommitPusher[P]]:
        return _pusher(owner).after_commit


class PerformBulk:
    """`X.perform_bulk(rows, …)`. With no parameters, or more than six, rows are checked at run time only."""

    @overload
    def __get__(
        self, obj: object, owner: type[Takes6[A, B, C, D, E, F]]
    ) -> Bulk[tuple[A, B, C, D, E, F], BulkResult]: ...
    @overload
    def __get__(
        self, obj: object, owner: type[Takes5[A, B, C, D, E]]
    ) -> Bulk[tuple[A, B, C, D, E], BulkResult]: ...
    @overload
    def __get__(
        self, obj: object, owner: type[Takes4[A, B, C, D]]
    ) -> Bulk[tuple[A, B, C, D], BulkResult]: ...
    @overload
    def __get__(
        self, obj: object, owner: type[Takes3[A, B, C]]
    ) -> Bulk[tuple[A, B, C], BulkResult]: ...
    @overload
    def __get__(self, obj: object, owner: type[Takes2[A, B]]) -> Bulk[tuple[A, B], BulkResult]: ...
    @overload
    def __get__(self, obj: object, owner: type[Takes1[A]]) -> Bulk[tuple[A], BulkResult]: ...
    @overload
    def __get__(
        self, obj: object, owner: type[HasPerform[P]]
    ) -> Bulk[tuple[Any, ...], BulkResult]: ...
    def __get__(self, obj: object, owner: Any) -> Any:
        return _pusher(owner).perform_bulk


class NoPerform(DefinitionError, AttributeError):
    """A class without `perform` cannot be pushed; an AttributeError too, so that tools may look at such a class."""


def _pusher(owner: Any) -> Pusher[Any, Any]:
    definition = getattr(owner, "definition", None)
    if definition is None:
        raise NoPerform(f"{owner.__qualname__} has no perform, so it cannot be pushed: define it")
    return Pusher(definition)
