"""A small HTTP server that has bad days: what a flag service, or whatever stands before it, may answer."""

from __future__ import annotations

import json
import socket
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

from tests.servers import free_port

FEATURES: Final = "/api/client/features"
TOKEN: Final = "default:development.secret"

Way = Callable[["Visit"], None]


def feature(
    name: str, *strategies: dict[str, Any], enabled: bool = True, **more: Any
) -> dict[str, Any]:
    """A flag as an Unleash server sends it; without strategies it is on for all."""
    return {"name": name, "type": "kill-switch", "enabled": enabled, "project": "default", "stale": False,
            "strategies": list(strategies), "variants": [], "description": None, "impressionData": False, **more}  # fmt: skip


def rollout(percent: int | str = 100, *constraints: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The strategy that Unleash's own pages make."""
    parameters = {
        "rollout": str(percent),
        "stickiness": more.pop("stickiness", "default"),
        "groupId": "g",
    }
    return {
        "name": "flexibleRollout",
        "parameters": parameters,
        "constraints": list(constraints),
        **more,
    }


def constraint(name: str, operator: str, *values: str, **more: Any) -> dict[str, Any]:
    """One condition of a strategy."""
    return {
        "contextName": name,
        "operator": operator,
        "values": list(values),
        "inverted": False,
        "caseInsensitive": False,
        **more,
    }


def document(*features: dict[str, Any], segments: list[dict[str, Any]] | None = None) -> str:
    """The answer of an Unleash server."""
    return json.dumps(
        {
            "version": 2,
            "features": list(features),
            "query": {"environment": "development"},
            "segments": segments or [],
        }
    )


class Visit:
    """One request, and the connection to answer it on."""

    def __init__(self, stub: Stub, door: socket.socket, head: str) -> None:
        self.stub, self.door = stub, door
        first, *lines = head.split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in lines if line)
        }

    def send(self, raw: bytes) -> None:
        self.door.sendall(raw)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        said = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self.send(f"HTTP/1.1 {status} So\r\n{head}\r\n".encode() + body)

    def wait(self, seconds: float) -> bool:
        """Hold the connection; False once the stub stops."""
        return not self.stub.stopping.wait(seconds)


def good(text: str) -> Way:
    """Answer with a document, and with 304 whoever has it already."""
    tag = f'"{hash(text)}"'

    def way(visit: Visit) -> None:
        if visit.headers.get("if-none-match") == tag:
            visit.answer(304, ETag=tag)
        else:
            visit.answer(200, text.encode(), ETag=tag)

    return way


def status(code: int, body: bytes = b"{}", **headers: str) -> Way:
    """Answer with a status."""
    return lambda visit: visit.answer(code, body, **headers)


def body(raw: bytes, **headers: str) -> Way:
    """Answer 200 with a body, and with a tag as a good answer has one."""
    return lambda visit: visit.answer(200, raw, ETag=f'"{hash(raw)}"', **headers)


def hang(seconds: float = 60.0) -> Way:
    """Take the request and say nothing."""

    def way(visit: Visit) -> None:
        visit.wait(seconds)

    return way


def drip_body(visit: Visit) -> None:
    """Send one byte of a body a tenth of a second, for a minute."""
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n")
    _drip(visit)


def drip_head(visit: Visit) -> None:
    """Send one byte of a header a tenth of a second, for a minute: no time-out of a socket ends this."""
    visit.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(visit)


def _drip(visit: Visit) -> None:
    for _ in range(600):
        visit.send(b"x")
        if not visit.wait(0.1):
            return


def huge(visit: Visit) -> None:
    """Send 100 MB."""
    visit.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
    )
    for _ in range(1_000):
        visit.send(b"[" * 100_000)


def packed(visit: Visit) -> None:
    """Send 100 kB that unpack to 100 MB."""
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(b"[" * 100_000) for _ in range(1_000)]
    visit.answer(200, b"".join([*parts, packer.flush()]), Content_Encoding="gzip")


def redirects(visit: Visit) -> None:
    """Redirect to ourselves, for ever."""
    visit.answer(302, Location=f"{visit.stub.url}/client/features?again")


class Stub:
    """Serves `way` at the address of features on a port of its own, one thread a connection; all else gets 202."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.visits: list[Visit] = []
        self.stopping = threading.Event()
        self._door: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before."""
        self.stopping = threading.Event()
        self._door = socket.create_server(("127.0.0.1", self.port))
        self._thread(self._serve, self._door)

    def stop(self) -> None:
        """Refuse connections, and end those there are."""
        self.stopping.set()
        if self._door is not None:
            with suppress(OSError):
                self._door.shutdown(socket.SHUT_RDWR)
            self._door.close()
        for door in list(self._open):
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._threads.clear()

    def asked(self) -> list[Visit]:
        """The requests for features."""
        return [each for each in self.visits if each.path.startswith(FEATURES)]

    def _thread(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, listening: socket.socket) -> None:
        while not self.stopping.is_set():
            try:
                door, _ = listening.accept()
            except OSError:
                return
            self._thread(self._one, door)

    def _one(self, door: socket.socket) -> None:
        self._open.add(door)
        with door, suppress(OSError):
            visit = self._read(door)
            self.visits.append(visit)
            if visit.path.startswith(FEATURES):
                self.way(visit)
            else:
                visit.answer(202)
        self._open.discard(door)

    def _read(self, door: socket.socket) -> Visit:
        raw = b""
        while b"\r\n\r\n" not in raw:
            if not (more := door.recv(65_536)):
                raise ConnectionError
            raw += more
        head, _, rest = raw.partition(b"\r\n\r\n")
        visit = Visit(self, door, head.decode("latin-1"))
        left = int(visit.headers.get("content-length", "0")) - len(rest)
        while left > 0 and (more := door.recv(65_536)):
            left -= len(more)
        return visit
