"""A worker's inside in the test's own process: a courier, its job threads, and a heartbeat if wanted, on a real server."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from qik_core.capsule import Capsule
from qik_core.context import Context
from qik_core.courier import Courier
from qik_core.crew import Crew
from qik_core.errors import MalformedPayload
from qik_core.heartbeat import Heartbeat
from qik_core.payload import Payload
from qik_core.store.exchange import Done, Fetched, Kind, Other, Outcome
from qik_core.store.link import Link
from qik_core.store.store import Candidate
from qik_core.store.worker import WorkerStore
from tests.qik_core.store.rig import LIMITS, Rig
from tests.waiting import busy

Start = Callable[..., "Engine"]


class Jobs:
    """What jobs do: job n waits for its gate if there is one. Keeps who ran, and whether two of one number overlapped."""

    def __init__(self) -> None:
        self.runs: Counter[int] = Counter()
        self.ends: Counter[int] = Counter()
        self.overlaps: list[int] = []
        self.gates: dict[int, threading.Event] = {}
        self.contexts: dict[int, Context] = {}
        self._running: set[int] = set()
        self._lock = threading.Lock()

    def slow(self, *numbers: int) -> None:
        """Let these jobs wait until `open`."""
        self.gates |= {number: threading.Event() for number in numbers}

    def open(self) -> None:
        """Let every job end."""
        for gate in self.gates.values():
            gate.set()

    def process(self, job: Fetched, entered: Callable[[Context], None]) -> Outcome:
        try:
            payload = Payload.decode(job.raw)
        except MalformedPayload:
            return Other(job, Kind.GONE, None, "", job.queue)
        number, context = payload.args[0], Context(payload)
        with self._lock:
            self.runs[number] += 1
            self.contexts[number] = context
            if number in self._running:
                self.overlaps.append(number)
            self._running.add(number)
        entered(context)
        if number in self.gates:
            self.gates[number].wait(30)
        with self._lock:
            self._running.discard(number)
            self.ends[number] += 1
        return Done(job)


class Engine:
    """One worker process's courier and threads. Not a process: identities are made up."""

    def __init__(
        self,
        url: str,
        jobs: Jobs,
        *,
        size: int = 4,
        queues: Sequence[str] = ("default",),
        capsules: Mapping[str, Sequence[str]] | None = None,
        beats: bool = False,
        timeout: float = 0.5,
    ) -> None:
        timeout *= busy()  # of an idle machine
        self.changes = 0
        self._candidate = Candidate(0)
        self._links: list[Link] = []

        def link() -> Link:
            self._links.append(Link(url, timeout=timeout))
            return self._links[-1]

        served = {"default": queues, **(capsules or {})}

        def made(ring: Callable[[], None]) -> list[Capsule]:
            return [
                Capsule(
                    name,
                    Crew(jobs.process, [lambda field: None] * size, ring),
                    partial(list, names),
                    dict.fromkeys(names, 1),
                )
                for name, names in served.items()
            ]

        self.courier = Courier(self._store, link, made, self._changed)
        self.heartbeat = Heartbeat(self.courier, link, LIMITS, self._candidate, {})
        self.courier.register()
        self.courier.capsules.start()
        self._threads = [threading.Thread(target=self.courier.run, daemon=True)]
        if beats:
            self._threads.append(threading.Thread(target=self.heartbeat.run, daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def identity(self) -> str:
        return self.courier.store.identity

    def fetch_ahead(self) -> None:
        """Take jobs for quick, as after many that were: a busy machine can make quick ones look slow."""
        for capsule in self.courier.capsules:
            capsule.pace._average = 1e-4

    def stop(self) -> None:
        """End as a child does; every job that runs must be able to end."""
        self.courier.close()
        assert self.courier.closed.wait(10), "the courier did not close"
        self.heartbeat.stop()
        for thread in self._threads:
            thread.join(10)
        self.courier.leave()
        for link in self._links:
            link.close()
        self.courier._bell.close()

    def _store(self) -> WorkerStore:
        return WorkerStore(f"host:1:{os.urandom(4).hex()}", LIMITS, self._candidate)

    def _changed(self) -> None:
        self.changes += 1


def held(rig: Rig) -> int:
    return sum(
        len([field for field in rig.raw.hkeys(key) if field not in (b"#", b"@")])
        for key in rig.raw.scan_iter("qik:working:*")
    )


def drained(rig: Rig) -> bool:
    return not (rig.raw.llen("queue:default") or held(rig) or rig.locks())
