"""One worker process, driven by hand: the engine's own courier, heartbeat and processor, and jobs that end when told."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import pytest

from qik_core import Job, courier, heartbeat
from qik_core.alone import Alone
from qik_core.bell import Bell
from qik_core.capsule import Capsule
from qik_core.context import Context
from qik_core.courier import Courier
from qik_core.crew import FRESH, Crew
from qik_core.deadlines import Deadlines
from qik_core.errors import StoreError
from qik_core.heartbeat import Heartbeat
from qik_core.outcomes import Discard, RequeueAfter, Terminal
from qik_core.payload import header
from qik_core.processor import Processor
from qik_core.store import rolls, store
from qik_core.store.exchange import Fetched, Outcome
from qik_core.store.store import Candidate
from qik_core.store.worker import Limits, WorkerStore
from tests.machine.wire import Errand, Server, Wire

LIMITS: Final = Limits(heartbeat=5.0, lease=30.0)
QUEUES: Final = ("default", "low")
FATES: Final[dict[str, Callable[[], BaseException | None]]] = {
    "ok": lambda: None,
    "fails": lambda: RuntimeError("as told"),
    "terminal": lambda: Terminal("as told"),
    "discard": lambda: Discard("as told"),
    "later": lambda: RequeueAfter(5.0),
    "again": lambda: RequeueAfter(0.0),
}
log: Final = logging.getLogger("qik_core")
_fate: list[str] = ["ok"]


class MachineRow(Job, retry=25):
    """A job that ends as it was told to; one that does not end well looks first whether it is cancelled."""

    def perform(self, n: int) -> None:
        if _fate[0] != "ok":
            self.context.checkpoint()
        error = FATES[_fate[0]]()
        if error is not None:
            raise error


class _Time:
    """Stands where the engine's modules have `time`."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = lambda: 0.0

    def monotonic(self) -> float:
        return self.clock()

    def time(self) -> float:
        return self.clock()

    def sleep(self, seconds: float) -> None:
        """Return at once: who waits is an errand, and time passes for all."""


class _Chance:
    """Stands where the engine's modules have `os`: names that are made up are the same in each run of the same run."""

    def __init__(self) -> None:
        self.drawn = 0

    def urandom(self, size: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(size)


TIME: Final = _Time()
CHANCE: Final = _Chance()


@contextmanager
def our_time() -> Iterator[None]:
    """Give the engine's modules our time for as long as a machine runs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (courier, heartbeat, store):
            patch.setattr(module, "time", TIME)
        for module in (store, rolls):
            patch.setattr(module, "os", CHANCE)
        patch.setattr(heartbeat, "clock", TIME.monotonic)
        level = log.level
        log.setLevel(logging.CRITICAL + 1)  # what is lost on purpose is nothing to tell a person
        try:
            yield
        finally:
            log.setLevel(level)


@dataclass(slots=True, eq=False)
class Run:
    """A job that has been started and has not ended."""

    job: Fetched
    jid: str
    digest: str
    exclusive: bool
    started: float
    was_frozen: bool = False
    cancelled: bool = False


class Hands:
    """What a courier knows as its crew: jobs start and end when they are told to."""

    def __init__(self, clock: Callable[[], float], size: int = 2) -> None:
        self.size = size
        self.pocket: deque[Fetched] = deque()
        self.done: deque[Outcome] = deque()
        self.wants_to_hear = False
        self.runs = 0
        self.seconds = 0.0
        self.busy: list[Run] = []
        self.looked_at = -FRESH
        self._clock = clock

    @property
    def idle(self) -> int:
        return self.size - len(self.busy)

    def running(self) -> list[Fetched]:
        return [run.job for run in self.busy]

    def running_since(self) -> list[tuple[Fetched, float]]:
        return [(job, 0.0) for job in self.running()]

    def add(self, jobs: Iterable[Fetched]) -> None:
        self.pocket.extend(jobs)

    def call(self, jobs: int) -> None:
        """Nobody sleeps."""

    def empty_pocket(self) -> list[Fetched]:
        taken = list(reversed(self.pocket))
        self.pocket.clear()
        return taken

    def cancel(self, fields: Iterable[bytes]) -> None:
        wanted = set(fields)
        for run in self.busy:
            run.cancelled |= run.job.field in wanted

    def may_start(self) -> bool:
        return self.idle > 0 and bool(self.pocket) and self._clock() - self.looked_at <= FRESH

    def start(self) -> Run:
        job = self.pocket.popleft()
        unique, jid, _ = header(job.raw) or ("-", "", "")
        run = Run(
            job, jid, unique[:22] if len(unique) > 22 else "", unique[22:23] == "S", self._clock()
        )
        self.busy.append(run)
        self.runs += 1
        return run


def _wait_no_real_time(bell: Bell) -> None:
    """Time here passes by hops; a courier that closes would sleep for most of a second at each of its looks."""
    wait = bell.wait
    bell.wait = lambda _: wait(0.0)  # type: ignore[method-assign, assignment]


class Process:
    """A worker process: what it does next, and whether it can."""

    def __init__(self, server: Server, number: int) -> None:
        self.name = f"p{number}"
        self.server = server
        self.frozen = self.dead = False
        self.beaten = server.now
        self.wants_to_beat = True
        self.registered = False
        self.candidate = Candidate()
        self.hands = Hands(server.clock)
        self._identities = 0
        capsule = Capsule(
            "default", cast("Crew", self.hands), lambda: list(QUEUES), dict.fromkeys(QUEUES, 1)
        )
        self.courier = Courier(
            self._new_store,
            lambda: Wire(server, self.name),
            lambda ring: [capsule],
            self._beat_soon,
        )
        self.courier.alone = Alone(LIMITS.heartbeat, server.clock)
        _wait_no_real_time(self.courier._bell)
        self.heartbeat = Heartbeat(
            self.courier, lambda: Wire(server, self.name), LIMITS, self.candidate, {}
        )
        self._processor = Processor(
            find=lambda name: MachineRow.definition,
            wait=lambda work, when_cancelled: None,
            now=server.clock,
            dice=lambda: 0.0,
            deadlines=Deadlines(lambda run: None, lambda field: None),
        )
        self.exchanging: Errand | None = None
        self.beating: Errand | None = None

    @property
    def identity(self) -> str:
        return self.courier.store.identity

    @property
    def up(self) -> bool:
        """Whether it can do anything now."""
        return not (self.frozen or self.dead)

    # --- one step of one of its threads ----------------------------------------

    def exchange(self, *, lose: bool = False) -> None:
        """Let the courier's thread go on."""
        if self.exchanging is None:
            self.exchanging = Errand(self._step if self.registered else self._register)
        if self.exchanging.step(lose=lose):
            self.exchanging = None

    def hand_back(self) -> None:
        """Nothing was started for too long: let the courier's thread begin to return what waits."""
        if self.exchanging is None and self.registered:
            self.exchanging = Errand(self._return)
            self.exchange()

    def beat(self, *, lose: bool = False) -> None:
        """Let the heartbeat's thread go on."""
        if self.beating is None:
            self.beating = Errand(self._beat)
        if self.beating.step(lose=lose):
            self.beating = None

    def finish(self, run: Run, fate: str) -> None:
        """End a job."""
        self.hands.busy.remove(run)
        _fate[0] = fate

        def entered(context: Context) -> None:
            if run.cancelled:
                context.cancel()

        self.hands.done.append(self._processor.process(run.job, entered))

    # --- more than one step ------------------------------------------------------

    def catch_up(self) -> None:
        """Do what a process does within a second, if it is not frozen: look at the epoch, and assert after a loss."""
        size, self.hands.size = self.hands.size, 0  # nobody wants a job meanwhile
        while not self._settled():
            pass
        self.hands.size = size
        if self.wants_to_beat:
            self.beat_whole()

    def beat_whole(self) -> None:
        """Beat, from the beginning to the end."""
        if self.beating is not None:
            self.beating.finish()
            self.beating = None
        self._beat()

    def look(self) -> None:
        """Exchange, from the beginning to the end."""
        if self.exchanging is not None:
            self.exchanging.finish()
            self.exchanging = None
        if not self.registered:
            self._register()
        self._step()

    def kill(self) -> None:
        """Die: what was on its way stays where it is, and memory is gone."""
        self.dead = True
        for errand in (self.exchanging, self.beating):
            if errand is not None:
                errand.kill()
        self.exchanging = self.beating = None
        self.courier._bell.close()

    # --- what its threads run ------------------------------------------------------

    def _settled(self) -> bool:
        """Look once, and say whether that look brought an answer that counts."""
        epoch = self.courier._epoch
        self.look()
        sent: Any = self.courier._sent
        return self.registered and sent is None and (self.courier._epoch == epoch)

    def _register(self) -> None:
        try:
            self.courier.register()
        except StoreError:
            return
        self.registered = True

    def _step(self) -> None:
        self.courier._looked_at = float("-inf")  # it is time for an exchange, always
        try:
            self.courier._step()
        except StoreError:
            return

    def _return(self) -> None:
        try:
            self.courier._hand_back(self.hands.empty_pocket())
        except StoreError:
            return

    def _beat(self) -> None:
        try:
            self.wants_to_beat = False
            asked = self.server.now
            self.heartbeat.beat()
            self.beaten = asked
            self.heartbeat._look_for_the_lost()
        except StoreError:
            self.wants_to_beat = True
            self.heartbeat._watch.blind()

    def _beat_soon(self) -> None:
        self.wants_to_beat = True

    def _new_store(self) -> WorkerStore:
        self._identities += 1
        return WorkerStore(f"{self.name}:{self._identities}:aa", LIMITS, self.candidate)
