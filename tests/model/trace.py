"""What happened in a real run, as the model sees it: one event for each script that was answered.

A trace is a list of events in the order in which Redis applied them. Recorders write one JSON object a line, with the
name of the event under `event` and its fields beside it; fields that have a default here may be left out, and the
acceptor then considers every value that they could have had.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `name` is what it is called in a recording."""

    name: ClassVar[str] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Event):
    """`push.lua` answered for one job."""

    name: ClassVar[str] = "push"
    origin: str
    """edge | pass"""
    key: Any
    """The unique key, whatever it is; None for a job without a lock."""
    jid: str
    code: str
    """A `Code`: enqueued, duplicate_queued, advanced, dirtied, …"""
    timed: bool = False
    """It has a time in the future: it goes to `schedule` or `qik:later:<queue>`."""
    queue: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Event):
    """`exchange.lua` answered."""

    name: ClassVar[str] = "exchange"
    proc: str
    seq: int
    status: str
    """done | again | idle | lost | fenced"""
    settled: tuple[tuple[str, str], ...] = ()
    """Pairs of jid and kind: done, or a `Kind` (t retry, d dead, b back on its queue, x gone)."""
    fetched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Event):
    """`beat.lua` answered."""

    name: ClassVar[str] = "beat"
    proc: str
    status: str = "ok"
    """ok | fenced"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assert(Event):
    """`assert.lua` answered: after a beat, or after a loss."""

    name: ClassVar[str] = "assert"
    proc: str
    superseded: tuple[str, ...] = ()
    restored: bool | None = None
    """It carried payloads and the value of #; None: whichever fits."""
    held: tuple[str, ...] | None = None
    """The jids that were named; None: all that the working hash has."""
    settling: tuple[str, ...] | None = None
    """Those whose outcome is under way; None: any of them may be."""
    status: str = "ok"
    """ok | fenced"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence(Event):
    """`fence.lua` answered 1."""

    name: ClassVar[str] = "fence"
    proc: str
    by: str = ""
    sure: bool = False
    """Its end was witnessed: no refusal is left behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack(Event):
    """`giveback.lua` answered for the working hash of a living process."""

    name: ClassVar[str] = "giveback"
    proc: str
    jids: tuple[str, ...]
    """Those that were named; the ones with another's lock are dropped."""
    status: str = "ok"
    """ok | fenced | lost"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(Event):
    """`leave.lua` answered 1: a process that held nothing has ended."""

    name: ClassVar[str] = "leave"
    proc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recover(Event):
    """`giveback.lua` answered for the recovering hash of a fenced process."""

    name: ClassVar[str] = "recover"
    proc: str
    jids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(Event):
    """`promote.lua` moved these from a sorted set to their queues."""

    name: ClassVar[str] = "promote"
    jids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBegin(Event):
    """`roll_begin.lua` answered 1."""

    name: ClassVar[str] = "roll_begin"


@dataclass(frozen=True, slots=True, kw_only=True)
class RollWalk(Event):
    """`roll_walk.lua` read a source to its end."""

    name: ClassVar[str] = "roll_walk"
    source: str | None = None
    """The key that was walked; None: all sources, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollEnd(Event):
    """`roll_end.lua` answered."""

    name: ClassVar[str] = "roll_end"
    result: int
    """Locks without a job; -1 not yet; -2 the generation changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush(Event):
    """The whole database was emptied."""

    name: ClassVar[str] = "flush"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteQueue(Event):
    """Somebody deleted a list by hand."""

    name: ClassVar[str] = "delete_queue"
    queue: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteLocks(Event):
    """Somebody deleted a hash of locks by hand."""

    name: ClassVar[str] = "delete_locks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Event):
    """Somebody deleted another key by hand."""

    name: ClassVar[str] = "delete"
    key: str
    """The key of Redis: schedule, retry, qik:later:<queue>, qik:working:<identity>, qik:epoch, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(Event):
    """A process ended without a word."""

    name: ClassVar[str] = "crash"
    proc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze(Event):
    """A process was stopped."""

    name: ClassVar[str] = "freeze"
    proc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thaw(Event):
    """A stopped process goes on."""

    name: ClassVar[str] = "thaw"
    proc: str


EVENTS: Final[Mapping[str, type[Event]]] = {
    kind.name: kind
    for kind in (
        Push, Exchange, Beat, Assert, Fence, GiveBack, Leave, Recover, Promote, RollBegin, RollWalk, RollEnd, Flush,
        DeleteQueue, DeleteLocks, Delete, Crash, Freeze, Thaw,
    )
}  # fmt: skip
"""Every event by its name in a recording."""


def load(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a recording, one JSON object a line.

    Raises:
        ValueError: a line is no event that the model knows; it names the line.
    """
    for number, line in enumerate(lines, 1):
        fields = json.loads(line)
        try:
            kind = EVENTS[fields.pop("event")]
            yield kind(**{name: _frozen(value) for name, value in fields.items()})
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"line {number} of the trace is no event: {line.strip()} ({error})"
            ) from None


def dump(event: Event) -> str:
    """Return an event as one line of a recording."""
    return json.dumps({"event": event.name} | asdict(event))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
