"""What reconcilers in shadow would have told: the counts of their last passes, out of the ledger.

A pass in shadow tells nothing, so a row that nobody told is counted by each pass until somebody does: the last pass says
how many there are now, the passes before it how that went. What was told already had been told by edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Engine, Row, select

from reconciler.definition import Definition
from reconciler.ledger import codes
from reconciler.report import SHADOW, TOLD, Outcome
from reconciler.sql import clock, reading
from reconciler.tables import passes

LAST: Final = 100
"""Passes that are looked at."""
_QUERY: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """The last passes of one reconciler in shadow. Only those count that read all pending rows."""

    reconciler: str
    shard: str
    passes: int
    """How many were looked at."""
    unfinished: int = 0
    """Others among the last ones: failed, or cut short."""
    since: float = 0.0
    """Seconds since the first of them began."""
    pending: int = 0
    """Rows in the last one."""
    told: int = 0
    """Of them: those that edges had told."""
    would_tell: int = 0
    """Of them: those that it would have told."""
    most: int = 0
    """Rows that one pass would have told, at most."""
    clean: int = 0
    """Passes that would have told none."""

    @property
    def unit(self) -> str:
        """The name, with the shard behind it where there is one."""
        return f"{self.reconciler}/{self.shard}" if self.shard else self.reconciler

    @property
    def by_edges(self) -> float | None:
        """The share of the last pass's rows that edges had told; None where there were none."""
        known = self.told + self.would_tell
        return self.told / known if known else None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**asdict(self), "by_edges": self.by_edges}


def shadow_of(home: Engine, definition: Definition, last: int = LAST) -> Shadow:
    """Return what the last passes of a reconciler in shadow have counted.

    Raises:
        SqlUnavailable: the home database does not answer.
        NotMigrated: it has no tables of ours.
    """
    mine = passes.c.reconciler == definition.name, passes.c.shard == definition.shard
    ended = select(passes).where(*mine, passes.c.outcome.is_not(None))
    with reading(home, _QUERY) as connection:
        now = float(connection.execute(select(clock(home.dialect.name))).scalar_one())
        rows = connection.execute(ended.order_by(passes.c.id.desc()).limit(last)).fetchall()
    whole = [each for each in rows if each.outcome == Outcome.COMPLETED]
    made = Shadow(reconciler=definition.name, shard=definition.shard, passes=len(whole))
    return _counted(made, whole, len(rows) - len(whole), now) if whole else made


def _counted(made: Shadow, whole: Sequence[Row[Any]], unfinished: int, now: float) -> Shadow:
    counts = [codes(each.codes) for each in whole]
    would = [int(each.get(SHADOW, 0)) for each in counts]
    return Shadow(
        reconciler=made.reconciler,
        shard=made.shard,
        passes=made.passes,
        unfinished=unfinished,
        since=round(now - whole[-1].started_at, 3),
        pending=whole[0].scanned,
        told=int(counts[0].get(TOLD, 0)),
        would_tell=would[0],
        most=max(would),
        clean=would.count(0),
    )
