"""The two sides of an exchange: outcomes of finished jobs go out, the next jobs come in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from qik_core.errors import QikError
from qik_core.payload import Payload, Unique, header
from qik_core.store import keys
from qik_core.store.epoch import Epoch
from qik_core.store.link import Arg
from qik_core.store.push import MOST

# The header of a job that holds its lock until success: digest, jid.
_LOCK: Final = re.compile(rb'\{"qik":"([\w-]{22})S\d+","jid":"([\w-]+)"', re.ASCII)
_ENDS: Final = [b".%d" % n for n in range(1, MOST + 1)]
_new: Final = tuple.__new__


class Fetched(NamedTuple):
    """A job that this process holds in its working hash until it is settled."""

    field: bytes
    """`<seq>.<n>`: where it is in the working hash. Never the jid: a jid may come twice, and malformed jobs have none."""
    raw: bytes
    queue: str


class Kind(StrEnum):
    """What becomes of a job that did not end well."""

    RETRY = "t"
    LATER = "s"  # not failed, and to run again after a delay
    DEAD = "d"
    BACK = "b"
    GONE = "x"
    HELD = "h"  # its class is switched off, and no reconciler tells it again
    OFF = "o"  # its class is switched off, and is told again: gone, even if an edge came meanwhile


class Done(msgspec.Struct, frozen=True, gc=False):
    """The job ended well."""

    job: Fetched
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
    """Of a job that is HELD, its class: by that it is held."""
    payload: bytes = b""
    """What stands in the retry set, the dead set or the queue from now on."""
    delay: float = 0.0
    """Seconds until the retry, or the next run."""
    again: bytes = b""
    failed: bool = True
    """Counts into Sidekiq's `stat:failed`."""
    counter: str = ""
    """Which of our counters it counts into: expired, discarded, …"""
    note: bytes = b""
    """What the reconciler is told if this is its end: see `store.ended`; empty: nothing. Of a job that is OFF, the flag."""


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
    def parse(cls, reply: Sequence[Any], sequence: int) -> Answer:
        """Return the answer in a reply; fields are numbered in the order of the jobs."""
        status, epoch, time, superseded = reply[:4]
        front, raws, jobs = b"%d" % sequence, reply[5:], []
        words, at = reply[4].decode().split(" "), 0
        for queue, count in zip(words[::2], map(int, words[1::2]), strict=False):
            # tuple.__new__ is what Fetched(…) calls, a third of a microsecond later
            jobs += [
                _new(Fetched, (front + end, raw, queue if queue != "?" else queue_of(raw)))
                for end, raw in zip(_ENDS[at : at + count], raws[at : at + count], strict=True)
                if raw is not None
            ]
            at += count
        return cls(Status(status.decode()), Epoch.parse(epoch), float(time), int(superseded), jobs)


def pack(outcomes: Sequence[Outcome], holder: bytes) -> list[Arg]:
    """Return the outcomes as the last arguments of `exchange.lua`."""
    plain: list[Arg] = []
    locked: list[Arg] = []
    others: list[Arg] = []
    again: list[Arg] = []
    failures = 0
    for outcome in outcomes:
        if type(outcome) is Done:
            lock = _LOCK.match(outcome.job.raw)
            if lock is None:
                plain.append(outcome.job.field)
            else:
                digest, jid = lock.groups()
                locked += (outcome.job.field, digest, jid + holder)
                if outcome.again:
                    again += (outcome.job.field, outcome.again)
        elif type(outcome) is Other:
            failures += outcome.failed
            others += _other(outcome)
    counts = (len(plain), len(locked) // 3, len(others) // 10, failures)
    return [*counts, *plain, *locked, *others, *again]


def _other(outcome: Other) -> tuple[Arg, ...]:
    unique = str(outcome.unique) if outcome.unique else "-"
    head = (outcome.kind.value, outcome.job.field, unique, outcome.jid, outcome.queue)
    return (
        *head,
        outcome.delay,
        outcome.payload or outcome.job.raw,
        outcome.again or outcome.job.raw,
        outcome.counter,
        outcome.note,
    )


def queue_of(raw: bytes) -> str:
    """Return the queue that a payload names; `default` for one that names none that can be."""
    ours = header(raw)
    if ours is not None:
        return ours[2]
    try:
        return keys.check_queue(Payload.decode(raw).queue)
    except QikError:
        return "default"
