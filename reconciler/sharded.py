"""`derive_sharded()`: `derive()` for rows that are in shards, typed for a job that takes its shard first.

The columns of the query are the other parameters of `perform`; a pass fills in the shard. So one overload per number of
those, 1 to 5: once with the columns as they are, once with `args=` between them and `perform`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple, Unpack, overload

from sqlalchemy import Row, Select

from qik_core.shapes import Takes2, Takes3, Takes4, Takes5, Takes6
from reconciler.pending import (
    Columns,
    Function2,
    Function3,
    Function4,
    Function5,
    Function6,
    Pending,
)

Ts = TypeVarTuple("Ts")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")


@overload
def derive_sharded(
    job: type[Takes2[str, A]] | Function2[str, A],
    query: Select[A],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A]: ...
@overload
def derive_sharded(
    job: type[Takes3[str, A, B]] | Function3[str, A, B],
    query: Select[A, B],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A, B]: ...
@overload
def derive_sharded(
    job: type[Takes4[str, A, B, C]] | Function4[str, A, B, C],
    query: Select[A, B, C],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A, B, C]: ...
@overload
def derive_sharded(
    job: type[Takes5[str, A, B, C, D]] | Function5[str, A, B, C, D],
    query: Select[A, B, C, D],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A, B, C, D]: ...
@overload
def derive_sharded(
    job: type[Takes6[str, A, B, C, D, E]] | Function6[str, A, B, C, D, E],
    query: Select[A, B, C, D, E],
    *,
    args: None = None,
    **columns: Unpack[Columns],
) -> Pending[A, B, C, D, E]: ...
@overload
def derive_sharded(
    job: type[Takes2[str, A]] | Function2[str, A],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
@overload
def derive_sharded(
    job: type[Takes3[str, A, B]] | Function3[str, A, B],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A, B]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
@overload
def derive_sharded(
    job: type[Takes4[str, A, B, C]] | Function4[str, A, B, C],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A, B, C]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
@overload
def derive_sharded(
    job: type[Takes5[str, A, B, C, D]] | Function5[str, A, B, C, D],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A, B, C, D]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
@overload
def derive_sharded(
    job: type[Takes6[str, A, B, C, D, E]] | Function6[str, A, B, C, D, E],
    query: Select[*Ts],
    *,
    args: Callable[[Row[*Ts]], tuple[A, B, C, D, E]],
    **columns: Unpack[Columns],
) -> Pending[*Ts]: ...
def derive_sharded(job: Any, query: Any, *, args: Any = None, **columns: Unpack[Columns]) -> Any:
    """Return the declaration that the rows of `query`, in each shard, want `job`; the class says `shards=`.

    The columns of the query are `perform`'s arguments behind the shard, in order, unless `args` makes them from a row.
    """
    return Pending(job, query, args, columns)
