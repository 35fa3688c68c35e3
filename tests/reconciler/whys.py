"""What the tests of why share: moments, passes, lines of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, insert, select

from reconciler.definition import Definition
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome
from reconciler.sql import clock
from reconciler.tables import passes
from reconciler.why import Answer
from tests.reconciler.shop import Item

PENDING = select(Item.id).where(Item.state == "pending")
Ask = Callable[..., Answer]


def utc(**ago: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(**ago)


def run(definition: Definition, tools: Tools) -> Outcome:
    return Pass(definition, tools, 0, lambda: None).run().outcome


def passed(home: Engine, definition: Definition, outcome: str, reason: str = "") -> None:
    """Write the line of a pass that ended just now."""
    now = clock(home.dialect.name)
    row = {
        "reconciler": definition.name,
        "job_class": definition.facts.name,
        "holder": "test",
        "term": 1,
        "started_at": now,
        "ended_at": now,
        "outcome": outcome,
        "reason": reason,
        "codes": "{}",
    }
    with home.begin() as connection:
        connection.execute(insert(passes).values(row))
