"""`derive()`: which rows want a job, as one `select()`, typed against the job's `perform`.

The job is the first argument because a class keyword cannot be tied to an attribute by a type checker. One overload per
number of parameters, 1 to 6: once with the columns as they are, once with `args=` between them and `perform`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import (
    Any,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from sqlalchemy import Row, Select
from sqlalchemy.sql.elements import SQLColumnExpression

from qik_core.shapes import Takes1, Takes2, Takes3, Takes4, Takes5, Takes6
from reconciler.options import Duration

Column: TypeAlias = SQLColumnExpression[Any]
"""A mapped attribute, a column of a table, or an expression of columns."""

Ts = TypeVarTuple("Ts")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
D_contra = TypeVar("D_contra", contravariant=True)
E_contra = TypeVar("E_contra", contravariant=True)
F_contra = TypeVar("F_contra", contravariant=True)


class Columns(TypedDict, total=False):
    """What `derive()` takes by keyword: columns, and what is to be made of them."""

    key: Column | tuple[Column, ...]
    """What names a row; inferred from the primary key. Must map one to one onto the job's unique arguments."""
    order_by: Column | tuple[Column, ...]
    """The order of telling, most urgent first, before the key; never null. `.desc()` is understood."""
    version: Column
    """Changes with the row: a pass that meets a running job of an older version has it run once more."""
    age: Column
    """When the row became pending: a pass leaves rows younger than `min_age` to their own push."""
    run_at: Column
    """When the row's job is due: a moment; NULL is at once. Rows due later than within `horizon` stay in SQL."""
    horizon: Duration
    """How long before it is due a row is told. Twice `every` by default, and a minute at least; 0: only when it is due."""
    late: Literal["run", "skip"]
    """What becomes of rows that were due longer than `grace` ago: told all the same (by default), or counted `late`."""
    grace: Duration
    """How late a row may be told. As long as the default of `horizon`, unless it is given."""
    tenant: Column
    """Whose row it is, for `fair=`; NULL is a tenant as well."""


@dataclass(frozen=True, slots=True)
class Pending(Generic[*Ts]):
    """A job and the rows that want it. Made by `derive()`, checked when its reconciler is defined."""

    job: type[Any]
    query: Select[*Ts]
    args: Callable[[Row[*Ts]], tuple[Any, ...]] | None
    columns: Columns


class Function1(Protocol[A_contra]):
    """A function with `@job` that takes one. What it wraps tells it from a class."""

    __wrapped__: Any

    def __call__(self, a: A_contra, /) -> object:
        """Do the job."""


class Function2(Protocol[A_contra, B_contra]):
    """A function with `@job` that takes two."""

    __wrapped__: Any

    def __call__(self, a: A_contra, b: B_contra, /) -> object:
        """Do the job."""


class Function3(Protocol[A_contra, B_contra, C_contra]):
    """A function with `@job` that takes three."""

    __wrapped__: Any

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, /) -> object:
        """Do the job."""


class Function4(Protocol[A_contra, B_contra, C_contra, D_contra]):
    """A function with `@job` that takes four."""

    __wrapped__: Any

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, d: D_contra, /) -> object:
        """Do the job."""


class Function5(Protocol[A_contra, B_contra, C_contra, D_contra, E_contra]):
    """A function with `@job` that takes five."""

    __wrapped__: Any

    def __call__(
        self, a: A_contra, b: B_contra, c: C_contra, d: D_contra, e: E_contra, /
    ) -> object:
        """Do the job."""


class Function6(Protocol[A_contra, B_contra, C_contra, D_contra, E_contra, F_contra]):
    """A function with `@job` that takes six."""

    __wrapped__: Any

    def __call__(
        self, a: A_contra, b: B_contra, c: C_contra, d: D_contra, e: E_contra, f: F_contra, /
    ) -> object:
        """Do the job."""


@overload
def derive(
    job: type[Takes1[A]] | Function1[A],
    query: Select[A],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A]: ...
@overload
def derive(
    job: type[Takes2[A, B]] | Function2[A, B],
    query: Select[A, B],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A, B]: ...
@overload
def derive(
    job: type[Takes3[A, B, C]] | Function3[A, B, C],
    query: Select[A, B, C],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A, B, C]: ...
@overload
def derive(
    job: type[Takes4[A, B, C, D]] | Function4[A, B, C, D],
    query: Select[A, B, C, D],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A, B, C, D]: ...
@overload
def derive(
    job: type[Takes5[A, B, C, D, E]] | Function5[A, B, C, D, E],
    query: Select[A, B, C, D, E],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A, B, C, D, E]: ...
@overload
def derive(
    job: type[Takes6[A, B, C, D, E, F]] | Function6[A, B, C, D, E, F],
    query: Select[A, B, C, D, E, F],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A, B, C, D, E, F]: ...
@overload
def derive(
    job: type[Takes1[A]] | Function1[A],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
@overload
def derive(
    job: type[Takes2[A, B]] | Function2[A, B],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A, B]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
@overload
def derive(
    job: type[Takes3[A, B, C]] | Function3[A, B, C],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A, B, C]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
@overload
def derive(
    job: type[Takes4[A, B, C, D]] | Function4[A, B, C, D],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A, B, C, D]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
@overload
def derive(
    job: type[Takes5[A, B, C, D, E]] | Function5[A, B, C, D, E],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A, B, C, D, E]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
@overload
def derive(
    job: type[Takes6[A, B, C, D, E, F]] | Function6[A, B, C, D, E, F],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A, B, C, D, E, F]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
def derive(job: Any, query: Any, *, args: Any = None, **columns: Unpack[Columns]) -> Any:
    """Return the declaration that the rows of `query` want `job`.

    The columns of the query are `perform`'s arguments, in order, unless `args` makes them from a row. Key and order are
    inferred from the primary key. It is checked when the class that holds it is defined, where its name is known.
    """
    return Pending(job, query, args, columns)
