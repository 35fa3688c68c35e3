"""`qik dev`: a server, a database, the worker, the reconcilers and the dashboard, in one terminal. Ctrl-C ends all of them.

What is not named by the settings is brought along: a private Redis-compatible server and a SQLite file, both kept in
`.qik/` of the current folder, so that the jobs of yesterday are there tomorrow. Reconcilers run as commands, because
this package does not know them; without them, only the worker runs. When a source file changes, all commands start again;
the dashboard's socket is ours, so that its pages wait meanwhile, and nobody takes its port.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import importlib.util
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Final

from qik_core.changes import Sources
from qik_core.embedded import Embedded
from qik_core.settings import Settings
from qik_core.store import Store

FOLDER: Final = Path(".qik")
REFUSED: Final = 3  # the exit code of what would be unsafe
PORT: Final = 7410
_LOOK: Final = 0.2  # seconds between looks at the services
_LOOK_AT_SOURCES: Final = 0.5
_ANSWER: Final = 0.5  # seconds for the dashboard, each time that it is asked whether it is there
_PORTS: Final = 20
_GRACE: Final = 6.0  # seconds beyond the shutdown time: a worker promises 5
_PR_SET_PDEATHSIG: Final = 1
_STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs beside the worker."""

    reconcilers: bool = True
    dashboard: bool = True
    port: int = PORT
    """Of the dashboard; where it is taken, the next free one."""
    reload: bool = True
    """Whether everything starts again when a source file of the application changes."""


@dataclass(frozen=True, slots=True)
class Service:
    """A command that runs for as long as `qik dev` does."""

    name: str
    command: tuple[str, ...]
    listener: socket.socket | None = None
    """What it serves on. Its address is shown when it answers there; what it prints itself is not."""


class End(StrEnum):
    """Why the services are stopped."""

    ASKED = "asked"
    FAILED = "failed"
    CHANGED = "changed"


Say = Callable[[str], object]


def run(settings: Settings, parts: Parts, say: Say) -> int:
    """Run everything until Ctrl-C; return the exit code: 0, 1 if a part failed, 3 if another one runs here.

    Raises:
        NoServer, ServerFailed: there is no server to bring along.
        StoreError: the Redis that the settings name cannot be reached.
    """
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(
                f"another `qik dev` runs in {Path.cwd()}: two would write over each other's data in {FOLDER}/"
            )
            return REFUSED
        return _run_all(settings, parts, say)


def _run_all(settings: Settings, parts: Parts, say: Say) -> int:
    with _redis(settings) as redis, contextlib.ExitStack() as around:
        environment = {**os.environ, **_variables(settings, redis)}
        Store(redis, birth_ms=0).look()
        say(f"redis     {settings.masked()['redis'] if redis == settings.redis else redis}")
        say(f"database  {_shown_database(settings)}")
        services = [Service("worker", _python("qik_core.cli", "work"))]
        reconcilers = parts.reconcilers and _has_reconcilers()
        if reconcilers:
            if not _upgraded(environment):
                say("the tables of the reconcilers could not be made: the reason stands above")
                return 1
            services.append(Service("reconcilers", _python("reconciler.cli", "run")))
        if parts.dashboard and _has_dashboard(say):
            listener = around.enter_context(_listener(parts.port, say))
            services.append(
                _dashboard("reconciler.cli" if reconcilers else "qik_core.cli", listener)
            )
        sources = Sources(settings.app) if parts.reload and settings.app else None
        return Terminal(services, environment, settings.shutdown + _GRACE, say, sources).run()


class Terminal:
    """The services that share one terminal."""

    def __init__(
        self,
        services: list[Service],
        environment: Mapping[str, str],
        patience: float,
        say: Say,
        sources: Sources | None = None,
    ) -> None:
        self._services = services
        self._environment = environment
        self._patience = patience
        self._say = say
        self._sources = sources
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._unseen = [each.listener for each in services if each.listener is not None]
        self._asked = 0
        self._reloaded = False
        self._look_at_sources = 0.0

    def run(self) -> int:
        """Run the services until a signal comes or one of them fails; return 0 or 1."""
        before = {number: signal.signal(number, self._ask) for number in _STOP}
        try:
            self._start()
            self._say("Ctrl-C ends everything, a second one at once")
            while (end := self._wait_for_an_end()) is End.CHANGED:
                self._stop()
                self._start()
        finally:
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        return 1 if end is End.FAILED else 0

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked += 1

    def _start(self) -> None:
        for service in [] if self._asked else self._services:
            self._running[service.name] = _spawn(service, self._environment)

    def _wait_for_an_end(self) -> End:
        while not self._asked:
            if self._have_sources_changed():
                return End.CHANGED
            if self._has_one_failed():
                return End.FAILED
            self._show_what_answers()
            time.sleep(_LOOK)
        return End.ASKED

    def _have_sources_changed(self) -> bool:
        if self._sources is None or time.monotonic() < self._look_at_sources:
            return False
        self._look_at_sources = time.monotonic() + _LOOK_AT_SOURCES
        changed = self._sources.changed()
        if changed:
            self._reloaded = True
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            self._say(f"{_shown(changed[0])}{more} changed: everything starts again")
        return bool(changed)

    def _has_one_failed(self) -> bool:
        """Whether a service has ended, which ends everything, but not after an edit: the next edit may mend it."""
        for name, process in list(self._running.items()):
            if process.poll() is None:
                continue
            said = f"{name} has ended with exit code {process.returncode}"
            if not self._reloaded:
                self._say(f"{said}: everything stops")
                return True
            self._say(f"{said}: it starts again when a source file changes")
            del self._running[name]
        return False

    def _show_what_answers(self) -> None:
        for listener in [each for each in self._unseen if _answers(each)]:
            self._unseen.remove(listener)
            self._say(f"dashboard {_url(listener)}")

    def _stop(self) -> None:
        deadline, told = time.monotonic() + self._patience, 0
        while living := [each for each in self._running.values() if each.poll() is None]:
            if time.monotonic() > deadline:
                for process in living:
                    process.kill()
                    process.wait()
            elif told < max(1, min(self._asked, 2)):
                told += 1
                for process in living:
                    process.terminate()
            time.sleep(_LOOK / 4)


@contextlib.contextmanager
def _redis(settings: Settings) -> Iterator[str]:
    """Give the URL of the Redis that the settings name, or of a server that ends with us."""
    if settings.origin("redis") != "default":
        yield settings.redis
        return
    with Embedded(folder=FOLDER / "redis", appendonly=True) as server:
        yield server.url


def _variables(settings: Settings, redis: str) -> dict[str, str]:
    """Return what the services are told by their environment."""
    queues = " ".join(f"{name},{weight}" for name, weight in settings.queues)
    told = {"REDIS_URL": redis, "QIK_PROCESSES": str(settings.processes), "QIK_QUEUES": queues}
    if settings.app is not None:
        told["QIK_APP"] = settings.app
    if "default" not in settings.databases:
        path = (FOLDER / "dev.db").absolute()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        told["DATABASE_URL"] = f"sqlite:///{path}"
    return told


def _shown_database(settings: Settings) -> str:
    return str(settings.masked()["databases"].get("default", FOLDER / "dev.db"))


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _has_reconcilers() -> bool:
    return importlib.util.find_spec("reconciler.cli") is not None


def _has_dashboard(say: Say) -> bool:
    lacking = [
        name
        for name in ("jinja2", "starlette", "uvicorn")
        if importlib.util.find_spec(name) is None
    ]
    if lacking:
        say(f"dashboard left out, it needs {lacking[0]}: pip install 'qik-core[web]'")
    return not lacking


def _dashboard(commands: str, listener: socket.socket) -> Service:
    return Service("dashboard", _python(commands, "web", "--fd", str(listener.fileno())), listener)


def _listener(port: int, say: Say) -> socket.socket:
    """Listen on this port or one of the next; on any where all of them are taken."""
    for each in (*range(port, min(port + _PORTS, 65_536)), 0):
        with contextlib.suppress(OSError):
            listener = socket.create_server(("127.0.0.1", each), backlog=128)
            if each != port:
                say(f"port {port} is taken: the dashboard has {listener.getsockname()[1]}")
            return listener
    raise OSError(f"no port of 127.0.0.1 can be listened on, neither {port} nor any other")


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def _answers(listener: socket.socket) -> bool:
    """Whether somebody serves there: the connection alone says nothing, since the socket is ours."""
    host, port = listener.getsockname()
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("HEAD", "/static/icon.svg")
        return connection.getresponse().status > 0
    return False


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _upgraded(environment: Mapping[str, str]) -> bool:
    """Make the reconcilers' tables, or bring them up to date."""
    command = _python("reconciler.cli", "upgrade")
    return subprocess.run(command, env=environment, check=False).returncode == 0  # noqa: S603  our own command


def _spawn(service: Service, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a service in a session of its own: a terminal's Ctrl-C reaches it once, through us."""
    listener = service.listener
    return subprocess.Popen(  # noqa: S603  our own command
        service.command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if listener is None else subprocess.DEVNULL,
        pass_fds=() if listener is None else [listener.fileno()],
        start_new_session=True,
        preexec_fn=_end_with_us,  # noqa: PLW1509  no second thread runs here
    )


def _end_with_us() -> None:
    """Where the kernel can, have it send TERM to a service when `qik dev` dies without a word."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
