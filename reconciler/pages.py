"""The pages of one pass: the next one is read, and made into jobs, while the last one is told; halved when it was slow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from reconciler.errors import StatementTimeout

SMALLEST: Final = 50
"""A page is not halved below this."""

Position = tuple[Any, ...]
T = TypeVar("T")


class Source(Protocol):
    """What has pages."""

    def read(self, after: Position | None, limit: int, /) -> Sequence[Any]:
        """Return up to `limit` rows behind a position; fewer mean that there are no more."""
        ...

    def position(self, row: Any, /) -> Position:
        """Return the position of a row."""
        ...


class Page(NamedTuple, Generic[T]):
    """The rows of one page, and what they were made into."""

    rows: Sequence[Any]
    made: T


class Pages(Generic[T]):
    """Reads pages from a position on, and has `make` make something of each. Not safe to use from many threads; `close` it.

    Only a full page has one read behind it meanwhile, on a thread of its own: most passes have one short page.
    """

    def __init__(
        self,
        source: Source,
        make: Callable[[Sequence[Any]], T],
        size: int,
        after: Position | None,
    ) -> None:
        self.size = size
        """Rows asked for by the next page."""
        self.ended = False
        """The last page was short: there are no more rows."""
        self._source = source
        self._make = make
        self._smallest = min(SMALLEST, size)
        self._after = after
        self._slow = 0
        self._ahead: Future[Page[T]] | None = None

    def read(self) -> Page[T] | None:
        """Return the next page; None when it was too slow and is to be tried again at half the size.

        Raises:
            StatementTimeout: twice in a row at the smallest size.
            SqlUnavailable: the database cannot be reached.
        """
        size, ahead, self._ahead = self.size, self._ahead, None
        try:
            page = ahead.result() if ahead else self._page(self._after, size)
        except StatementTimeout:
            self._slow += size <= self._smallest
            if self._slow > 1:
                raise
            self.size = max(self._smallest, size // 2)
            return None
        self._slow = 0
        self.ended = len(page.rows) < size
        if not self.ended:
            self._read_ahead(self._source.position(page.rows[-1]))
        return page

    def close(self, seconds: float) -> None:
        """Read no further; wait so long for a page that nobody wants any more, so that the next pass reads alone."""
        if self._ahead is not None:
            wait([self._ahead], seconds)

    def _page(self, after: Position | None, size: int) -> Page[T]:
        rows = self._source.read(after, size)
        return Page(rows, self._make(rows))

    def _read_ahead(self, after: Position) -> None:
        self._after = after
        future = self._ahead = Future[Page[T]]()
        Thread(
            target=self._run, args=(future, after, self.size), name="reconciler-page", daemon=True
        ).start()

    def _run(self, future: Future[Page[T]], after: Position, size: int) -> None:
        try:
            future.set_result(self._page(after, size))
        except BaseException as error:  # noqa: BLE001 - raised again where the page is asked for
            future.set_exception(error)
