"""One job as people see it, wherever it is and whoever wrote it; also bytes that are no job."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from qik_core import registry, rows
from qik_core.errors import MalformedPayload
from qik_core.payload import MALFORMED, Payload, Unique, encode_fields, header
from qik_core.store import keys
from qik_core.store.ended import EndedKind, in_doubt, note
from qik_core.store.records import Claim

_MILLISECONDS: Final = 1e11  # as seconds this is the year 5138, as milliseconds 1973
_LAST: Final = 253_402_300_799.0  # 9999-12-31: what a datetime can hold
_LONGEST_BACKTRACE: Final = 4_000_000
_WRAPPERS: Final = (
    "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper",
    "Sidekiq::ActiveJob::Wrapper",
)
_encoder: Final = msgspec.json.Encoder()


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    LATER = "later"  # scheduled by a pass, with jitter
    RETRY = "retry"
    DEAD = "dead"
    SUSPECT = "suspect"  # two processes died while it ran; it will run alone
    HELD = "held"  # its class is switched off
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a job was found."""

    state: State
    key: bytes
    """The list or sorted set."""
    queue: str | None = None
    """Of a list of one queue; None where jobs of all queues are together."""

    @property
    def is_list(self) -> bool:
        """Whether the key is a list; else it is a sorted set."""
        return self.state in (State.QUEUED, State.SUSPECT, State.HELD)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as it was when it was read. It may have moved since: whatever is done with it says so."""

    raw: bytes
    """The exact bytes."""
    location: Location
    score: float | None = None
    """In a sorted set: when it is due, or when it died. Epoch seconds."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Every field of the payload; empty for bytes that are no job."""
    malformed: bool = False
    """These bytes are no job, or an envelope in which such bytes were set aside."""
    error: str = ""
    """Why they are no job."""

    @classmethod
    def of(cls, raw: bytes, location: Location, score: float | None = None) -> JobRecord:
        """Return the record of these bytes. Never raises: what is no job is `malformed`."""
        try:
            payload = Payload.decode(raw)
        except MalformedPayload as error:
            return cls(raw, location, score, malformed=True, error=str(error))
        aside = payload.class_name == MALFORMED
        return cls(raw, location, score, payload.fields, malformed=aside)

    # --- what it is ----------------------------------------------------------

    @property
    def jid(self) -> str:
        """The job's id; empty without one."""
        return self._text("jid")

    @property
    def class_name(self) -> str:
        """The name on the wire; empty for bytes that are no job."""
        return self._text("class")

    @property
    def display_class(self) -> str:
        """The name for people: of a job of Active Job, the class that is wrapped."""
        return self._text("display_class") or self._text("wrapped") or self.class_name

    @property
    def args(self) -> Sequence[Any]:
        """The arguments as they are on the wire."""
        args = self.fields.get("args", ())
        return args if isinstance(args, list) else ()

    @property
    def display_args(self) -> Sequence[Any]:
        """The arguments for people: unwrapped from Active Job, and without what was encrypted."""
        args = self.args
        if self.class_name in _WRAPPERS and args and isinstance(args[0], dict):
            inner = args[0].get("arguments")
            args = inner if isinstance(inner, list) else args
        if self.fields.get("encrypt") and args:
            return [*args[:-1], "[encrypted]"]
        return args

    @property
    def queue(self) -> str:
        """The queue on which it is, or to which it will go."""
        if self.location.queue is not None:
            return self.location.queue
        return self._text("queue") or "default"

    @property
    def tags(self) -> Sequence[str]:
        """Its tags."""
        tags = self.fields.get("tags")
        return [tag for tag in tags if type(tag) is str] if isinstance(tags, list) else []

    @property
    def unique(self) -> Unique | None:
        """The lock that it holds while it waits and runs; None without one."""
        text = self._text("qik")
        return Unique.parse(text) if text else None

    @property
    def foreign(self) -> bool:
        """Whether somebody else wrote these bytes: Ruby, or a person."""
        return header(self.raw) is None

    @property
    def original(self) -> bytes:
        """The bytes that were no job, out of their envelope; else `raw`."""
        text = self.fields.get("raw") if self.malformed else None
        try:
            return base64.b64decode(text) if type(text) is str else self.raw
        except ValueError:
            return self.raw

    # --- when ----------------------------------------------------------------

    @property
    def at(self) -> datetime | None:
        """In a sorted set: when it is due, or when it died."""
        return moment_of(self.score)

    @property
    def created_at(self) -> datetime | None:
        """When it was pushed."""
        return moment_of(self.fields.get("created_at"))

    @property
    def enqueued_at(self) -> datetime | None:
        """When it came to its queue; None in a sorted set."""
        return moment_of(self.fields.get("enqueued_at"))

    @property
    def failed_at(self) -> datetime | None:
        """When it failed for the first time."""
        return moment_of(self.fields.get("failed_at"))

    @property
    def retried_at(self) -> datetime | None:
        """When it failed last, if it failed more than once."""
        return moment_of(self.fields.get("retried_at"))

    # --- how it failed ---------------------------------------------------------

    @property
    def retry_count(self) -> int | None:
        """0 after the first failure, as Sidekiq counts; None when it never failed."""
        count = self.fields.get("retry_count")
        return count if type(count) is int else None

    @property
    def error_class(self) -> str:
        """The class of its last error; empty when it never failed."""
        return self._text("error_class") or ("MalformedPayload" if self.error else "")

    @property
    def error_message(self) -> str:
        """The message of its last error."""
        return self._text("error_message") or self.error

    @property
    def error_backtrace(self) -> Sequence[str]:
        """The lines of its last error's traceback, innermost first; empty where none was kept."""
        return backtrace_lines(self.fields.get("error_backtrace"))

    # --- what scripts need -----------------------------------------------------

    def claim(self) -> Claim:
        """Return what a script needs to act on exactly this job."""
        unique = self.unique
        if unique is None:
            return Claim(self.raw, self.jid)
        return Claim(self.raw, self.jid, unique.digest, unique.seconds)

    def note(self, kind: EndedKind, error: str = "") -> bytes:
        """Return what the reconciler is told of this job's end, or of its end taken back; empty for a job without a lock.

        A process that knows no reconciler of the class leaves it to Redis to know whether one reads.
        """
        unique = self.unique
        if unique is None or self.malformed:
            return b""
        definition, seam = registry.find(self.class_name), rows.known()
        name = definition.name if definition else self.class_name
        made = note(kind, name, unique.digest, self.args, jid=self.jid, error=error)
        return made if seam is not None and seam.reconciled(name) else in_doubt(made)

    def for_queue(self, *, retried: bool) -> bytes | None:
        """Return the bytes for its queue, without `enqueued_at`; None for what cannot be a job on a queue.

        `retried` takes one off the count of retries, as Sidekiq does when a person retries a job: the run that comes was
        not the job's own.
        """
        if self.malformed or not keys.is_queue(self.queue):
            return None
        count = self.retry_count
        changes = {"retry_count": count - 1} if retried and count is not None else {}
        if not changes and "enqueued_at" not in self.fields:
            return self.raw
        whole = {name: value for name, value in self.fields.items() if name != "enqueued_at"}
        whole.update(changes)
        # What Ruby wrote stays as Ruby writes; what it only wrote anew gets our header again, which scripts match.
        return encode_fields(whole) if "qik" in whole else _encoder.encode(whole)

    def _text(self, name: str) -> str:
        value = self.fields.get(name)
        return value if type(value) is str else ""


def moment_of(value: object) -> datetime | None:
    """Return a time field as an aware datetime: float seconds of Sidekiq up to 7, integer milliseconds of 8.

    None for what is no time.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    if not 0 <= value <= _LAST * 1000:
        return None
    return datetime.fromtimestamp(value if value < _MILLISECONDS else value / 1000, UTC)


def backtrace_lines(value: object) -> Sequence[str]:
    """Return the lines of a stored backtrace: base64 of deflated JSON; empty for anything else, or for too much."""
    if type(value) is not str:
        return [line for line in value if type(line) is str] if isinstance(value, list) else []
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(base64.b64decode(value), _LONGEST_BACKTRACE)
        lines = msgspec.json.decode(text, type=list[str])
    except (ValueError, binascii.Error, zlib.error):
        return []
    return lines
