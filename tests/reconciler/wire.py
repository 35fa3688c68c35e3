"""A wire between a client and a database, which a test can cut, and on which answers can get lost."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self


class Wire:
    """Passes bytes on. `fault` names what becomes of the next answer, once.

    cut    the connection ends instead
    mid    half of the answer comes, then the connection ends
    hole   nothing comes any more, and the connection stays

    `left` is how many bytes of answers still come before the connection ends instead, None for all of them.
    """

    def __init__(self, port: int) -> None:
        self.fault = ""
        self.left: int | None = None
        self._to = port
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._threads[0].join()
        for each in self._sockets:
            _end(each)
        for thread in self._threads[1:]:
            thread.join()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [client, server]
                for way in ((client, server, False), (server, client, True)):
                    thread = threading.Thread(target=self._carry, args=way, daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        lost = False
        with suppress(OSError):
            while data := source.recv(65_536):
                fault = self.fault if answers else ""
                if fault:
                    self.fault = ""
                    lost = fault == "hole"
                if fault == "mid":
                    sink.sendall(data[: len(data) // 2])
                if fault in ("cut", "mid") or (answers and self._spent(data, sink)):
                    break
                if not lost:
                    sink.sendall(data)
        if not lost:
            _end(source)
            _end(sink)

    def _spent(self, data: bytes, sink: socket.socket) -> bool:
        """Whether these are more bytes than are left; those that are left come."""
        if self.left is None:
            return False
        if len(data) > self.left:
            sink.sendall(data[: self.left])
            return True
        self.left -= len(data)
        return False


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
