"""Records of jobs that have ended badly, or well and for nothing: made with the outcome, read by the reconciler.

A record is written in the script that ends its job, so that neither can be without the other; it waits in Redis until the
reconciler has it in SQL. Reading leaves it there: a reader that dies between the two reads it again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from qik_core.store import keys
from qik_core.store.link import Links
from qik_core.store.push import MOST
from qik_core.store.windows import typed

log: Final = logging.getLogger("qik_core.worker")

ANY_VERSION: Final = "------"
_ERROR: Final = 500
_ARGS: Final = (
    4_000  # bytes of arguments that a record carries; beyond, the key says which row it is
)
_READ_FOR: Final = 86_400


class EndedKind(StrEnum):
    """How a job ended."""

    DIED = "died"  # its retries are used up, or it has none
    CRASHED = "crashed"  # processes died while they ran it
    NO_PROGRESS = "no_progress"  # it ended well, and its row is still pending
    TERMINAL = "terminal"  # it said that it can never succeed
    RETRIED = "retried"  # it was dead, and a person retried it


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One job that has ended."""

    kind: EndedKind
    name: str
    """The job class, as on the wire."""
    digest: str
    """The key of its lock, 22 characters; empty if it had none."""
    args: Sequence[Any]
    """As on the wire; empty where they were longer than 4,000 bytes."""
    version: str
    """The tag of the row in its lock, 6 characters; `------` where nobody knows."""
    jid: str
    error: str
    """One line, as `TypeError: …`; empty without an error."""
    at: float
    """Epoch seconds by Redis's clock."""


class _Note(msgspec.Struct):
    """What a record says beside kind, time and version."""

    name: str
    digest: str
    args: list[Any]
    jid: str
    error: str = ""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Note)


def note(
    kind: EndedKind, name: str, digest: str, args: Sequence[Any], *, jid: str, error: str = ""
) -> bytes:
    """Return what a script needs to write a record when the job has ended."""
    line = " ".join(error.split())[:_ERROR].encode("utf-8", "replace").decode()
    told = list(args) if len(_encoder.encode(args)) <= _ARGS else []
    return kind.value.encode() + b" " + _encoder.encode(_Note(name, digest, told, jid, line))


def in_doubt(noted: bytes) -> bytes:
    """Return a note that makes a record only where a reconciler reads: the writer knows of none."""
    return b"?" + noted if noted else b""


def parse(record: bytes) -> Ended:
    """Return what a record says.

    Raises:
        ValueError: it is none.
    """
    kind, at, version, rest = record.split(b" ", 3)
    said = _decoder.decode(rest)
    return Ended(
        kind=EndedKind(kind.decode()),
        name=said.name,
        digest=said.digest,
        args=said.args,
        version=version.decode(),
        jid=said.jid,
        error=said.error,
        at=float(at),
    )


def oldest(links: Links, most: int) -> dict[bytes, Ended]:
    """Return at most so many, 500 at most, the oldest first, with their bytes; removes and counts what is none.

    Raises:
        StoreError: Redis did not answer; WrongType where the key is no list.
    """
    with typed(keys.ENDED):
        records = links.run("ended", (), (min(most, MOST), _READ_FOR))
    found: dict[bytes, Ended] = {}
    for record in reversed(records):
        try:
            found[record] = parse(record)
        except ValueError as error:  # msgspec's errors are among them
            _set_aside(links, record, error)
    return found


def forget(links: Links, records: Sequence[bytes]) -> int:
    """Remove the oldest that are among these; says how many were still there. Raises StoreError."""
    if not records:
        return 0
    with typed(keys.ENDED):
        gone: int = links.run("forget", (), records)
    return gone


def _set_aside(links: Links, record: bytes, error: ValueError) -> None:
    extra = {"record": record[:1000].decode("utf-8", "replace"), "reason": str(error)}
    log.error("a record in qik:ended cannot be read: removed", extra=extra)
    if links.call("LREM", keys.ENDED, -1, record):
        links.run("count", (), ("ended_unreadable", 1))
