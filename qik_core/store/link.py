"""One connection to Redis, with a deadline for every call and no retry of its own.

redis-py's client sends every command again, up to ten times: that doubles pushes and loses pops. Here a call is sent
once; whoever calls says what a lost answer means. redis-py's `Connection` does what is tedious (URL, TLS, auth,
handshake); one script call costs a third of the CPU that its client needs.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from qik_core.errors import SettingsError, StoreError, StoreFull, StoreUnavailable
from qik_core.store.scripts import Script, script
from qik_core.urls import mask

CONNECT: Final = 1.0
"""Seconds within which a connection must stand."""
ANSWER: Final = 2.0
"""Seconds within which an answer must come."""

# What Redis says while it cannot work for now. First words; behind a script's own error they stand further on.
_FOR_NOW = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "MISCONF",
    "BUSY",
    "UNBLOCKED",
)
_NOT_LET_IN = ("NOAUTH", "WRONGPASS", "NOPERM")
_FULL_HOUSE = "max number of clients reached"
Arg = bytes | str | int | float


class Link:
    """A connection that is made when it is first needed. Not for two threads at once."""

    def __init__(self, url: str, *, timeout: float = ANSWER) -> None:
        self._url = url
        self._timeout = timeout
        self._connection: Any = None
        self._readable = select.poll()
        self._started: tuple[Script, tuple[Arg, ...]] | None = None

    def call(self, *args: Arg, timeout: float | None = None) -> Any:
        """Send one command and return its reply.

        Raises:
            StoreUnavailable: no answer in time, no connection, or Redis cannot work for now.
            StoreError: Redis refused the command itself.
        """
        self.send(*args)
        return self.receive(timeout)

    def run(
        self,
        name: str,
        names: Sequence[bytes] = (),
        args: Sequence[Arg] = (),
        timeout: float | None = None,
    ) -> Any:
        """Run a script of ours by its name; raises as `call`."""
        self.start(name, names, args)
        return self.finish(timeout)

    def start(self, name: str, names: Sequence[bytes] = (), args: Sequence[Arg] = ()) -> None:
        """Send a script of ours, whose reply `finish` will read; raises as `call`."""
        lua, rest = script(name), (len(names), *names, *args)
        self._started = lua, rest
        self.send(b"EVALSHA", lua.sha, *rest)

    def finish(self, timeout: float | None = None) -> Any:
        """Read the reply of the script that was sent last; raises as `call`."""
        assert self._started is not None  # noqa: S101 - `start` has set it
        (lua, rest), self._started = self._started, None
        try:
            return self.receive(timeout)
        except _UnknownScript:
            return self.call(b"EVAL", lua.text, *rest, timeout=timeout)

    def send(self, *args: Arg) -> None:
        """Send one command whose reply `receive` will read."""
        connection = self._open()
        try:
            connection.send_packed_command([hiredis.pack_command(args)], check_health=False)  # type: ignore[arg-type]
        except (redis.RedisError, OSError) as error:
            raise self._broken(error, sent=True) from None

    def receive(self, timeout: float | None = None) -> Any:
        """Read the reply of the command that was sent last; raises as `call`."""
        try:
            if timeout is None:  # the connection's own, which costs no system call
                return self._connection.read_response()
            return self._connection.read_response(timeout=timeout)
        except (redis.RedisError, OSError) as error:
            raise self._failed(error, sent=True) from None

    def fileno(self) -> int:
        """Return the socket, for `select`."""
        descriptor: int = _socket(self._open()).fileno()
        return descriptor

    def renew(self) -> None:
        """Drop a connection that the server has closed while nobody used it; the next call makes a new one.

        Nobody waits for an answer on it, so whatever can be read there is its end, or what somebody left unread.
        """
        if self._connection is not None and self._readable.poll(0):
            self.close()

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _open(self) -> Any:
        if self._connection is None:
            connection = _connection(self._url, self._timeout)
            try:
                connection.connect()
            except (redis.RedisError, OSError) as error:
                raise self._failed(error, sent=False) from None
            self._connection = connection
            self._readable = select.poll()
            self._readable.register(_socket(connection), select.POLLIN)
        return self._connection

    def _failed(self, error: Exception, *, sent: bool) -> StoreError:
        """Tell what the server refused from what it never answered: redis-py calls LOADING and NOAUTH broken connections."""
        if isinstance(error, redis.ResponseError) or getattr(error, "status_code", None):
            return self._refused(_text(error))
        return self._broken(error, sent=sent)

    def _broken(self, error: Exception, *, sent: bool) -> StoreUnavailable:
        self.close()
        return StoreUnavailable(f"Redis at {mask(self._url)} did not answer: {error}", sent=sent)

    def _refused(self, text: str) -> StoreError:
        word = text.split(" ", 1)[0]
        if word == "NOSCRIPT":
            return _UnknownScript(text)
        if word == "OOM" or "OOM command not allowed" in text:
            return StoreFull(f"Redis at {mask(self._url)} is full: {text}")
        if (
            word in _NOT_LET_IN
            or word in _FOR_NOW
            or _FULL_HOUSE in text
            or any(f"-{known}" in text for known in _FOR_NOW)
        ):
            self.close()
            return StoreUnavailable(f"Redis at {mask(self._url)} refuses for now: {text}")
        return StoreError(f"Redis at {mask(self._url)} refused: {text}")


class _UnknownScript(StoreError):
    """The server has not seen this script since it started."""


class Hurried(Link):
    """A link for one examination: so many seconds for all of its calls together."""

    def __init__(self, url: str, *, seconds: float) -> None:
        super().__init__(url)
        self._seconds = seconds
        self._until = time.monotonic() + seconds

    def receive(self, timeout: float | None = None) -> Any:
        """Read as any link, but no later than all is to be done by."""
        left = self._until - time.monotonic()
        if left <= 0:
            self.close()
            said = (
                f"Redis at {mask(self._url)} did not answer everything within {self._seconds:g} s"
            )
            raise StoreUnavailable(said, sent=True)
        return super().receive(left if timeout is None else min(left, timeout))


class Links:
    """Links for many threads: each call borrows one. Drops what it inherits through a fork.

    A call is sent once. What was never sent may be sent elsewhere: a connection that has ended while it was free, as all
    do when Redis starts again, is replaced before it is lent out, so that no call fails of it.
    """

    def __init__(self, url: str, *, timeout: float = ANSWER) -> None:
        self._url = url
        self._timeout = timeout
        self._pid = os.getpid()
        self._free: deque[Link] = deque()

    def borrow(self) -> Link:
        """Return a link that nobody else uses; give it back with `give`."""
        if self._pid != os.getpid():
            self._pid, self._free = os.getpid(), deque()
        try:
            link = self._free.pop()
        except IndexError:
            return Link(self._url, timeout=self._timeout)
        link.renew()
        return link

    def give(self, link: Link) -> None:
        """Take a link back."""
        self._free.append(link)

    def run(self, name: str, names: Sequence[bytes] = (), args: Sequence[Arg] = ()) -> Any:
        """Run a script on a borrowed link; raises as `Link.call`."""
        link = self.borrow()
        try:
            return link.run(name, names, args)
        finally:
            self.give(link)

    def call(self, *args: Arg) -> Any:
        """Send one command on a borrowed link; raises as `Link.call`."""
        link = self.borrow()
        try:
            return link.call(*args)
        finally:
            self.give(link)

    def close(self) -> None:
        """Drop all connections that are not borrowed."""
        while self._free:
            self._free.pop().close()


def _text(error: Exception) -> str:
    """Return an error as the server wrote it: redis-py takes the first word off and keeps it apart."""
    word = getattr(error, "status_code", None)
    return f"{word} {error}" if word else str(error)


def _socket(connection: Any) -> Any:
    return connection._get_socket()  # noqa: SLF001 - redis-py has no public name for it


def _connection(url: str, timeout: float) -> Any:
    try:
        pool = redis.ConnectionPool.from_url(url)
    except ValueError as error:
        raise SettingsError(
            f"redis={mask(url)!r} is no Redis URL ({error}): use redis://host:6379/0"
        ) from None
    # Behind the URL, whose parameters would else go before ours.
    pool.connection_kwargs.update(
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=CONNECT,
        health_check_interval=0,
    )
    return pool.make_connection()
