"""What one worker process says to Redis: exchange, beat, assert, give back, leave.

Every method takes the link to use, because the courier and the heartbeat each own one. None of them retries: an exchange
is numbered, so the courier sends it again; a beat that fails is followed by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qik_core.store import keys, switches
from qik_core.store.epoch import Epoch
from qik_core.store.exchange import Answer, Fetched, Outcome, pack, queue_of
from qik_core.store.link import Arg, Link
from qik_core.store.push import MOST
from qik_core.store.store import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the scripts need to know of the settings. Seconds, unless the name says otherwise."""

    heartbeat: float = 5.0
    lease: float = 30.0
    dead_max: int = 10_000
    dead_seconds: float = 180 * 86_400.0

    @property
    def hold_ms(self) -> int:
        """After a loss nothing starts for H + 1 s, so that every process can assert what it runs."""
        return int((self.heartbeat + 1) * 1000)

    @property
    def lock_life(self) -> float:
        """The least life of a running lock: 3 L."""
        return 3 * self.lease


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a beat."""

    fenced: bool
    epoch: Epoch
    time: float
    signal: str
    roll: bool
    """Somebody asks for a roll."""
    new: bool
    """Redis did not know this process, or had forgotten it."""
    lost: bool
    """It has no working hash of this process: what runs here is not asserted yet, and such a beat acknowledges nothing."""
    alone: bool
    """This process got the right to run a suspect."""
    processes: int
    """How many processes are alive, this one included."""
    cancelled: frozenset[str]
    """Jids that somebody cancelled lately."""
    fields: Sequence[bytes]
    """What Redis says this process holds."""


class Held(NamedTuple):
    """One job of an assertion."""

    field: bytes
    settling: bool
    """Its outcome is under way: the lock is renewed if it is ours, never taken."""
    raw: bytes = b""
    """To be restored into the working hash; empty: it is there."""


class WorkerStore:
    """The scripts of one process under one identity."""

    def __init__(self, identity: str, limits: Limits, candidate: Candidate) -> None:
        self.identity = identity
        self.limits = limits
        self._candidate = candidate
        self._working = keys.working(identity)
        self._holder = keys.holder(identity)

    def exchange(self, link: Link, sequence: int, call: Sequence[Arg]) -> Answer:
        """Send exchange `sequence`; `call` comes from `prepare` and stays the same until it is answered."""
        reply = link.run("exchange", (self._working,), (self._candidate.text, sequence, *call))
        answer = Answer.parse(reply, sequence)
        self._candidate.seen(answer.epoch)
        return answer

    def prepare(
        self,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        want: int,
        *,
        suspects: bool = False,
    ) -> Sequence[Arg]:
        """Return the arguments of an exchange: at most 500 outcomes, at most 500 jobs wanted.

        With `suspects`, the jobs wanted are those of these queues under which a process has died.
        """
        limits = self.limits
        day = time.strftime("%Y-%m-%d", time.gmtime())
        return (
            self.identity,
            self._holder,
            min(want, MOST),
            limits.hold_ms,
            limits.lock_life,
            limits.dead_max,
            limits.dead_seconds,
            day,
            ("! " if suspects else "") + " ".join(queues),
            *pack(outcomes, b"|" + self._holder),
        )

    def beat(
        self,
        link: Link,
        info: Sequence[Arg],
        work: Sequence[Arg] = (),
        *,
        queues: Sequence[str] = (),
        wish: str = "n",
    ) -> Beat:
        """Say that this process is alive; `info` and `work` are flat pairs for Sidekiq's pages.

        `wish` says of the right to run suspects of these queues: k it is being used, y it would be, n not now.
        """
        names = (
            keys.process(self.identity),
            keys.signals(self.identity),
            self._working,
            keys.work(self.identity),
        )
        lease = int(self.limits.lease * 1000)
        head = (self._candidate.text, self.identity, " ".join(queues), wish, lease, len(info))
        reply = link.run("beat", names, (*head, *info, *work))
        status, epoch, now, signal, flags, processes, cancelled, *fields = reply
        return Beat(
            status == b"fenced",
            self._candidate.seen(Epoch.parse(epoch)),
            float(now),
            signal.decode(),
            b"r" in flags,
            b"n" in flags,
            b"l" in flags,
            b"a" in flags,
            processes,
            frozenset(jid.decode("utf-8", "replace") for jid in cancelled),
            fields,
        )

    def hold(
        self, link: Link, held: Sequence[Held], *, mark: str = "", generation: str = ""
    ) -> set[bytes] | None:
        """Renew the locks of these jobs; `mark` (`<seq>:<count>`) also brings the working hash back after a loss.

        `generation` is the one in which a beat named the jobs; empty where they are surely all that is held.
        Returns the fields that another holder has superseded, None when this process is fenced.
        """
        superseded: set[bytes] = set()
        for part, last in _parts(held):
            args: list[Arg] = [
                self._candidate.text,
                self._holder,
                self.limits.lock_life,
                mark,
                (generation or "*") if last else "",
            ]
            for job in part:
                args += (job.field, "s" if job.settling else "-", job.raw)
            status, epoch, _, *fields = link.run("assert", (self._working,), args)
            seen = self._candidate.seen(Epoch.parse(epoch))
            if status == b"fenced":
                return None
            superseded.update(fields)
            generation = generation or seen.generation  # a roll may begin between two parts
        return superseded

    def adopt(self, link: Link, jobs: Sequence[Fetched]) -> set[bytes] | None:
        """Take the locks of jobs that were fetched without them; their bytes replace what the working hash has.

        Returns the fields of those whose key another holds, which are gone; None when this process is fenced.
        """
        refused: set[bytes] = set()
        for part, _ in _parts(jobs):
            args: list[Arg] = [self._candidate.text, self._holder, self.limits.lock_life]
            for job in part:
                args += (job.field, job.raw)
            status, epoch, _, *fields = link.run("adopt", (self._working,), args)
            self._candidate.seen(Epoch.parse(epoch))
            if status == b"fenced":
                return None
            refused.update(fields)
        return refused

    def switches(self, link: Link, version: int, counts: Mapping[str, int]) -> bytes:
        """Return the kill switches if they are newer than that version, else nothing. Raises StoreError."""
        return switches.read(link.run, version, counts)

    def held_back(self, link: Link) -> float:
        """Return for how many seconds more nothing is handed out, because the data in Redis is new. Raises StoreError."""
        text, now = link.run("look", (), (self._candidate.text,))
        epoch = self._candidate.seen(Epoch.parse(text))
        left = self.limits.hold_ms - (float(now) * 1000 - epoch.birth_ms)
        return left / 1000 if 0 < left <= self.limits.hold_ms else 0.0

    def give_back(self, link: Link, jobs: Sequence[Fetched]) -> int | None:
        """Return unstarted jobs to their queues, next to be fetched; says how many went.

        None: Redis does not know this process any more, so nothing went; the next exchange says so and asserts.
        """
        given = 0
        for part, _ in _parts(jobs):
            args: list[Arg] = [self._candidate.text, self._holder, "0"]
            for job in part:
                args += ("q", job.field, job.queue, b"")
            status, _, _, moved, _ = link.run("giveback", (self._working,), args)
            if status == b"lost":
                return None
            given += moved
        return given

    def count(self, link: Link, name: str, number: int) -> None:
        """Add to a total that is kept for people; raises StoreError."""
        link.run("count", (), (name, number))

    def read(self, link: Link, fields: Sequence[bytes]) -> list[Fetched]:
        """Return these jobs as the working hash has them; what is gone is left out."""
        return read_jobs(link, self._working, fields)

    def leave(self, link: Link, queues: Sequence[str]) -> bool:
        """Say goodbye; False when jobs are still held, which recovery will find."""
        names = (self._working, keys.process(self.identity), keys.work(self.identity))
        return bool(link.run("leave", names, (self.identity, *queues)))

    def sleep(self, link: Link, seconds: float) -> None:
        """Ask to be woken by a push; the answer comes through `link.receive` when its socket is readable."""
        link.send("BLPOP", keys.wake(self.identity), seconds)


def _parts(items: Sequence[Any]) -> Iterator[tuple[Sequence[Any], bool]]:
    """Yield slices of at most 500, at least one, and whether it is the last."""
    for start in range(0, max(len(items), 1), MOST):
        yield items[start : start + MOST], start + MOST >= len(items)


def read_jobs(link: Link, key: bytes, fields: Sequence[bytes]) -> list[Fetched]:
    """Return these jobs of a working hash, each with the queue that it belongs to."""
    jobs: list[Fetched] = []
    for part, _ in _parts(fields):
        raws = link.call("HMGET", key, *part) if part else []
        jobs += [
            Fetched(name, raw, queue_of(raw))
            for name, raw in zip(part, raws, strict=True)
            if raw is not None
        ]
    return jobs
