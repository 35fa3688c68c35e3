"""The two sides of an exchange: outcomes of finished jobs go out, the next jobs come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from qik_core.payload import Unique
from qik_core.store.epoch import Epoch
from qik_core.store.link import Arg


class Fetched(NamedTuple):
    """A job that this process holds in its working hash until it is settled."""

    field: bytes
    """`<seq>.<n>`: where it is in the working hash. Never the jid: a jid may come twice, and malformed jobs have none."""
    raw: bytes
    queue: str


class Kind(StrEnum):
    """What becomes of a job that did not end well."""

    RETRY = "t"
    DEAD = "d"
    BACK = "b"
    GONE = "x"


@dataclass(frozen=True, slots=True)
class Done:
    """The job ended well."""

    job: Fetched
    unique: Unique | None = None
    jid: str = ""
    again: bytes = b""
    """What to put on the queue if an edge came meanwhile; empty: the bytes as they were fetched."""


@dataclass(frozen=True, slots=True)
class Other:
    """The job did not end well, or must not run."""

    job: Fetched
    kind: Kind
    unique: Unique | None
    jid: str
    queue: str
    payload: bytes = b""
    """What stands in the retry set, the dead set or the queue from now on."""
    delay: float = 0.0
    """Seconds until the retry."""
    again: bytes = b""
    failed: bool = True
    """Counts into Sidekiq's `stat:failed`."""


Outcome = Done | Other


class Status(StrEnum):
    """What `exchange.lua` says of a call."""

    DONE = "done"
    AGAIN = "again"  # a re-send: the same jobs as before
    IDLE = "idle"  # nothing settled, nothing found; the number is free again
    LOST = "lost"  # Redis forgot this process, or went back in time: assert, then repeat
    FENCED = "fenced"  # others took over: drop everything, come back under a new identity


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of `exchange.lua`."""

    status: Status
    epoch: Epoch
    time: float
    superseded: int = 0
    jobs: Sequence[Fetched] = field(default_factory=tuple)

    @classmethod
    def parse(cls, reply: Sequence[bytes], sequence: int) -> Answer:
        """Return the answer in a reply; fields are numbered in the order of the jobs."""
        status, epoch, time, superseded = reply[:4]
        pairs = zip(reply[4::2], reply[5::2], strict=True)
        jobs = [
            Fetched(b"%d.%d" % (sequence, n), raw, queue.decode())
            for n, (raw, queue) in enumerate(pairs, 1)
            if raw
        ]
        return cls(Status(status.decode()), Epoch.parse(epoch), float(time), int(superseded), jobs)


def pack(outcomes: Sequence[Outcome]) -> list[Arg]:
    """Return the outcomes as the last arguments of `exchange.lua`."""
    plain: list[Arg] = []
    locked: list[Arg] = []
    others: list[Arg] = []
    failures = 0
    for outcome in outcomes:
        if type(outcome) is Done:
            unique = outcome.unique
            if unique is None or unique.until == "start":
                plain.append(outcome.job.field)
            else:
                locked += (
                    outcome.job.field,
                    unique.digest,
                    outcome.jid,
                    unique.seconds,
                    outcome.again,
                )
        elif type(outcome) is Other:
            failures += outcome.failed
            others += _other(outcome)
    return [len(plain), len(locked) // 5, len(others) // 8, failures, *plain, *locked, *others]


def _other(outcome: Other) -> tuple[Arg, ...]:
    unique = str(outcome.unique) if outcome.unique else "-"
    head = (outcome.kind.value, outcome.job.field, unique, outcome.jid, outcome.queue)
    return (
        *head,
        outcome.delay,
        outcome.payload or outcome.job.raw,
        outcome.again or outcome.job.raw,
    )
