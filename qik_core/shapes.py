"""What a job class and its pushers look like to a type checker.

A descriptor's `__get__` takes `type[HasPerform[P]]`: that is how mypy and pyright tie `X.perform_async` to `X.perform`.
Rows of a bulk are typed by arity, 1 to 6, the longest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
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
Moments: TypeAlias = Moment | Sequence[Moment]
BATCH: Final = 1_000
"""Rows that are checked and written together."""


class HasPerform(Protocol[P]):
    """A class with `perform`."""

    def perform(self, *args: P.args, **kwargs: P.kwargs) -> object: ...


class Returns(Protocol[P, T_co]):
    """A class with `perform`, and what that returns."""

    def perform(self, *args: P.args, **kwargs: P.kwargs) -> T_co: ...


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


class Pushes1(Protocol[A_]):
    """`perform_async` can be called with one argument."""

    def perform_async(self, a: A_, /) -> object: ...


class Pushes2(Protocol[A_, B_]):
    """`perform_async` can be called with two arguments."""

    def perform_async(self, a: A_, b: B_, /) -> object: ...


class Pushes3(Protocol[A_, B_, C_]):
    """`perform_async` can be called with three arguments."""

    def perform_async(self, a: A_, b: B_, c: C_, /) -> object: ...


class Pushes4(Protocol[A_, B_, C_, D_]):
    """`perform_async` can be called with four arguments."""

    def perform_async(self, a: A_, b: B_, c: C_, d: D_, /) -> object: ...


class Pushes5(Protocol[A_, B_, C_, D_, E_]):
    """`perform_async` can be called with five arguments."""

    def perform_async(self, a: A_, b: B_, c: C_, d: D_, e: E_, /) -> object: ...


class Pushes6(Protocol[A_, B_, C_, D_, E_, F_]):
    """`perform_async` can be called with six arguments."""

    def perform_async(self, a: A_, b: B_, c: C_, d: D_, e: E_, f: F_, /) -> object: ...


class Bulk(Protocol[Row, T_co]):
    """`perform_bulk` of a job whose rows are typed."""

    def __call__(
        self,
        rows: Iterable[Row],
        *,
        batch_size: int = BATCH,
        jitter: Delay | None = None,
        at: Moments | None = None,
    ) -> T_co: ...


class BulkOf(Generic[T]):
    """`perform_bulk` of a pusher. With no parameters, or more than six, rows are checked at run time only."""

    @overload
    def __get__(
        self, obj: Pushes6[A, B, C, D, E, F], owner: object
    ) -> Bulk[tuple[A, B, C, D, E, F], T]: ...
    @overload
    def __get__(
        self, obj: Pushes5[A, B, C, D, E], owner: object
    ) -> Bulk[tuple[A, B, C, D, E], T]: ...
    @overload
    def __get__(self, obj: Pushes4[A, B, C, D], owner: object) -> Bulk[tuple[A, B, C, D], T]: ...
    @overload
    def __get__(self, obj: Pushes3[A, B, C], owner: object) -> Bulk[tuple[A, B, C], T]: ...
    @overload
    def __get__(self, obj: Pushes2[A, B], owner: object) -> Bulk[tuple[A, B], T]: ...
    @overload
    def __get__(self, obj: Pushes1[A], owner: object) -> Bulk[tuple[A], T]: ...
    @overload
    def __get__(self, obj: object, owner: object) -> Bulk[tuple[Any, ...], T]: ...
    def __get__(self, obj: Any, owner: object) -> Any:
        return obj._bulk  # noqa: SLF001 - what a pusher gives its bulk under
