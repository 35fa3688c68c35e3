"""A proxy between a client and a Redis server on a unix socket, which loses what a test tells it to lose.

It reads commands one by one (RESP arrays of bulk strings), so a rule can name the command that it is for: by its first
word, or for a script by the name of its file. What reached the server was carried out there; only the reply is lost.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hiredis

from qik_core.store.scripts import script


def is_script(name: str) -> Callable[[list[bytes]], bool]:
    """Match the calls of one script."""
    sha, text = script(name).sha, script(name).text
    return lambda words: len(words) > 1 and words[1] in (sha, text)


def is_command(word: bytes) -> Callable[[list[bytes]], bool]:
    """Match the calls of one command."""
    return lambda words: words[0].upper() == word


@dataclass
class Rule:
    """What happens to some commands: `cut` closes the connection in place of the reply, `hang` never replies,
    `refuse` closes the connection before the command reaches the server."""

    matches: Callable[[list[bytes]], bool]
    action: str
    skip: int = 0
    times: int = 1
    hits: int = 0
    when: Callable[[], Any] = field(default=lambda: None)
    """Called when the server has answered, before the reply is lost."""

    def applies(self, words: list[bytes]) -> bool:
        if not self.matches(words):
            return False
        self.skip -= 1
        if self.skip >= 0 or self.hits >= self.times:
            return False
        self.hits += 1
        return True


class FaultProxy:
    """Listens on a unix socket beside the server's; `url` is where the client connects."""

    def __init__(self, server_url: str, folder: Path) -> None:
        self._server = urlsplit(server_url).path
        path = folder / "proxy.sock"
        self.url = f"unix://{path}"
        self.rules: list[Rule] = []
        self.calls: list[list[bytes]] = []
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def lose(
        self,
        matches: Callable[[list[bytes]], bool],
        action: str = "cut",
        *,
        skip: int = 0,
        times: int = 1,
        when: Callable[[], Any] = lambda: None,
    ) -> Rule:
        """Add a rule for the commands that match, after the first `skip` of them, `times` times."""
        self.rules.append(Rule(matches, action, skip, times, when=when))
        return self.rules[-1]

    def cut(self) -> None:
        """Break every connection there is."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for each in (self._listener, *self._open):
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        self._open += [client, server]
        with suppress(OSError):
            server.connect(self._server)
            self._relay(client, server)
        for each in (client, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        commands = hiredis.Reader()
        while data := client.recv(1 << 16):
            commands.feed(data)
            while (words := commands.gets()) is not False:
                self.calls.append(words)
                rule = next((rule for rule in self.rules if rule.applies(words)), None)
                if rule is not None and rule.action == "refuse":
                    return
                server.sendall(hiredis.pack_command(tuple(words)))
                reply = _reply(server)
                if rule is None:
                    client.sendall(reply)
                    continue
                rule.when()
                if rule.action == "cut":
                    return
                client.recv(1)  # hang: until the client gives up


def _reply(server: socket.socket) -> bytes:
    """Read one whole reply."""
    whole, reader = b"", hiredis.Reader()
    while reader.gets() is False:
        data = server.recv(1 << 16)
        if not data:
            raise OSError("the server is gone")
        whole += data
        reader.feed(data)
    return whole
