"""What a bulk is made of, checked: its rows, how many at a time, and how large each job may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import Any, Final

from qik_core import strict
from qik_core.arguments import RowError
from qik_core.errors import ArgumentError
from qik_core.plan import Plan

_LARGEST_BATCH: Final = 100_000


def batches(rows: Iterable[Sequence[Any]], size: int, name: str) -> Iterator[list[Sequence[Any]]]:
    """Yield the rows of a bulk, `size` at a time.

    Raises:
        ArgumentError: a size that cannot be.
    """
    if type(size) is not int or not 1 <= size <= _LARGEST_BATCH:
        raise ArgumentError(f"{name}: batch_size is {size!r:.40}: use 1 to {_LARGEST_BATCH:,}")
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch


def checked(rows: Iterable[Sequence[Any]], plan: Plan, name: str) -> Iterable[Sequence[Any]]:
    """Return the rows of a bulk.

    Raises:
        ArgumentError: they are none, or the plan cannot be that of many jobs.
    """
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise ArgumentError(
            f"{name}: perform_bulk was given a {strict.named(type(rows))}: use an iterable of tuples, as in [(1,), (2,)]"
        )
    if plan.jid is not None:
        raise ArgumentError(f"{name}: one jid cannot be that of many jobs: leave it out")
    if plan.dues is not None and isinstance(rows, Sized) and len(rows) != len(plan.dues):
        raise ArgumentError(
            f"{name}: at has {len(plan.dues):,} times for {len(rows):,} rows: give one for each, or one for all"
        )
    return rows


def check_sizes(name: str, payloads: Sequence[bytes]) -> None:
    """Refuse payloads that are larger than jobs may be.

    Raises:
        RowError: one is.
    """
    limit = strict.limit()
    if not payloads or max(map(len, payloads)) <= limit:
        return
    index = next(index for index, raw in enumerate(payloads) if len(raw) > limit)
    raise RowError(index, too_large(name, payloads[index], limit))


def too_large(name: str, payload: bytes, limit: int) -> str:
    """Return what is wrong with a payload of more than `limit` bytes."""
    return (
        f"{name}: args make a job of {len(payload):,} bytes as JSON, larger than {limit:,} bytes (max_payload): "
        "store it, and pass its id"
    )
