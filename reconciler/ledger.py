"""The ledger: one row per pass, written when it begins and when it ends.

A row without an end belongs to a pass under way, or to a process that died in it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Engine,
    Row,
    UpdateBase,
    delete,
    func,
    insert,
    select,
    update,
)

from qik_core.errors import QikError
from reconciler.definition import Definition
from reconciler.drift import Loss
from reconciler.report import Outcome, Report
from reconciler.sql import again, clock, reading, writing
from reconciler.tables import audit, passes

log: Final = logging.getLogger("reconciler")

KEEP: Final = 7 * 86_400.0
"""Seconds after which the ledger forgets a pass, but for the newest of each reconciler."""
KEEP_AUDIT: Final = 400 * 86_400.0
_REASON: Final = 2_000
_QUERY: Final = 10.0


@dataclass(frozen=True, slots=True)
class Before:
    """What the last pass left to the next."""

    cursor: str | None
    """Where it stood when its time was up; None if it ended otherwise, or Redis has lost its data since."""
    rate: float | None
    """Rows a second that were told, by the last pass that told enough to know."""


class Ledger:
    """The ledger in the home database. Its methods raise SqlUnavailable and NotMigrated."""

    def __init__(self, home: Engine, holder: str) -> None:
        self._home = home
        self._holder = holder
        self._clock = clock(home.dialect.name)

    def begin(self, definition: Definition, term: int) -> int:
        """Note that a pass begins; returns its number. `term` is 0 for a pass by hand, which needs no lease."""
        row = {
            "reconciler": definition.name,
            "shard": definition.shard,
            "job_class": definition.facts.name,
            "holder": self._holder,
            "term": term,
            "started_at": self._clock,
            "codes": "{}",
        }
        key = again(lambda: self._write(insert(passes).values(row))).inserted_primary_key
        assert key is not None  # noqa: S101 - every dialect gives the key of a single row
        return int(key[0])

    def reached(self, number: int, scanned: int, pages: int, counts: Mapping[str, int]) -> None:
        """Note how far a pass under way is."""
        values = {"scanned": scanned, "pages": pages, "codes": json.dumps(dict(counts))}
        under_way = update(passes).where(passes.c.id == number, passes.c.outcome.is_(None))
        again(lambda: self._write(under_way.values(values)))

    def end(self, report: Report, epoch: str) -> None:
        """Note how a pass ended."""
        values = {
            "epoch": epoch,
            "ended_at": self._clock,
            "outcome": str(report.outcome),
            "reason": report.reason[:_REASON],
            "scanned": report.scanned,
            "pages": report.pages,
            "page_size": report.page_size,
            "codes": json.dumps(report.codes),
            "cursor": report.cursor,
            "details": json.dumps(report.details),
        }
        ended = update(passes).where(passes.c.id == report.pass_id).values(values)
        again(lambda: self._write(ended))

    def close(self, report: Report, epoch: str) -> None:
        """Do the same if the beginning was noted. Never raises: the thread of the next passes must outlive it."""
        of = {"reconciler": report.reconciler}
        try:
            if report.pass_id is not None:
                self.end(report, epoch)
        except QikError as wrong:
            log.warning("ledger not written", extra={**of, "error": str(wrong)})
        except Exception:  # a column that is gone
            log.exception("ledger not written", extra=of)

    def before(self, definition: Definition, epoch: str) -> Before:
        """Return what the last pass left. `epoch` is the life of Redis now."""
        last = self._last(definition, passes.c.outcome.is_not(None))
        if last is None:
            return Before(None, None)
        goes_on = last.outcome == Outcome.BUDGET and last.epoch == epoch
        return Before(last.cursor if goes_on else None, codes(last.details).get("rate"))

    def loss(self, definition: Definition, epoch: str) -> Loss | None:
        """Return whether Redis has lost its data since the last pass that told every row; None if not, or there was none."""
        last = self._last(definition, passes.c.outcome == str(Outcome.COMPLETED))
        return None if last is None or last.epoch == epoch else Loss(last.started_at)

    def _last(self, definition: Definition, condition: ColumnElement[bool]) -> Row[Any] | None:
        ours = passes.c.reconciler == definition.name, passes.c.shard == definition.shard
        newest = select(passes).where(*ours, condition).order_by(passes.c.id.desc()).limit(1)
        with reading(self._home, _QUERY) as connection:
            return connection.execute(newest).one_or_none()

    def prune(self) -> int:
        """Forget what is old; returns how many passes."""
        with reading(self._home, _QUERY) as connection:
            newest = connection.execute(
                select(func.max(passes.c.id)).group_by(passes.c.reconciler, passes.c.shard)
            )
            kept = [row[0] for row in newest]
        old = delete(passes).where(
            passes.c.started_at < self._clock - KEEP, passes.c.id.not_in(kept)
        )
        again(lambda: self._write(delete(audit).where(audit.c.at < self._clock - KEEP_AUDIT)))
        return int(again(lambda: self._write(old)).rowcount)

    def _write(self, statement: UpdateBase) -> CursorResult[Any]:
        with writing(self._home) as connection:
            return connection.execute(statement)


def codes(text: str) -> Mapping[str, Any]:
    """Return the counts of a ledger's row."""
    found: Mapping[str, Any] = json.loads(text or "{}")
    return found
