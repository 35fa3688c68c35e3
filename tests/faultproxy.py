"""A proxy between clients and a Redis server, which loses what a test tells it to lose.

It reads commands one by one (RESP arrays of bulk strings), so a rule can name the command that it is for: a script by
the name of its file, anything else by its first word. The faults:

    carried out, and the reply is lost    cut (closed), mid (half of the reply, then closed), reset (RST, over TCP),
                                          hang (nothing, until the client gives up)
    not carried out                       refuse (closed), hole (swallowed, and so is all that follows; the server never
                                          hears that the client is gone), error (an error of the server's)
    carried out too late                  late (when the client has given up and the next such command was answered)
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import hiredis

from qik_core.store.scripts import script

LOSES_THE_REPLY: Final = ("cut", "mid", "reset", "hang")
FAULTS: Final = (*LOSES_THE_REPLY, "refuse", "hole", "late")
_RST: Final = struct.pack("ii", 1, 0)
_LATE: Final = 0.3  # seconds after which nobody sends such a command again
Words = list[bytes]


def is_script(name: str) -> Callable[[Words], bool]:
    """Match the calls of one script."""
    sha, text = script(name).sha, script(name).text
    return lambda words: len(words) > 1 and words[1] in (sha, text)


def is_command(word: bytes) -> Callable[[Words], bool]:
    """Match the calls of one command."""
    return lambda words: words[0].upper() == word


def is_called(name: str) -> Callable[[Words], bool]:
    """Match by the name that `name_of` gives."""
    return lambda words: name_of(words) == name


def name_of(words: Words) -> str:
    """Return the name of the script that is called, else the command's first word."""
    if words[0].upper() in (b"EVAL", b"EVALSHA") and len(words) > 1:
        return _scripts().get(words[1], "?")
    return words[0].upper().decode()


@cache
def load_scripts(raw: Any) -> None:
    """Let the server know every script, so that each call is one command."""
    for name in script_names():
        raw.script_load(script(name).text)


def script_names() -> tuple[str, ...]:
    """Return the names of all scripts."""
    folder = files("qik_core.store") / "lua"
    return tuple(each.name[:-4] for each in folder.iterdir() if each.name.endswith(".lua"))


@cache
def _scripts() -> dict[bytes, str]:
    known = {script(name).sha: name for name in script_names()}
    return known | {script(name).text: name for name in script_names()}


@dataclass
class Rule:
    """What happens to some commands."""

    matches: Callable[[Words], bool]
    action: str
    skip: int = 0
    times: int = 1
    hits: int = 0
    when: Callable[[], Any] = field(default=lambda: None)
    """Called when the server has answered, before the reply is lost."""
    text: str = ""
    """What an `error` says."""

    def applies(self, words: Words) -> bool:
        if not self.matches(words):
            return False
        self.skip -= 1
        if self.skip >= 0 or self.hits >= self.times:
            return False
        self.hits += 1
        return True


class FaultProxy:
    """Listens on a unix socket, or with `tcp` on a port of 127.0.0.1; `url` is where the client connects."""

    def __init__(self, server_url: str, folder: Path, *, tcp: bool = False) -> None:
        self._server = urlsplit(server_url)
        self._tcp = tcp
        self._listener = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        if tcp:
            self._listener.bind(("127.0.0.1", 0))
            self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener.bind(str(folder / "proxy.sock"))
            self.url = f"unix://{folder / 'proxy.sock'}"
        self._listener.listen(128)
        self.rules: list[Rule] = []
        self.calls: list[Words] = []
        self._answered = threading.Condition()
        self._answers: list[Words] = []
        self._closed = False
        self._late = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def lose(
        self,
        matches: Callable[[Words], bool],
        action: str = "cut",
        *,
        skip: int = 0,
        times: int = 1,
        when: Callable[[], Any] = lambda: None,
        text: str = "",
    ) -> Rule:
        """Add a rule for the commands that match, after the first `skip` of them, `times` times."""
        self.rules.append(Rule(matches, action, skip, times, when=when, text=text))
        return self.rules[-1]

    def seen(self) -> Counter[str]:
        """Return how often each script and command was called."""
        return Counter(name_of(words) for words in self.calls)

    def cut(self) -> None:
        """Break every connection there is."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """Forget the rules, and break the connections that they have spoilt: a network that works again."""
        self.rules.clear()
        self.cut()

    def await_late(self) -> None:
        """Wait until what is late has been delivered."""
        with self._answered:
            assert self._answered.wait_for(lambda: self._late == 0, 5.0)

    def close(self) -> None:
        with self._answered:
            self._closed = True
            self._answered.notify_all()
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for each in (self._listener, *self._open):
            each.close()

    # --- threads -----------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        is_tcp = self._server.scheme == "redis"
        server = socket.socket(socket.AF_INET if is_tcp else socket.AF_UNIX)
        self._open += [client, server]
        stays = False
        with suppress(OSError):
            address = (self._server.hostname, self._server.port)
            server.connect(address if is_tcp else unquote(self._server.path))
            stays = self._relay(client, server)
        for each in (client,) if stays else (client, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        if self._tcp:
            with suppress(OSError):
                client.close()

    def _relay(self, client: socket.socket, server: socket.socket) -> bool:
        """Pass commands and replies on until one side ends; True when the server must not hear of that."""
        commands = hiredis.Reader()
        while data := client.recv(1 << 16):
            commands.feed(data)
            while (words := commands.gets()) is not False:
                self.calls.append(words)
                rule = next((rule for rule in self.rules if rule.applies(words)), None)
                if rule is None:
                    client.sendall(_ask(server, words))
                    self._note(words)
                elif not self._fail(rule, words, client, server):
                    return rule.action == "hole"
        return False

    def _fail(self, rule: Rule, words: Words, client: socket.socket, server: socket.socket) -> bool:
        """Do what the rule says; True when the connection goes on."""
        if rule.action == "refuse":
            return False
        if rule.action == "error":
            client.sendall(b"-" + rule.text.encode() + b"\r\n")
            return True
        if rule.action in ("hole", "late"):
            _swallow(client)
            if rule.action == "late":
                self._deliver_late(rule, words, server)
            return False
        reply = _ask(server, words)
        rule.when()
        if rule.action == "mid":
            client.sendall(reply[: len(reply) // 2])
        elif rule.action == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            client.close()
        elif rule.action == "hang":
            _swallow(client)
        return False

    def _note(self, words: Words) -> None:
        with self._answered:
            self._answers.append(words)
            self._answered.notify_all()

    def _deliver_late(self, rule: Rule, words: Words, server: socket.socket) -> None:
        with self._answered:
            self._late += 1
            before = len(self._answers)
            self._answered.wait_for(
                lambda: self._closed or any(map(rule.matches, self._answers[before:])), _LATE
            )
        try:
            _ask(server, words)
        finally:
            with self._answered:
                self._late -= 1
                self._answered.notify_all()


def _swallow(client: socket.socket) -> None:
    while client.recv(1 << 16):
        pass


def _ask(server: socket.socket, words: Words) -> bytes:
    """Send a command and read one whole reply."""
    server.sendall(hiredis.pack_command(tuple(words)))  # type: ignore[arg-type]
    parts, reader = [], hiredis.Reader()
    while reader.gets() is False:
        data = server.recv(1 << 16)
        if not data:
            raise OSError("the server is gone")
        parts.append(data)
        reader.feed(data)
    return b"".join(parts)
