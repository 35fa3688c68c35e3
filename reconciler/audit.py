"""The audit: who did what to the work, when and why. One row per act, never changed, kept for 400 days."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, insert, select

from reconciler.sql import again, clock, reading, writing
from reconciler.tables import audit

MOST: Final = 1_000
"""Entries that `read` returns, unless it is asked for another number."""
_QUERY: Final = 5.0
_SUBJECT: Final = 200
_WHO: Final = 200


class Action(StrEnum):
    """Everything that is audited."""

    DISABLED = "disabled"  # a switch stops work, or stops it otherwise than before
    ENABLED = "enabled"  # a switch stops nothing any more
    EXPIRED = "expired"  # the same, by its own time
    FLUSHED = "flushed"
    EXPORTED = "exported"
    IMPORTED = "imported"
    REBUILT = "rebuilt"
    REDIS_LOST = "redis_lost"
    LEASE_TAKEN = "lease_taken"
    QUARANTINED = "quarantined"
    RELEASED = "released"
    DEPLOYED = "deployed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One act, as it was written down."""

    id: int
    at: float
    """Epoch seconds by the home database's clock."""
    who: str
    """A person, `user@host`, or the process or provider that acted by itself."""
    action: str
    """One of `Action`; a text, since a newer release may know more of them."""
    subject: str
    """What was acted upon: a switch, a reconciler, a row."""
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "id": self.id,
            "at": self.at,
            "who": self.who,
            "action": self.action,
            "subject": self.subject,
            "reason": self.reason,
            "details": dict(self.details),
        }


def record(
    home: Engine, action: Action, subject: str, who: str, reason: str, details: Mapping[str, Any]
) -> None:
    """Write one act down, in a transaction of its own. `details` are JSON values; a `term` among them gets its column.

    Raises:
        SqlUnavailable: the home database does not answer.
        NotMigrated: it has no tables of ours.
    """

    def write() -> None:
        with writing(home) as connection:
            write_down(connection, action, subject, who, reason, details)

    again(write)


def write_down(
    connection: Connection,
    action: str,
    subject: str,
    who: str,
    reason: str,
    details: Mapping[str, Any],
) -> None:
    """Write one act down in the transaction that does it: so there is no act without its row, and no row without its act."""
    row = {
        "at": clock(connection.dialect.name),
        "who": who[:_WHO],
        "action": action,
        "subject": subject[:_SUBJECT],
        "reason": reason,
        "term": details.get("term"),
        "details": json.dumps(dict(details)),
    }
    connection.execute(insert(audit).values(row))


def read(
    home: Engine,
    since: float,
    *,
    actions: Collection[str] = (),
    subject: str | None = None,
    most: int = MOST,
) -> list[Entry]:
    """Return the newest acts since a moment (epoch seconds by the home database's clock), at most so many, oldest first.

    `actions` and `subject` leave out all others.

    Raises:
        SqlUnavailable: the home database does not answer.
        NotMigrated: it has no tables of ours.
    """
    wanted = [audit.c.at >= since]
    if actions:
        wanted.append(audit.c.action.in_([str(each) for each in actions]))
    if subject is not None:
        wanted.append(audit.c.subject == subject[:_SUBJECT])
    newest = select(audit).where(*wanted).order_by(audit.c.id.desc()).limit(most)
    with reading(home, _QUERY) as connection:
        rows = connection.execute(newest).fetchall()
    return [_entry(each) for each in reversed(rows)]


def _entry(row: Row[Any]) -> Entry:
    details = json.loads(row.details or "{}")
    return Entry(row.id, row.at, row.who, row.action, row.subject, row.reason, details)
