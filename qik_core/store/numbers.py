"""Numbers about everything, and what processes say of themselves; read in as few round trips as there can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from qik_core.store import keys
from qik_core.store.link import Links
from qik_core.store.windows import typed


class QueueNumbers(NamedTuple):
    """One queue; a size of -1 means that its key holds something else."""

    name: str
    size: int
    paused: bool
    oldest: bytes
    """`enqueued_at` of the job that is fetched next, or, behind `=`, that whole job."""


@dataclass(slots=True)
class Numbers:
    """Everything that is counted; a count of -1 means that its key holds something else."""

    time: float = 0.0
    """The server's clock, epoch seconds."""
    processed: int = 0
    failed: int = 0
    scheduled: int = 0
    retries: int = 0
    dead: int = 0
    processes: int = 0
    busy: int = 0
    queues: list[QueueNumbers] = field(default_factory=list)


class ProcessRow(NamedTuple):
    """What one process says of itself, as it wrote it."""

    identity: str
    beat: Sequence[bytes]
    """info, concurrency, busy, beat, quiet, rss, rtt_us; empty where it said nothing."""
    work: Sequence[bytes]
    """Thread, work, thread, work, …"""


def numbers(links: Links) -> Numbers:
    """Return all numbers: one script, and one more for each further 500 queues or processes. Raises StoreError."""
    total, names = Numbers(), set()
    queues: bytes | str = "0"
    processes: bytes | str = "0"
    while queues != b"-" or processes != b"-":
        reply = links.run("stats", (), (queues, processes))
        total.time, total.processed, total.failed = float(reply[0]), int(reply[1]), int(reply[2])
        total.scheduled, total.retries, total.dead, total.processes = reply[3:7]
        queues, processes, busy = reply[7:10]
        total.busy += busy
        for at in range(10, len(reply), 4):
            name, size, paused, oldest = reply[at : at + 4]
            if name not in names:  # a set that grows while it is read may name one twice
                names.add(name)
                text = name.decode("utf-8", "replace")
                total.queues.append(QueueNumbers(text, size, bool(paused), oldest))
    total.queues.sort()
    return total


def reset(links: Links, names: Sequence[str]) -> None:
    """Set totals to 0; the numbers of days stay. Raises StoreError."""
    pairs = [each for name in names for each in (keys.stat(name), 0)]
    links.call("MSET", *pairs)


def by_day(links: Links, days: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return how many were processed, and how many failed, on each of these UTC days (`2026-11-22`). Raises StoreError."""
    wanted = [keys.stat(name, day) for name in ("processed", "failed") for day in days]
    counts = [int(count or 0) for count in links.call("MGET", *wanted)]
    return counts[: len(days)], counts[len(days) :]


def processes(links: Links, *, work: bool = False) -> Iterator[ProcessRow]:
    """Yield what processes say of themselves, about 100 a round trip. Raises StoreError."""
    seen: set[bytes] = set()
    for reply in _pages(links, "1" if work else "0", "0"):
        for at in range(2, len(reply), 3):
            identity, beat, pairs = reply[at : at + 3]
            if identity not in seen:
                seen.add(identity)
                yield ProcessRow(identity.decode("utf-8", "replace"), beat, pairs)


def forget_the_silent(links: Links) -> int:
    """Take processes that have said nothing for 60 s off the list; says how many. Raises StoreError."""
    return sum(reply[1] for reply in _pages(links, "0", "1"))


def send_signal(links: Links, identity: str, signal: str) -> bool:
    """Leave TSTP, TERM or TTIN for a process; False when there is none of this name. Raises StoreError."""
    names = (keys.signals(identity), keys.process(identity))
    return bool(links.run("signal", names, (signal,)))


def _pages(links: Links, work: str, forget: str) -> Iterator[Any]:
    cursor: bytes | str = "0"
    while True:
        with typed(keys.PROCESSES):
            reply = links.run("processes", (), (cursor, work, forget))
        yield reply
        cursor = reply[0]
        if cursor == b"0":
            return
