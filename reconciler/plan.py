"""What a pass would do, without doing it: its SQL and how the database plans it, how many rows are pending, which are told.

Nothing is written anywhere: no lease, no ledger, no epoch, no job, no state of a row. Rows are counted by reading their
keys in pages, up to a limit, so a plan costs what a pass costs at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, Select, func, select

from qik_core.errors import QikError, StoreError
from reconciler import jitter
from reconciler.advice import index_for
from reconciler.definition import Definition
from reconciler.errors import StatementTimeout
from reconciler.explain import Explained, explain, readable
from reconciler.fair import Shares
from reconciler.moments import moment
from reconciler.occurrences import source_of
from reconciler.planned import LIMIT, ROWS, Count, Means, Plan, Shown
from reconciler.pressure import Gates
from reconciler.report import LATE, OVER_SHARE
from reconciler.rows import Batch, batch, key_of
from reconciler.source import by_key, due_in, too_young
from reconciler.sql import read_clock, reading, where
from reconciler.status import Standing
from reconciler.switches import stopping
from reconciler.units import place_of
from reconciler.words import cause

__all__ = ["LIMIT", "ROWS", "Count", "Means", "Plan", "Shown", "lease_of", "plan"]


def plan(definition: Definition, means: Means) -> Plan:
    """Return what a pass would do now. What cannot be asked is among its errors: nothing of this package's is raised."""
    made = Plan(
        reconciler=definition.name,
        job=definition.facts.name,
        queue=definition.queue or definition.facts.queue,
        database=definition.database,
        every=definition.every,
        jitter=definition.jitter,
        min_age=definition.min_age,
        shard=definition.shard,
        shadow=definition.shadow,
    )
    if place_of(definition) in means.gone:
        made.errors.append(means.gone[place_of(definition)])
        return made
    try:
        _Planner(definition, means, made).look()
    except StatementTimeout as error:
        made.findings.append(
            f"a page takes longer than {definition.statement_timeout:g} s: {error}"
        )
    except QikError as error:
        made.errors.append(error)
    except Exception as error:  # noqa: BLE001 - a broken statement is what a plan is to find
        made.findings.append(f"the statement fails: {cause(error)}")
    return made


class _Planner:
    """The steps of one plan; each fills in a part of it."""

    def __init__(self, definition: Definition, means: Means, made: Plan) -> None:
        self.definition = definition
        self.means = means
        self.made = made
        self.engine: Engine = means.engines.of(definition)
        made.database = f"{place_of(definition)} ({where(self.engine)})"
        self.now = read_clock(self.engine)
        told = None if means.seam is None else means.seam.glance
        self.source = source_of(definition, self.engine, self.now, told=told)
        self.shares = None if definition.fair is None else Shares(definition.shape, definition.fair)
        self.left_out: Counter[str] = Counter()
        self.tenants: set[Any] = set()

    def look(self) -> None:
        timeout = self.definition.statement_timeout
        first = {"qik__limit": self.definition.batch_size}
        self.made.page = explain(self.engine, self.source.first, first, timeout)
        self._advise(self.made.page)
        key = self._count()
        self._check(key)
        self.made.young = self._number(
            too_young(self.definition, self.now, self.engine.dialect.name)
        )
        self.made.ahead = self._number(self._not_due())
        self._gate()

    def _gate(self) -> None:
        """Say how many rows a pass would find room for now."""
        if self.means.seam is None or self._redis_failed():
            return
        if stop := stopping.Stops(self.means.seam).whole(self.definition):
            self.made.room, self.made.gate = 0, stopping.why(stop)
            return
        room, reason = Gates(self.means.seam).room(self.definition)
        self.made.room, self.made.gate = room, reason if room is not None else ""

    def _count(self) -> tuple[Any, ...] | None:
        """Count the pending rows and those of them that are told; returns the key of the first row."""
        counted, told, new, key = 0, 0, 0, None
        for page in self._pages():
            kept = page[: self.means.limit - counted]
            counted += len(kept)
            if key is None and kept:
                key = key_of(self.definition, kept[0])
            of_page = self._told(kept)
            told, new = told + of_page[0], new + of_page[1]
            self.made.pending = Count(counted, len(kept) < len(page))
        known = self.means.seam is not None and not self._redis_failed()
        self.made.told, self.made.new = (told, new) if known else (None, None)
        self.made.left_out = dict(self.left_out)
        self.made.tenants = None if self.definition.shape.tenant_at is None else len(self.tenants)
        return key

    def _pages(self) -> Iterator[Sequence[Any]]:
        """Yield pages until one is short; the last may have one row more than the limit, which says that there are more."""
        after, left = None, self.means.limit + 1
        while left > 0:
            size = min(self.definition.batch_size, left)
            page = self.source.read(after, size)
            yield page
            if len(page) < size:
                return
            after, left = self.source.position(page[-1]), left - size

    def _told(self, page: Sequence[Any]) -> tuple[int, int]:
        """Return how many rows of a page are told, and how many a pass would tell; the first of all are kept to be shown."""
        found, invalid = batch(self.definition, page)
        self.made.invalid += len(invalid)
        at = self.definition.shape.tenant_at
        if at is not None:
            self.tenants.update(row[at] for row in found.rows)
        answers: Sequence[bool | None] = [None] * len(found)
        if self.means.seam is not None and found and not self._redis_failed():
            try:
                answers = self.means.seam.glance(found.digests, found.tags)
            except StoreError as error:
                self.made.errors.append(error)
        due = [due_in(self.definition.shape, row, self.now) for row in found.rows]
        reasons = self._reasons(found, due)
        self.left_out.update(filter(None, reasons))
        self._show(found, answers, reasons, due)
        free = sum(not one and not why for one, why in zip(answers, reasons, strict=True))
        return sum(map(bool, answers)), free

    def _reasons(self, found: Batch, due: Sequence[float | None]) -> list[str]:
        """Return for each row why a pass leaves it out, as `choice` does; empty for those that it may tell."""
        reasons = [""] * len(found)
        if self.means.states is not None and found:
            held = self.means.states.glance(self.definition, found.digests, found.tags)
            reasons = ["" if each is None else each.code.value for each in held]
        reasons = [
            why or (LATE if each is None else "") for why, each in zip(reasons, due, strict=True)
        ]
        if self.shares is not None:
            free = [at for at, why in enumerate(reasons) if not why]
            admitted = {free[at] for at in self.shares.admit([found.rows[at] for at in free])}
            for at in free:
                reasons[at] = "" if at in admitted else OVER_SHARE
        return reasons

    def _show(
        self,
        found: Batch,
        told: Sequence[bool | None],
        reasons: Sequence[str],
        due: Sequence[float | None],
    ) -> None:
        count = self.means.rows - len(self.made.rows)
        if count <= 0 or not found:
            return
        waits = [each or 0.0 for each in due[:count]]
        if self.definition.jitter:
            window, digests = self.definition.jitter, found.digests[:count]
            timed = None if self.definition.shape.run_at is None else waits
            waits = jitter.delays(digests, window, self.now, timed)
        pairs = zip(found.rows, found.args, told, waits, reasons, strict=False)
        for row, each, answer, wait, why in pairs:
            key = key_of(self.definition, row)
            self.made.rows.append(Shown(key, each, answer, wait, why))

    def _check(self, key: tuple[Any, ...] | None) -> None:
        if self.definition.shape.slots is not None:
            return  # a slot is looked at by the statement of a page
        statement = by_key(self.definition.shape)
        values = {} if key is None else {f"key_{at}": each for at, each in enumerate(key)}
        self.made.check_sql = readable(statement, self.engine.dialect, values)
        if key is not None:
            timeout = self.definition.statement_timeout
            self.made.check = explain(self.engine, statement, values, timeout)
            self._advise(self.made.check)

    def _advise(self, explained: Explained) -> None:
        for scan in explained.scans:
            ddl = index_for(self.definition.shape, scan.source, self.engine.dialect)
            remedy = (
                f"This would help: {ddl}" if ddl else "Give its WHERE a column that has an index"
            )
            finding = f"{scan}. {remedy}"
            if finding not in self.made.findings:
                self.made.findings.append(finding)

    def _not_due(self) -> Select[Any] | None:
        """Return the rows that are due further ahead than passes look."""
        run_at = self.definition.shape.run_at
        if run_at is None:
            return None
        dialect = self.engine.dialect.name
        last = moment(run_at.column, self.now + run_at.horizon, dialect)
        return self.definition.shape.statement.where(run_at.column > last)

    def _number(self, rows: Select[Any] | None) -> Count:
        """Return how many rows a statement has, up to the limit."""
        if rows is None:
            return Count(0, at_least=False)
        most = self.means.limit
        counted = select(func.count()).select_from(rows.limit(most + 1).subquery())
        with reading(self.engine, self.definition.statement_timeout) as connection:
            found = int(connection.execute(counted).scalar_one())
        return Count(min(found, most), at_least=found > most)

    def _redis_failed(self) -> bool:
        return any(isinstance(each, StoreError) for each in self.made.errors)


def lease_of(unit: str, standings: Sequence[Standing] | None) -> dict[str, Any] | None:
    """Return who holds the lease of a reconciler, as JSON values; None when that could not be asked."""
    if standings is None:
        return None
    found = next((each for each in standings if each.unit == unit), None)
    if found is None:
        return {"holder": None, "term": 0, "expires_in": None}
    return {"holder": found.holder, "term": found.term, "expires_in": found.expires_in}
