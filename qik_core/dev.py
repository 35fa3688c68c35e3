"""`qik dev`: a server, a database, the worker and the reconcilers, in one terminal. Ctrl-C ends all of them.

What is not named by the settings is brought along: a private Redis-compatible server and a SQLite file, both kept in
`.qik/` of the current folder, so that the jobs of yesterday are there tomorrow. Reconcilers run as commands, because
this package does not know them; without them, only the worker runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from qik_core.embedded import Embedded
from qik_core.settings import Settings
from qik_core.store import Store

FOLDER: Final = Path(".qik")
REFUSED: Final = 3  # the exit code of what would be unsafe
_LOOK: Final = 0.2  # seconds between looks at the services
_GRACE: Final = 6.0  # seconds beyond the shutdown time: a worker promises 5
_PR_SET_PDEATHSIG: Final = 1
_STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Service:
    """A command that runs for as long as `qik dev` does."""

    name: str
    command: tuple[str, ...]


def run(settings: Settings, *, reconcilers: bool, say: Callable[[str], object]) -> int:
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
        return _run_all(settings, reconcilers=reconcilers, say=say)


def _run_all(settings: Settings, *, reconcilers: bool, say: Callable[[str], object]) -> int:
    with _redis(settings) as redis:
        environment = {**os.environ, **_variables(settings, redis)}
        Store(redis, birth_ms=0).look()
        say(f"redis     {settings.masked()['redis'] if redis == settings.redis else redis}")
        say(f"database  {_shown_database(settings)}")
        services = [Service("worker", _python("qik_core.cli", "work"))]
        if reconcilers and _has_reconcilers():
            if not _upgraded(environment):
                say("the tables of the reconcilers could not be made: the reason stands above")
                return 1
            services.append(Service("reconcilers", _python("reconciler.cli", "run")))
        return Terminal(services, environment, settings.shutdown + _GRACE, say).run()


class Terminal:
    """The services that share one terminal."""

    def __init__(
        self,
        services: list[Service],
        environment: Mapping[str, str],
        patience: float,
        say: Callable[[str], object],
    ) -> None:
        self._services = services
        self._environment = environment
        self._patience = patience
        self._say = say
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._asked = 0

    def run(self) -> int:
        """Run the services until a signal comes or one of them fails; return 0 or 1."""
        before = {number: signal.signal(number, self._ask) for number in _STOP}
        try:
            for service in self._services:
                self._running[service.name] = _spawn(service, self._environment)
            self._say("Ctrl-C ends everything, a second one at once")
            failed = self._wait_for_an_end()
        finally:
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        return 1 if failed else 0

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked += 1

    def _wait_for_an_end(self) -> bool:
        while not self._asked:
            for name, process in self._running.items():
                if process.poll() is not None:
                    self._say(
                        f"{name} has ended with exit code {process.returncode}: everything stops"
                    )
                    return True
            time.sleep(_LOOK)
        return False

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


def _upgraded(environment: Mapping[str, str]) -> bool:
    """Make the reconcilers' tables, or bring them up to date."""
    command = _python("reconciler.cli", "upgrade")
    return subprocess.run(command, env=environment, check=False).returncode == 0  # noqa: S603  our own command


def _spawn(service: Service, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a service in a session of its own: a terminal's Ctrl-C reaches it once, through us."""
    return subprocess.Popen(  # noqa: S603  our own command
        service.command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_us,  # noqa: PLW1509  no second thread runs here
    )


def _end_with_us() -> None:
    """Where the kernel can, have it send TERM to a service when `qik dev` dies without a word."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
