"""A port for probes: GET, one answer, and the connection is closed. Standard library only.

`http.server` would bring the mail package and more into a parent that weighs 14 MB. What is asked here fits one line.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

_LARGEST: Final = 8_192
_PATIENCE: Final = (
    1.0  # seconds that a client may take for its request, and as long to read the answer
)
_AT_ONCE: Final = 8
_LONG: Final = (
    6  # of them may wait for SQL or children: whether this process lives is told meanwhile
)
_ALIVE: Final = "/livez"
_AGAIN: Final = 1.0  # seconds until a port that somebody has is tried again
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Answer(NamedTuple):
    """What a path answers."""

    status: int
    body: str
    kind: str = "text/plain; charset=utf-8"


class Listener:
    """Serves one port on threads of its own.

    `answer` is asked for a path, by up to eight threads at once, and for other paths than /livez by up to six. `between` is
    called every `every` seconds, and every second while the port cannot be had.
    A port that cannot be had is tried again and again, and `say` is told once: jobs must run all the same.
    """

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[str], Answer],
        say: Callable[[str, str], None],
        *,
        between: Callable[[], object] = lambda: None,
        every: float = 5.0,
    ) -> None:
        self._address = address
        self._answer = answer
        self._say = say
        self._between = between
        self._every = every
        self._due = time.monotonic() + every
        self._places = threading.Semaphore(_AT_ONCE)
        self._long = threading.Semaphore(_LONG)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing that comes from now on; does not wait."""
        self._stopping.set()

    def _run(self) -> None:
        server = self._listen()
        if server is None:
            return
        with server:
            while not self._stopping.is_set():
                try:
                    self._take(server)
                except Exception as error:  # noqa: BLE001 - told; this thread goes on
                    self._say("WARNING", f"metrics: {type(error).__name__}: {error}")
                    self._stopping.wait(_AGAIN)

    def _take(self, server: socket.socket) -> None:
        now = time.monotonic()
        if now >= self._due:  # also where somebody asks all the time
            self._due = now + self._every
            self._begin(self._between)
        server.settimeout(self._due - now)
        with suppress(TimeoutError):
            connection, _ = server.accept()
            self._begin(partial(self._serve, connection))

    def _begin(self, work: Callable[[], object]) -> None:
        """Have a thread do this: what takes its time must hold up no question whether this process lives."""
        self._places.acquire()
        try:
            threading.Thread(target=self._work, args=(work,), name="probe", daemon=True).start()
        except RuntimeError:  # the system has no thread for it, for now
            self._places.release()
            raise

    def _work(self, work: Callable[[], object]) -> None:
        try:
            self._guarded(work)
        finally:
            self._places.release()

    def _guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - told; the next one comes
            self._say("WARNING", f"metrics: {type(error).__name__}: {error}")

    def _listen(self) -> socket.socket | None:
        said = False
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        while not self._stopping.is_set():
            try:
                server = socket.create_server((host, port), family=family, backlog=16)
            except OSError as error:
                if not said:
                    text = f"metrics_host {host}, metrics_port {port}: {error}. Jobs run on; it is tried again every second"
                    self._say("ERROR", text)
                said = True
                self._guarded(self._between)  # children come and go all the same
                self._stopping.wait(_AGAIN)
            else:
                return server
        return None

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                answer = self._answered(_request(connection))
                connection.settimeout(_PATIENCE)
                connection.sendall(_response(answer))
        except OSError:  # the client has gone, or takes too long
            return

    def _answered(self, request: list[bytes]) -> Answer:
        if len(request) < 2:  # noqa: PLR2004 - a method and a path
            return Answer(400, "this is no request\n")
        method, target = request[0], request[1].decode("latin-1")
        if method != b"GET":
            return Answer(405, "only GET is answered here\n")
        path = target.partition("?")[0]
        if path == _ALIVE:
            return self._said_of(path)
        if not self._long.acquire(blocking=False):
            return Answer(503, f"{_LONG} others wait for an answer: ask again\n")
        try:
            return self._said_of(path)
        finally:
            self._long.release()

    def _said_of(self, path: str) -> Answer:
        try:
            return self._answer(path)
        except Exception as error:  # noqa: BLE001 - told; this thread goes on
            self._say(
                "ERROR", f"{path!r:.80} could not be answered: {type(error).__name__}: {error}"
            )
            return Answer(500, "this could not be answered: the log says why\n")


def _request(connection: socket.socket) -> list[bytes]:
    """Return the words of the request's first line; nothing for what is none. The rest is read, so that no answer is lost."""
    deadline, raw = time.monotonic() + _PATIENCE, b""
    while b"\r\n\r\n" not in raw and len(raw) < _LARGEST:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(4096)
        if not part:
            return []
        raw += part
    return raw.partition(b"\r\n")[0].split(b" ") if b"\r\n\r\n" in raw else []


def _response(answer: Answer) -> bytes:
    body = answer.body.encode()
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
        f"Content-Type: {answer.kind}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
