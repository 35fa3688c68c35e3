"""The seam by which `reconciler`, which knows SQL, tells the engine of the row behind a job.

Just before a job of a reconciled class runs, its row is asked for: a job whose row does not match any more is skipped, whoever
pushed it. After it has run, a row that still matches says that the job has made no progress. Without anybody to fill this
seam nothing is asked, at no cost. Imports nothing, since `import reconciler` imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from typing import Any, NamedTuple, Protocol


class Asked(NamedTuple):
    """One job whose row is asked for."""

    name: str
    """The job class, as on the wire."""
    args: tuple[Any, ...]
    """Converted, as `perform` takes them."""
    digest: str
    """The key of its lock, 22 characters; empty if it has none."""


class Standing(StrEnum):
    """How the row of a job stands."""

    PENDING = "pending"  # it matches
    GONE = "gone"  # it matches no more, in no reconciler of the class
    UNKNOWN = "unknown"  # it could not be asked for: the job runs, counted `unchecked`


class JobSession(Protocol):
    """A session for one block of a job: `with` in a job on a thread, `async with` in an `async def` job."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *error: object) -> None: ...

    async def __aenter__(self) -> Any: ...

    async def __aexit__(self, *error: object) -> None: ...


class Rows(Protocol):
    """What knows the rows: `reconciler.recheck`. Its methods are called from many job threads at once.

    The first three are called for every job: they answer from memory.
    """

    def reconciled(self, name: str, /) -> bool:
        """Whether a reconciler tells rows of this job class."""

    def checked(self, name: str, /) -> bool:
        """Whether jobs of this class are asked for just before they run."""

    def progress(self, name: str, /) -> bool:
        """Whether a job of this class that ended well is expected to leave its row pending no more."""

    def look(self, asked: Sequence[Asked], /) -> Sequence[Standing]:
        """Say how the rows of these jobs stand, one answer each, in order: jobs of one class, at most 250.

        One query for each reconciler of the class, on the primary. Blocks, with a deadline of its own; never raises a
        QikError, but answers UNKNOWN.
        """

    def row(self, name: str, args: tuple[Any, ...], /) -> Any:
        """Return the row behind a job as the reconciler's own select reads it now; None when it matches no more.

        Raises:
            QikError: it could not be read, or no reconciler tells this class.
        """

    def session(self, name: str, args: tuple[Any, ...], /) -> Any:
        """Return a `JobSession` on the database of a job's row: committed at the end of its block, rolled back if that raises.

        Raises:
            QikError: no reconciler tells this class, or none knows the database.
        """

    def guarded(self, name: str, args: tuple[Any, ...], /) -> AbstractContextManager[bool]:
        """Hold what keeps a second run out while this one lasts; False: somebody else has it, so do not run now.

        Without a `guard=` on the class it holds nothing, and says True. Entering it may raise: the job has failed then.
        """


_load: Callable[[], Rows] | None = None
_rows: Rows | None = None
_queues: Callable[[], Mapping[str, str]] | None = None


def fill(load: Callable[[], Rows], queues: Callable[[], Mapping[str, str]] | None = None) -> None:
    """Fill the seam; `load` is called at the first use. `queues` returns what `queues_told` does."""
    global _load, _rows, _queues
    _load, _rows, _queues = load, None, queues


def queues_told() -> Mapping[str, str]:
    """Return reconciler → queue, for reconcilers that tell their rows on a queue of their own."""
    return {} if _queues is None else _queues()


@contextmanager
def filled(load: Callable[[], Rows] | None) -> Iterator[None]:
    """Fill the seam, or empty it, for the length of a block: for tests."""
    global _load, _rows, _queues
    before, (_load, _rows, _queues) = (_load, _rows, _queues), (load, None, None)
    try:
        yield
    finally:
        _load, _rows, _queues = before


def known() -> Rows | None:
    """Return what knows the rows; None when nobody does."""
    global _rows  # noqa: PLW0603 - the seam
    if _rows is None and _load is not None:
        _rows = _load()
    return _rows
