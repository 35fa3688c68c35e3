"""Everything that can happen in a run of the machine, each as one method: clients, workers, a poller, rollers, people, time."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from qik_core.errors import NotEnqueued, OutcomeUnknown, StoreError
from qik_core.payload import Template, stamps
from qik_core.store import Chunk, Origin, Store, due, recovery, rolls
from qik_core.store.exchange import Fetched
from qik_core.store.store import Candidate
from tests.machine.oracle import Oracle
from tests.machine.process import CHANCE, QUEUES, TIME, Process, Run
from tests.machine.wire import Errand, Replace, Server, Step, Wire, Wires

WINDOW: Final = 60
"""`unique_for` of every key, seconds."""
EXCLUSIVE: Final = 3
"""Keys below this number are held until success, the next one until start; none is a job without a lock."""


def digest(key: int) -> str:
    """Return the digest of a key."""
    raw = hashlib.blake2b(b"%d" % key, digest_size=16).digest()
    return base64.urlsafe_b64encode(raw)[:22].decode()


class Witness:
    """Is told what happens. This one forgets it."""

    def step(self, world: World, step: Step) -> None:
        """A command was run that may have changed something."""

    def note(self, event: str, identity: str) -> None:
        """A process crashed, froze or thawed."""

    def healing(self) -> None:
        """No faults any more: from here on, all is put right."""


class World:
    """One run: a server, what moves on it, and what watches."""

    def __init__(
        self,
        url: str,
        *,
        workers: int = 2,
        replace: Replace | None = None,
        promote: Callable[..., object] = due.promote,
        witness: Witness | None = None,
    ) -> None:
        self._witness = witness or Witness()
        self.processes: list[Process] = []
        self.oracle = Oracle(lambda: self.processes)
        self.server = Server(url, replace or {}, self._watch)
        TIME.clock, CHANCE.drawn = self.server.clock, 0
        self._promote = promote
        self._born = self._jids = self._rolls = 0
        self.store = Store(url)
        self.store.links = Wires(self.server, "client")
        self.clients: list[Errand] = []
        self.rollers: list[Errand] = []
        self.helpers: list[Errand] = []
        self.poller = Wire(self.server, "poller")
        self.store.look()
        self.server.now += 7.0  # the first epoch holds nothing back
        for _ in range(workers):
            self.born()

    def _watch(self, step: Step) -> None:
        self._witness.step(self, step)
        self.oracle.watch(step)

    # --- clients -------------------------------------------------------------------

    def push(
        self,
        numbers: Sequence[int | None],
        *,
        origin: Origin = Origin.EDGE,
        queue: str = "default",
        delay: float = 0.0,
        version: str = "",
        lose: bool = False,
    ) -> None:
        """Push jobs of these keys, all with a lock or all without one; `lose`: the answer does not come."""
        chunk = self._chunk(numbers, origin, queue, delay, version)
        errand = Errand(lambda: self._push(chunk))
        if lose:
            errand.step()
            self.clients.append(errand)
        else:
            errand.finish()

    def client_goes_on(self, at: int, *, lose: bool) -> None:
        """A client whose answer has not come gets it, or sends again."""
        if self.clients[at].step(lose=lose):
            del self.clients[at]

    def _push(self, chunk: Chunk) -> None:
        with suppress(NotEnqueued, OutcomeUnknown):
            self.store.push(chunk, now=self.server.clock)

    def _chunk(
        self, numbers: Sequence[int | None], origin: Origin, queue: str, delay: float, version: str
    ) -> Chunk:
        locked = [number for number in numbers if number is not None]
        mark = "S" if all(number < EXCLUSIVE for number in locked) else "T"
        jids = [b"%024x" % (self._jids + n) for n in range(1, len(numbers) + 1)]
        self._jids += len(numbers)
        forms = [f"{digest(number)}{mark}{WINDOW}".encode() for number in locked] or [b"-"] * len(
            jids
        )
        template = Template(queue, {"class": "MachineRow", "retry": 25})
        tail = stamps(self.server.now, queued=delay <= 0)
        return Chunk(
            queue=queue,
            jids=jids,
            payloads=[
                template.build(form, jid, b"[1]", tail)
                for form, jid in zip(forms, jids, strict=True)
            ],
            digests=[digest(number).encode() for number in locked] or None,
            seconds=WINDOW if locked else 0,
            until="success" if mark == "S" else "start",
            origin=origin,
            delays=[delay] * len(jids) if delay > 0 else None,
            versions=[version.encode()] * len(jids) if version else None,
        )

    # --- workers ---------------------------------------------------------------------

    def born(self) -> Process:
        """Start a process."""
        self._born += 1
        process = Process(self.server, self._born)
        self.processes.append(process)
        process.look()
        return process

    def start(self, process: Process) -> None:
        """Start the next job of a process's pocket."""
        run = process.hands.start()
        self.oracle.started(process, run, self.server.state)

    def end(self, process: Process, run: Run, fate: str) -> None:
        """End a job; a cancelled one stops."""
        process.finish(run, fate)
        if fate in ("ok", "discard", "terminal") and run.digest:
            self.oracle.ended_run(run)

    def freeze(self, process: Process) -> None:
        """Stop a process, as SIGSTOP does."""
        process.frozen = True
        self._witness.note("freeze", process.identity)
        for run in process.hands.busy:
            run.was_frozen = True

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on."""
        process.frozen = False
        self._witness.note("thaw", process.identity)
        self.oracle.check_overlaps(process, self.server.state)

    def crash(self, process: Process, *, seen: bool) -> None:
        """Kill a process, and start another in its place; `seen`: its parent helps at once."""
        self._bury(process)
        if seen:
            self._help(process.identity, [run.job.field for run in process.hands.busy])
        self.born()

    def close(self, process: Process) -> None:
        """Ask a process to end."""
        process.courier.close()

    def leave(self, process: Process) -> None:
        """Let a process end that has nothing more; what it could not finish is its parent's."""
        left = bool(process.hands.busy or process.courier.held)
        if not left:
            try:
                process.courier.leave()
            except StoreError:
                left = True
        self._bury(process)
        self._help(process.identity)
        self.born()

    def _bury(self, process: Process) -> None:
        self._witness.note("crash", process.identity)
        process.kill()
        self.processes.remove(process)

    def _help(self, identity: str, started: Sequence[bytes] = ()) -> None:
        link, candidate, charged = Wire(self.server, "helper"), Candidate(), frozenset(started)

        def home(
            job: Fetched,
        ) -> tuple[recovery.Home, bytes]:  # who is to blame is no matter of the store
            suspected = job.field in charged
            return recovery.Home.SUSPECTS if suspected else recovery.Home.QUEUE, b""

        def work() -> None:
            recovery.fence(link, identity, recovery.SURE)
            recovery.recover(link, identity, candidate, home=home)

        self.helpers.append(Errand(work))

    # --- the poller, rollers -----------------------------------------------------------

    def promote(self, source: bytes) -> None:
        """Move what is due."""
        self._promote(self.poller, source)

    def roll(self) -> None:
        """Begin a roll, beside any other."""
        link, candidate = Wire(self.server, "roller"), Candidate()
        self._rolls += 1
        name, deadline = f"roller-{self._rolls}", self.server.now + 60.0

        def work() -> None:
            clock = self.server.clock
            rolls.roll(link, candidate, name, deadline=deadline, now=clock, wait=lambda _: None)

        self.rollers.append(Errand(work))

    def audit(self) -> int:
        """Compare counts with lists."""
        missing = self.store.audit(QUEUES)
        if missing and not self.rollers:
            self.roll()
        return missing

    # --- people ----------------------------------------------------------------------------

    def flush(self) -> None:
        """Empty the whole server."""
        self.server.operate("flush", ("FLUSHALL",))

    def delete(self, *names: bytes) -> None:
        """Delete keys by hand."""
        self.server.operate("delete", ("DEL", *names))

    # --- time --------------------------------------------------------------------------------

    def hop(self, seconds: float) -> None:
        """Let time pass; who is up does in time what it does every second and every heartbeat."""
        for process in self._up():
            process.catch_up()
        self.server.hop(seconds)
        for process in self._up():
            if seconds > 1.0:
                process.beat_whole()
                process.catch_up()

    def _up(self) -> list[Process]:
        return [process for process in self.processes if process.up]

    # --- the end -------------------------------------------------------------------------------

    def heal(self) -> None:
        """End all faults, then work until nothing is left; every row must be told and done, and no lock stay."""
        self._witness.healing()
        for process in self.processes:
            if process.frozen:
                self.thaw(process)
        for errand in self.clients:
            errand.finish()
        self.clients = []
        for _ in range(6 * self._has_lost()):  # long enough for every lost process to be noticed
            self.hop(5.0)
        for round_ in range(12):
            self._round(tell=round_ > 0)
            if round_ > 0 and not self._left():
                return
        raise AssertionError(f"not drained: {self._left()}")

    def _has_lost(self) -> bool:
        """Whether something is left of a process that is no more, and nobody is on the way to help."""
        here = {process.identity for process in self.processes}
        return any(
            mark != b"fenced" for name, mark in self.server.state.marks.items() if name not in here
        )

    def _round(self, *, tell: bool) -> None:
        for errand in self.helpers:
            errand.finish()
        self.helpers = []
        if tell:
            self._pass()
        for source in due.sources(list(QUEUES)):
            self.promote(source)
        while self._work():
            pass
        if self.audit() or tell:
            self.roll()
        self._finish_rolls()
        if self._left():
            self.hop(61.0)
            self.hop(600_000.0)

    def _pass(self) -> None:
        for number in range(EXCLUSIVE + 1):
            if self.oracle.key(digest(number)).pending:
                self.push([number], origin=Origin.PASS)

    def _work(self) -> bool:
        """Let everybody run what there is; says whether anything was run or is left to run."""
        before = self.oracle.runs
        for process in self._up():
            process.beat_whole()  # suspects run by right of a beat
            process.look()
            if process.courier.closed.is_set():
                self.leave(process)
                continue
            while process.hands.may_start():
                self.start(process)
            for run in list(process.hands.busy):
                self.end(process, run, "ok")
            process.look()
        return self.oracle.runs > before

    def _finish_rolls(self) -> None:
        for turn in range(200):
            self.rollers = [errand for errand in self.rollers if not errand.step()]
            if not self.rollers:
                return
            for process in self._up():
                process.beat_whole()
            if turn > 20:  # one that gave up keeps others from walking for a minute
                self.hop(5.0)
        raise AssertionError("a roll does not end")

    def _left(self) -> dict[str, Any]:
        state, known = self.server.state, self.oracle.keys.values()
        pending = [key for key in known if key.pending or key.need]
        copies = [copy for copy in state.copies if copy.unfinished]
        left = {"copies": copies, "locks": state.locks, "pending": pending}
        return {name: found for name, found in left.items() if found}

    def stop(self) -> None:
        """End everything that is under way, and forget it."""
        for process in list(self.processes):
            process.kill()
        for errand in (*self.clients, *self.helpers, *self.rollers):
            errand.kill()
        self.server.close()
