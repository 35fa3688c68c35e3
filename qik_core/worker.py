"""A worker: job threads in capsules, the courier, the heartbeat, the poller and the roller, put together.

It knows nothing of parents and signals: `child` gives it a process of its own, `embedding` a place in somebody else's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Final

from qik_core import hooks, registry, rows, tallies
from qik_core.adoption import AdoptingStore
from qik_core.bell import Damaged
from qik_core.board import Board
from qik_core.capsule import Capsule
from qik_core.context import Context
from qik_core.courier import Courier
from qik_core.crew import Crew, Marker
from qik_core.deadlines import Deadlines
from qik_core.doctor import check_boot
from qik_core.errors import HookFailed, StoreError
from qik_core.gate import Gate
from qik_core.heartbeat import Heartbeat, process_info
from qik_core.hooks import Event
from qik_core.loop import LoopThread
from qik_core.minutes import Minutes
from qik_core.order import orders
from qik_core.poller import Poller
from qik_core.processor import Processor, Terms
from qik_core.releaser import Releaser
from qik_core.roller import Roller
from qik_core.settings import Settings, Wire
from qik_core.store.exchange import Fetched, Outcome
from qik_core.store.link import Link
from qik_core.store.store import Candidate
from qik_core.store.worker import Beat, Limits, WorkerStore
from qik_core.version import VERSION

log: Final = logging.getLogger("qik_core.worker")
_LOOK: Final = 0.7  # seconds between two looks at the kill switches: seen within a second
_GOODBYE: Final = 1.0  # seconds for the last beat to come back
_SIGNALS: Final = {b: getattr(signal, f"SIG{b}") for b in ("TSTP", "TERM", "TTIN")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the process around a worker gives it."""

    identified: Callable[[str], None]
    """Told each identity that the worker takes."""
    marker: Callable[[int], Marker]
    """Returns where to note what the n-th job thread has started."""
    signalled: Callable[[int], None]
    """Told the signals that Sidekiq's pages send."""
    end: Callable[[], None]
    """Ends the process at once, because a job can be stopped in no other way."""
    embedded: bool = False


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


class Worker:
    """The parts of one worker. `prepare`, `begin`, then `quiet` if wanted, `close`, `leave`; each once."""

    def __init__(self, settings: Settings, site: Site) -> None:
        self._settings = settings
        self._site = site
        self._limits = limits_of(settings)
        self._candidate = Candidate()
        self._links: list[Link] = []
        self._minutes = self._counting()
        self._loop = LoopThread(lambda run: start(run, "loop"))
        self.courier = Courier(self._new_store, self._link, self._capsules, self._beat_soon)
        self.courier.on_damage = self._damaged
        self._gate = self.courier.admission.gate = self._processor.gate = Gate(
            Board(configured=settings.switches.configured, every=_LOOK), registry.find, time.time
        )
        info = process_info(
            settings.app or "", self.courier.capsules, VERSION, embedded=site.embedded
        )
        self._heartbeat = Heartbeat(self.courier, self._link, self._limits, self._candidate, info)
        self._heartbeat.on_beat = self._on_beat
        self._heartbeat.switches = lambda: self._gate.board.snapshot.version
        self._poller = Poller(
            self._link,
            self.courier.capsules.queues,
            settings.poll,
            clock=time.time,
            dice=random.random,
            milliseconds=settings.wire is Wire.SIDEKIQ8,
        )
        self._poller.release = Releaser(self._gate).look
        self._roller = Roller(self._link, self._candidate, new_identity(), dice=random.random())
        self._life, self._beats = _Teller("life"), _Teller("beats")
        self._threads: list[threading.Thread] = []
        self._quiet = threading.Event()

    # --- the life ------------------------------------------------------------------

    @property
    def shutdown(self) -> float:
        """How long running jobs may take to end, seconds."""
        return self._settings.shutdown

    def prepare(self) -> None:
        """Look at the server, if it answers, and tell of the startup.

        Raises:
            SettingsError: jobs would be lost there; the worker must not begin.
            HookFailed: a function for the startup raised; likewise.
        """
        rows.known()  # the first job must not wait for its imports
        with contextlib.suppress(StoreError):
            check_boot(self._settings)
        try:
            hooks.fire(Event.STARTUP)
        except BaseException as error:
            raise HookFailed(
                f"a function for the event startup raised {type(error).__name__}: {error}"
            ) from error

    def begin(self, stopped: Callable[[], bool]) -> None:
        """Take a place in Redis, waiting for it until `stopped`, and begin to work."""
        if not self._register(stopped):
            return
        self._say_what_is_held_back()
        self.courier.capsules.start()
        for part in (self.courier, self._heartbeat, self._poller, self._roller):
            self._threads.append(start(part.run, type(part).__name__.lower()))
        log.info("ready", extra={"identity": self.courier.store.identity})

    def quiet(self) -> None:
        """Fetch no more. Cannot be taken back."""
        if self._quiet.is_set():
            return
        self._quiet.set()
        log.info("quiet: no more jobs are fetched")
        self.courier.quiet()
        self._poller.stop()
        self._roller.stop()
        self._life.tell(Event.QUIET)

    @property
    def is_quiet(self) -> bool:
        """Whether no more jobs are fetched."""
        return self._quiet.is_set()

    def close(self, deadline: float, in_haste: Callable[[], bool] = lambda: False) -> bool:
        """Finish what ends until `deadline` (monotonic) and hand back what has not started; says whether nothing runs."""
        self.quiet()
        self._life.tell(Event.SHUTDOWN)
        if not self._threads:
            return True
        self.courier.close()
        closed = self.courier.closed
        while not closed.wait(0.05) and time.monotonic() < deadline and not in_haste():
            pass
        return closed.is_set()

    def leave(self, deadline: float) -> None:
        """Stop beating; say goodbye if nothing is held any more; tell of the exit, waiting until `deadline` at most."""
        self._heartbeat.stop()
        if self.courier.closed.is_set() and self._threads:
            until = time.monotonic() + _GOODBYE
            for thread in self._threads:
                thread.join(max(until - time.monotonic(), 0.0))
            with contextlib.suppress(StoreError):  # others find what is left
                self.courier.leave()
                self._count()
        ended = self._life.tell(Event.EXIT)
        if not ended.wait(max(deadline - time.monotonic(), 0.0)):
            log.warning("a function for the end of this process takes too long: not waited for")

    def dismiss(self) -> None:
        """End every thread and connection of a worker that has left; for a process that goes on."""
        self.courier.dismiss()
        self._processor.checks.close()
        self._loop.stop()
        for teller in (self._life, self._beats):
            teller.stop()
        for link in self._links:
            link.close()

    # --- parts -------------------------------------------------------------------

    def _new_store(self) -> WorkerStore:
        identity = new_identity()
        self._site.identified(identity)
        return AdoptingStore(identity, self._limits, self._candidate, registry.find)

    def _counting(self) -> Minutes | None:
        """Let runs be counted by class, before there are threads that run them; None: nobody wants that."""
        if not self._settings.class_metrics:
            return None
        return Minutes(tallies.begin(), eight=self._settings.wire is Wire.SIDEKIQ8)

    def _link(self) -> Link:
        link = Link(self._settings.redis, timeout=max(0.5, min(2.0, self._limits.heartbeat)))
        self._links.append(link)
        return link

    def _capsules(self, ring: Callable[[], None]) -> list[Capsule]:
        settings, slots = self._settings, count()
        self._processor = processor = Processor(
            find=registry.find,
            wait=self._loop.wait,
            now=time.time,
            dice=random.random,
            deadlines=Deadlines(lambda run: start(run, "deadlines"), self._stuck),
            terms=Terms(
                settings.server_middleware, settings.wire is Wire.SIDEKIQ8, settings.retries
            ),
        )
        processor.checks.ahead = self._waiting
        return [
            Capsule(
                name,
                Crew(
                    self._perform,
                    [self._site.marker(next(slots)) for _ in range(each.concurrency or 1)],
                    ring,
                ),
                orders(each.queues, each.order, random.random),
                dict(each.queues),
                each.order.value,
            )
            for name, each in settings.all_capsules().items()
        ]

    def _perform(self, job: Fetched, entered: Callable[[Context], None]) -> Outcome | None:
        crew = next(iter(self.courier.capsules)).crew  # all have one list of what has ended
        return self._processor.process(job, entered, crew.settle)

    def _waiting(self) -> list[Fetched]:
        return [job for capsule in self.courier.capsules for job in capsule.crew.waiting()]

    def _stuck(self, field: bytes) -> None:
        log.critical("a run ignores its timeout", extra={"field": field.decode()})
        for capsule in self.courier.capsules:
            capsule.crew.blame(field)
        self._site.end()

    def _damaged(self, damage: Damaged) -> None:
        log.critical("%s", damage)
        self._site.end()

    # --- beats -------------------------------------------------------------------

    def _beat_soon(self) -> None:
        self._heartbeat.beat_soon()

    def _on_beat(self, beat: Beat) -> None:
        self._processor.cancelled = beat.cancelled
        self._poller.processes = beat.processes
        if beat.roll:
            self._roller.ask()
        if beat.new:
            self._beats.tell(Event.HEARTBEAT)
        if self._beats.idle or beat.new:
            self._beats.tell(Event.BEAT)
        else:
            log.warning("a function for the event beat takes longer than a beat: not called again")
        if beat.signal in _SIGNALS:
            self._site.signalled(_SIGNALS[beat.signal])
        self._count()

    def _count(self) -> None:
        if count := self._processor.checks.take_unchecked():
            self._heartbeat.count("unchecked", count)
        if self._minutes is not None:
            self._heartbeat.record(self._minutes)

    def _register(self, stopped: Callable[[], bool]) -> bool:
        pause, said = 0.05, False
        while not stopped():
            try:
                if said:  # it did not answer when this process was prepared
                    check_boot(self._settings)
                self.courier.register()
            except StoreError as error:
                if not said:
                    log.warning("waiting for Redis", extra={"error": str(error)})
                said = True
                time.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                return True
        return False

    def _say_what_is_held_back(self) -> None:
        with contextlib.suppress(StoreError):
            seconds = self.courier.store.held_back(self._links[0])
            if seconds:
                log.info(
                    "Redis is new or was emptied: nothing starts until other workers have said what they run",
                    extra={"seconds": round(seconds, 1)},
                )


class _Teller:
    """Calls the functions of the application one event after the other, in a thread of its own: they may take long."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: SimpleQueue[tuple[Event | None, threading.Event]] = SimpleQueue()
        self._last = threading.Event()
        self._last.set()
        self._running = False

    @property
    def idle(self) -> bool:
        """Whether every function has returned."""
        return self._last.is_set()

    def tell(self, event: Event) -> threading.Event:
        """Tell of an event; returns what is set when its functions have returned."""
        if not self._running:
            self._running = True
            start(self._run, self._name)
        self._last = threading.Event()
        self._told.put((event, self._last))
        return self._last

    def stop(self) -> None:
        """End the thread behind what was told."""
        self._told.put((None, threading.Event()))

    def _run(self) -> None:
        while True:
            event, ended = self._told.get()
            if event is None:
                return
            hooks.fire(event)
            ended.set()


def start(run: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that ends with the process."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
