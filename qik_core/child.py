"""One worker process: `python -m qik_core.child`, started by a parent.

The order of a life: settings and shared memory from the parent, the application imported, a place in Redis taken; then
threads for the jobs, the courier, the heartbeat, the poller and the roller, while the main thread waits for signals.

The end: quiet, finish what fits into the shutdown time, hand back what has not started, and leave by `os._exit`, because
a thread that runs a job cannot be ended. The parent's helper returns what was still running.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from qik_core import application, logs, registry
from qik_core.courier import Courier
from qik_core.crew import Crew
from qik_core.deadlines import Deadlines
from qik_core.errors import QikError, StoreError
from qik_core.heartbeat import Heartbeat, Ticker, process_info
from qik_core.order import orders
from qik_core.poller import Poller
from qik_core.processor import LoopThread, Processor, Terms
from qik_core.roller import Roller
from qik_core.settings import Settings, Wire, current, use
from qik_core.shared import Shared, State
from qik_core.store.link import Link
from qik_core.store.store import Candidate
from qik_core.store.worker import Limits, WorkerStore
from qik_core.version import VERSION

log: Final = logging.getLogger("qik_core.worker")
_STOP: Final = (signal.SIGTERM, signal.SIGINT)
_TURN: Final = 0.001  # the courier gets the GIL after 1 ms of jobs, so that the next ones are on their way in time
_GOODBYE: Final = 1.0  # seconds for the last beat to come back


def main() -> None:
    """Live. Ends by `os._exit`."""
    terms = json.loads(
        os.environ.pop("QIK_CHILD")
    )  # it holds passwords: nothing that a job spawns may see it
    shared = Shared.attach(terms["shm"])
    logs.set_up(terms["settings"]["log_level"].upper())
    code = 0
    try:
        Child(shared, terms["life"], _settings(terms["settings"])).live()
    except QikError as error:
        log.critical("%s", error)
        code = os.EX_CONFIG
    except BaseException:
        log.exception("the process ends")
        code = 1
    sys.stderr.flush()
    os._exit(code)


def _settings(given: Mapping[str, Any]) -> Settings:
    use(Settings.from_json(json.dumps(given)))
    if app := current().app:
        application.load(app)
    return current()


def limits_of(settings: Settings) -> Limits:
    """Return what the scripts must know of the settings."""
    return Limits(
        heartbeat=settings.heartbeat,
        lease=settings.lease,
        dead_max=settings.dead_max,
        dead_seconds=settings.dead_days * 86_400.0,
    )


def new_identity() -> str:
    """Return a name that no process had before: host, process id, and chance, since both of them come again."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(6).hex()}"


class Child:
    """The parts of a worker process, put together."""

    def __init__(self, shared: Shared, life: int, settings: Settings) -> None:
        self._shared = shared
        self._life = life
        self._settings = settings
        self._limits = limits_of(settings)
        self._candidate = Candidate()
        self._woken = threading.Event()
        self._told: list[int] = []
        self._beating = threading.Thread()
        self._courier = Courier(
            self._new_store, self._link, self._crew, self._queues(), self._beat_soon
        )
        self._heartbeat = Heartbeat(
            self._courier, self._link, self._limits, self._candidate, self._info()
        )
        names = [name for name, _ in settings.queues]
        milliseconds = settings.wire is Wire.SIDEKIQ8
        self._poller = Poller(
            self._link,
            names,
            settings.poll,
            clock=time.time,
            dice=random.random,
            milliseconds=milliseconds,
        )
        self._roller = Roller(self._link, self._candidate, new_identity(), dice=random.random())
        self._heartbeat.on_roll = self._roller.ask

    def live(self) -> None:
        """Work until told to stop."""
        sys.setswitchinterval(_TURN)
        _start(Ticker(self._shared, min(0.2, self._limits.heartbeat / 4)).run, "ticker")
        self._install_signals()
        _start(self._watch_parent, "life")
        self._shared.state = State.READY
        self._register()
        self._courier.crew.start()
        _start(self._courier.run, "courier")
        self._beating = _start(self._heartbeat.run, "heartbeat")
        _start(self._poller.run, "poller")
        _start(self._roller.run, "roller")
        log.info("ready", extra={"identity": self._courier.store.identity})
        self._obey()

    # --- parts -------------------------------------------------------------------

    def _new_store(self) -> WorkerStore:
        identity = new_identity()
        self._shared.identity = identity
        return WorkerStore(identity, self._limits, self._candidate)

    def _link(self) -> Link:
        return Link(self._settings.redis, timeout=max(0.5, min(2.0, self._limits.heartbeat)))

    def _crew(self, ring: Callable[[], None]) -> Crew:
        settings = self._settings
        processor = Processor(
            find=registry.find,
            wait=LoopThread(lambda run: _start(run, "loop")).wait,
            now=time.time,
            dice=random.random,
            deadlines=Deadlines(lambda run: _start(run, "deadlines"), self._stuck),
            terms=Terms(
                settings.server_middleware, settings.wire is Wire.SIDEKIQ8, settings.retries
            ),
        )
        markers = [self._shared.marker(slot) for slot in range(settings.concurrency)]
        return Crew(processor.process, markers, ring)

    def _stuck(self, field: bytes) -> None:
        log.critical("a run ignores its timeout: this process ends itself", extra={"field": field})
        self._courier.crew.blame(field)
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    def _queues(self) -> Callable[[], list[str]]:
        return orders(self._settings.queues, self._settings.order, random.random)

    def _info(self) -> dict[str, object]:
        settings = self._settings
        weights = dict(settings.queues)
        return process_info(
            settings.app or "", list(weights), weights, settings.concurrency, VERSION
        )

    def _beat_soon(self) -> None:
        self._heartbeat.beat_soon()

    def _register(self) -> None:
        """Take a place in Redis; waits for it as long as that takes."""
        pause, said = 0.05, False
        while signal.SIGTERM not in self._told:
            try:
                self._courier.register()
            except StoreError as error:
                if not said:
                    log.warning("waiting for Redis", extra={"error": str(error)})
                said = True
                self._woken.wait(pause)
                pause = min(pause * 2, 1.0)
            else:
                return

    # --- signals and the end -----------------------------------------------------

    def _install_signals(self) -> None:
        for number in (*_STOP, signal.SIGTSTP):
            signal.signal(number, self._tell)
        faulthandler.register(signal.SIGTTIN, all_threads=True, chain=False)

    def _tell(self, number: int, _frame: object) -> None:
        self._told.append(signal.SIGTERM if number in _STOP else number)
        self._woken.set()

    def _watch_parent(self) -> None:
        os.read(self._life, 1)
        log.warning("the parent is gone: stopping")
        self._told.append(signal.SIGTERM)
        self._woken.set()

    def _obey(self) -> None:
        while signal.SIGTERM not in self._told:
            # A bounded wait: a signal handler runs only between two instructions of this thread.
            self._woken.wait(0.5)
            if signal.SIGTSTP in self._told and not self._courier.is_quiet:
                self._quiet()
        self._quiet()
        self._shared.state = State.STOPPING
        self._finish(time.monotonic() + self._settings.shutdown)

    def _quiet(self) -> None:
        log.info("quiet: no more jobs are fetched")
        self._courier.quiet()
        self._poller.stop()
        self._roller.stop()
        self._shared.state = State.QUIET

    @property
    def _in_haste(self) -> bool:
        """Whether TERM came twice."""
        return self._told.count(signal.SIGTERM) > 1

    def _finish(self, deadline: float) -> None:
        self._courier.close()
        while (
            not self._courier.closed.wait(0.05)
            and time.monotonic() < deadline
            and not self._in_haste
        ):
            pass
        running = self._courier.crew.running()
        if running:
            log.warning("these jobs go back to their queues", extra={"count": len(running)})
        self._heartbeat.stop()
        if self._courier.closed.is_set():
            self._beating.join(_GOODBYE)
            with contextlib.suppress(StoreError):  # others find what is left
                self._courier.leave()


def _start(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


if __name__ == "__main__":
    main()
