"""Worker processes, Ruby's among them, and what they run: as they last said, every few seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from qik_core.api.record import JobRecord, Location, State, moment_of
from qik_core.client import current as current_client
from qik_core.store import Store, keys, numbers

log: Final = logging.getLogger("qik_core.api")


class Signal(StrEnum):
    """What a process can be asked for; it looks at its next beat."""

    QUIET = "TSTP"
    STOP = "TERM"
    DUMP = "TTIN"


@dataclass(frozen=True, slots=True)
class Process:
    """One worker process."""

    identity: str
    hostname: str
    pid: int
    tag: str
    labels: Sequence[str]
    version: str
    started_at: datetime | None
    beat_at: datetime | None
    """When it last said something."""
    busy: int
    """Jobs that it runs."""
    concurrency: int
    quiet: bool
    """It fetches no more."""
    embedded: bool
    """It lives inside another program, and takes no signals."""
    rss: int
    """Resident memory, KB."""
    rtt: int
    """Of its last beat, microseconds."""
    queues: Sequence[str]
    capsules: Mapping[str, Any] = field(default_factory=dict)
    """Name to concurrency, mode and weights."""


@dataclass(frozen=True, slots=True)
class Work:
    """One job that runs."""

    identity: str
    """The process."""
    thread: str
    since: datetime | None
    job: JobRecord


class ProcessSet:
    """All processes that said something within the last minute.

    All methods raise StoreError when Redis does not answer.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._links = (store or current_client().store).links

    def __iter__(self) -> Iterator[Process]:
        """Yield every process; what cannot be read of one is left empty."""
        return map(_process, numbers.processes(self._links))

    def find(self, identity: str) -> Process | None:
        """Return one process, None if it is not there."""
        return next((each for each in self if each.identity == identity), None)

    def prune(self) -> int:
        """Take processes off the list that said nothing for a minute; says how many. Their jobs are not touched."""
        return numbers.forget_the_silent(self._links)

    def quiet(self, identity: str | None = None) -> int:
        """Ask one process, or all, to fetch no more; says how many were asked."""
        return self._ask(Signal.QUIET, identity)

    def stop(self, identity: str | None = None) -> int:
        """Ask one process, or all, to finish and end; says how many were asked."""
        return self._ask(Signal.STOP, identity)

    def dump(self, identity: str | None = None) -> int:
        """Ask one process, or all, to log what each of its threads does; says how many were asked."""
        return self._ask(Signal.DUMP, identity)

    def _ask(self, signal: Signal, identity: str | None) -> int:
        asked = 0
        for process in self:
            if identity in (None, process.identity) and not process.embedded:
                asked += numbers.send_signal(self._links, process.identity, signal)
        log.info(
            "processes were signalled by hand",
            extra={"signal": signal.value, "identity": identity or "all", "count": asked},
        )
        return asked


class WorkSet:
    """What runs where, and since when."""

    def __init__(self, store: Store | None = None) -> None:
        self._links = (store or current_client().store).links

    def __iter__(self) -> Iterator[Work]:
        """Yield every job that runs. Raises StoreError."""
        for row in numbers.processes(self._links, work=True):
            for thread, text in zip(row.work[::2], row.work[1::2], strict=True):
                yield _work(row.identity, thread, text)

    def find(self, jid: str) -> Work | None:
        """Return where a job runs, None if no process says so."""
        return next((each for each in self if each.job.jid == jid), None)


def _process(row: numbers.ProcessRow) -> Process:
    text, concurrency, busy, beat, quiet, rss, rtt = row.beat
    info = _object(text)
    capsules = info.get("capsules")
    return Process(
        identity=row.identity,
        hostname=_text(info, "hostname"),
        pid=_count(info.get("pid")),
        tag=_text(info, "tag"),
        labels=_texts(info.get("labels")),
        version=_text(info, "version"),
        started_at=moment_of(info.get("started_at")),
        beat_at=moment_of(_number(beat)),
        busy=_count(busy),
        concurrency=_count(concurrency) or _count(info.get("concurrency")),
        quiet=quiet == b"true",
        embedded=info.get("embedded") is True,
        rss=_count(rss),
        rtt=_count(rtt),
        queues=_texts(info.get("queues")),
        capsules=capsules if isinstance(capsules, dict) else {},
    )


def _work(identity: str, thread: bytes, text: bytes) -> Work:
    work = _object(text)
    payload, queue = work.get("payload"), work.get("queue")
    raw = (
        payload.encode("utf-8", "replace")
        if isinstance(payload, str)
        else msgspec.json.encode(payload)
    )
    name = queue if isinstance(queue, str) else None
    where = Location(State.RUNNING, keys.work(identity), name)
    since = moment_of(_seconds(work.get("run_at")))
    return Work(identity, thread.decode("utf-8", "replace"), since, JobRecord.of(raw, where))


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(info: Mapping[str, Any], name: str) -> str:
    value = info.get(name)
    return value if isinstance(value, str) else ""


def _texts(value: object) -> Sequence[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _count(value: object) -> int:
    if isinstance(value, bytes):
        value = _number(value)
    return int(value) if isinstance(value, (int, float)) and abs(value) < 1 << 62 else 0


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
