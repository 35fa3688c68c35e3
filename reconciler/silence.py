"""Ends connections whose server has fallen silent: a network that swallows packets, a host that is frozen.

The server itself ends a statement that takes too long, but only a server that still hears us. libpq waits for an answer
for ever, and so would the thread of a pass. So one thread looks after all connections in use, and shuts the socket of one
that is over its time: the driver, wherever it waits, finds its connection closed, and only that pass fails.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Condition, Thread
from time import monotonic
from typing import Any, Final

from sqlalchemy import Connection, event, exc

from reconciler.errors import SqlUnavailable

GRACE: Final = 5.0
"""Seconds that a server has more than its statement may take, to say that it took too long."""


_KNOWN: Final = "reconciler"


class Waiting:
    """One connection in use, and when its answer should have come."""

    __slots__ = ("over", "raw", "seconds", "until")

    def __init__(self, raw: Any, seconds: float) -> None:
        self.raw = raw
        self.seconds = seconds
        self.until = monotonic() + seconds
        self.over = False
        """Its time was over: the socket was shut."""

    def again(self) -> None:
        """Count from now on: another question is sent."""
        self.until = monotonic() + self.seconds


class Watchman:
    """The thread that looks after connections; it begins with the first of them."""

    def __init__(self) -> None:
        self._waiting: set[Waiting] = set()
        self._changed = Condition()
        self._next = float("inf")
        self._thread: Thread | None = None

    @contextmanager
    def over(self, raw: Any, seconds: float) -> Iterator[Waiting]:
        """Shut the socket of this driver's connection when an answer takes longer."""
        waiting = Waiting(raw, seconds)
        with self._changed:
            self._waiting.add(waiting)
            self._start()
            if waiting.until < self._next:
                self._changed.notify()
        try:
            yield waiting
        finally:
            with (
                self._changed
            ):  # never while its socket is being shut: the number may be somebody else's by then
                self._waiting.discard(waiting)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():  # it does not outlive a fork
            self._thread = Thread(target=self._run, name="reconciler-silence", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        with self._changed:
            while True:
                now = monotonic()
                for each in [one for one in self._waiting if one.until <= now]:
                    each.over = True
                    self._waiting.discard(each)
                    _hang_up(each.raw)
                self._next = min((one.until for one in self._waiting), default=float("inf"))
                pause = None if self._next == float("inf") else max(0.0, self._next - monotonic())
                self._changed.wait(pause)


_watchman: Final = Watchman()


@contextmanager
def answering(connection: Connection, seconds: float, where: str) -> Iterator[None]:
    """Give up on a connection when an answer takes `seconds` and a grace; SQLite needs no such thing.

    Raises:
        SqlUnavailable: the server did not answer.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    with _watchman.over(connection.connection.driver_connection, seconds + GRACE) as waiting:
        event.listen(connection, "before_cursor_execute", lambda *_: waiting.again())
        try:
            yield
        except exc.DBAPIError as error:
            if waiting.over:
                raise SqlUnavailable(_said(where, waiting)) from error
            raise


def checked(ping: Callable[[Any], object], seconds: float) -> Callable[..., None]:
    """Return what a pool calls before it hands a connection out: a dead one is replaced, and a silent one soon."""

    def check(raw: Any, record: Any, _: object) -> None:
        if not record.info.setdefault(_KNOWN, False):
            record.info[_KNOWN] = True  # it was made just now
            return
        try:
            with _watchman.over(raw, seconds):
                ping(raw)
        except Exception as error:  # whatever the driver says of a connection that is gone
            raise exc.InvalidatePoolError from error

    return check


def _said(where: str, waiting: Waiting) -> str:
    return f"{where}: no answer within {waiting.seconds:g} s: the connection was given up"


def _hang_up(raw: Any) -> None:
    with suppress(Exception):  # it may be closed, or of a driver without a socket to shut
        number = raw.fileno() if hasattr(raw, "fileno") else raw._sock.fileno()  # noqa: SLF001 - PyMySQL
        with socket.socket(fileno=os.dup(number)) as door:
            door.shutdown(socket.SHUT_RDWR)
