"""The faults of a drill: their names, what they are for people, which of them run by default."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

from reconciler.drill.errors import UnknownFault


class Kind(StrEnum):
    """A fault."""

    FLUSH = "flush"
    QUEUED = "queued"
    RUNNING = "running"
    PAGES = "pages"
    RETRYING = "retrying"
    SCHEDULED = "scheduled"
    LISTS = "lists"
    LOCKS = "locks"
    ROLLBACK = "rollback"
    FULL = "full"
    CHILD = "child"
    FREEZE = "freeze"


TITLES: Final[Mapping[Kind, str]] = {
    Kind.FLUSH: "everything flushed by `reconciler flush`, while jobs are queued and run",
    Kind.QUEUED: "Redis emptied while jobs are queued",
    Kind.RUNNING: "Redis emptied while jobs run, and their rows pushed again",
    Kind.PAGES: "Redis emptied between two pages of a pass",
    Kind.RETRYING: "Redis emptied while jobs wait for a retry",
    Kind.SCHEDULED: "Redis emptied while jobs are scheduled",
    Kind.LISTS: "lists of the queues deleted, their locks left",
    Kind.LOCKS: "unique locks deleted, their jobs left",
    Kind.ROLLBACK: "Redis put back to an old snapshot",
    Kind.FULL: "Redis full",
    Kind.CHILD: "worker process ended by SIGKILL",
    Kind.FREEZE: "worker frozen for longer than its lease",
}
"""What each fault is, for people."""

MARKS: Final[Mapping[Kind, str]] = {
    Kind.FLUSH: "flushed",
    Kind.QUEUED: "emptied: queued",
    Kind.RUNNING: "emptied: running",
    Kind.PAGES: "emptied: in a pass",
    Kind.RETRYING: "emptied: retrying",
    Kind.SCHEDULED: "emptied: scheduled",
    Kind.LISTS: "lists deleted",
    Kind.LOCKS: "locks deleted",
    Kind.ROLLBACK: "old snapshot",
    Kind.FULL: "full",
    Kind.CHILD: "SIGKILL",
    Kind.FREEZE: "frozen",
}
"""The same in two words, for the curve."""


def chosen(text: str | None) -> tuple[Kind, ...]:
    """Return the faults that `a,b` names, in that order; all of them for None.

    Raises:
        UnknownFault: there is no such fault; the message says which it may have meant.
    """
    if text is None:
        return tuple(Kind)
    return tuple(dict.fromkeys(map(_kind, filter(None, map(str.strip, text.split(","))))))


def _kind(name: str) -> Kind:
    try:
        return Kind(name)
    except ValueError:
        near = get_close_matches(name, list(Kind), 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UnknownFault(
            f"there is no fault {name!r}: {meant}There are {', '.join(Kind)}"
        ) from None
