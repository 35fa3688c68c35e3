"""What a pass would do, without doing it: its SQL and how the database plans it, how many rows are pending, which are told.

Nothing is written anywhere: no lease, no ledger, no epoch, no job. Rows are counted by reading their keys in pages, up to
a limit, so a plan costs what a pass costs at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Engine, func, select

from qik_core.errors import QikError, StoreError
from qik_core.passes import Passes
from reconciler import jitter
from reconciler.advice import index_for
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import StatementTimeout
from reconciler.explain import Explained, explain, readable
from reconciler.occurrences import source_of
from reconciler.rows import Batch, batch, key_of
from reconciler.source import by_key, too_young
from reconciler.sql import read_clock, reading, where
from reconciler.status import Standing

LIMIT: Final = 10_000
"""Rows that are counted, unless the caller says otherwise."""
ROWS: Final = 10
"""Rows that are shown."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One of the first rows."""

    key: tuple[Any, ...]
    args: tuple[Any, ...]
    told: bool | None
    """None where Redis did not answer."""
    delay: float
    """Seconds after which its job would become due if it were told now."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, whatever the types of its key."""
        return {
            "key": [str(each) for each in self.key],
            "args": [str(each) for each in self.args],
            "told": self.told,
            "delay": round(self.delay, 3),
        }


@dataclass(frozen=True, slots=True)
class Count:
    """How many; `at_least` when counting ended at its limit."""

    rows: int
    at_least: bool

    def __str__(self) -> str:
        return f"{'at least ' if self.at_least else ''}{self.rows:,}"


@dataclass(slots=True)
class Plan:
    """What a pass of one reconciler would do. None stands for what could not be asked; `errors` say why."""

    reconciler: str
    job: str
    queue: str
    database: str
    every: float
    jitter: float
    min_age: float
    page: Explained | None = None
    check: Explained | None = None
    """The statement that looks at one row by its key, explained with the first key."""
    check_sql: str = ""
    pending: Count | None = None
    told: int | None = None
    """Of the rows counted."""
    invalid: int = 0
    """Of the rows counted: those whose arguments cannot travel."""
    young: Count | None = None
    rows: list[Shown] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "reconciler": self.reconciler,
            "job": self.job,
            "queue": self.queue,
            "database": self.database,
            "every": self.every,
            "jitter": self.jitter,
            "min_age": self.min_age,
            "pending": self.pending and self.pending.rows,
            "at_least": bool(self.pending and self.pending.at_least),
            "told": self.told,
            "invalid": self.invalid,
            "too_young": self.young and self.young.rows,
            "rows": [each.as_json() for each in self.rows],
            "page": self.page and self.page.as_json(),
            "check": self.check.as_json() if self.check else {"sql": self.check_sql},
            "findings": self.findings,
            "errors": [str(each) for each in self.errors],
        }


@dataclass(frozen=True, slots=True)
class Means:
    """What a plan asks, and how much of it."""

    engines: Engines
    seam: Passes | None
    """None: Redis does not answer, so nothing is known of who is told."""
    limit: int = LIMIT
    rows: int = ROWS
    gone: Mapping[str, Exception] = field(default_factory=dict)
    """The databases that do not answer: name → why."""


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
    )
    if definition.database in means.gone:
        made.errors.append(means.gone[definition.database])
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
        made.findings.append(f"the statement fails: {' '.join(str(error).split())}")
    return made


class _Planner:
    """The steps of one plan; each fills in a part of it."""

    def __init__(self, definition: Definition, means: Means, made: Plan) -> None:
        self.definition = definition
        self.means = means
        self.made = made
        self.engine: Engine = means.engines.engine(definition.database)
        made.database = f"{definition.database} ({where(self.engine)})"
        self.now = read_clock(self.engine)
        told = None if means.seam is None else means.seam.glance
        self.source = source_of(definition, self.engine, self.now, told=told)

    def look(self) -> None:
        timeout = self.definition.statement_timeout
        first = {"qik__limit": self.definition.batch_size}
        self.made.page = explain(self.engine, self.source.first, first, timeout)
        self._advise(self.made.page)
        key = self._count()
        self._check(key)
        self.made.young = self._young()

    def _count(self) -> tuple[Any, ...] | None:
        """Count the pending rows and those of them that are told; returns the key of the first row."""
        counted, told, key = 0, 0, None
        for page in self._pages():
            kept = page[: self.means.limit - counted]
            counted += len(kept)
            if key is None and kept:
                key = key_of(self.definition, kept[0])
            told += self._told(kept)
            self.made.pending = Count(counted, len(kept) < len(page))
        self.made.told = None if self.means.seam is None or self._redis_failed() else told
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

    def _told(self, page: Sequence[Any]) -> int:
        """Return how many rows of a page are told; the first ones of all are kept to be shown."""
        found, invalid = batch(self.definition, page)
        self.made.invalid += len(invalid)
        answers: Sequence[bool | None] = [None] * len(found)
        if self.means.seam is not None and found and not self._redis_failed():
            try:
                answers = self.means.seam.glance(found.digests, found.tags)
            except StoreError as error:
                self.made.errors.append(error)
        self._show(found, answers)
        return sum(1 for each in answers if each)

    def _show(self, found: Batch, told: Sequence[bool | None]) -> None:
        count = self.means.rows - len(self.made.rows)
        if count <= 0 or not found:
            return
        window = self.definition.jitter
        delays = [0.0] * count
        if window:
            delays = jitter.delays(found.digests[:count], window, self.now)
        for row, each, answer, delay in zip(found.rows, found.args, told, delays, strict=False):
            self.made.rows.append(Shown(key_of(self.definition, row), each, answer, delay))

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

    def _young(self) -> Count:
        rows = too_young(self.definition, self.now, self.engine.dialect.name)
        if rows is None:
            return Count(0, at_least=False)
        most = self.means.limit
        counted = select(func.count()).select_from(rows.limit(most + 1).subquery())
        with reading(self.engine, self.definition.statement_timeout) as connection:
            found = int(connection.execute(counted).scalar_one())
        return Count(min(found, most), at_least=found > most)

    def _redis_failed(self) -> bool:
        return any(isinstance(each, StoreError) for each in self.made.errors)


def lease_of(name: str, standings: Sequence[Standing] | None) -> dict[str, Any] | None:
    """Return who holds the lease of a reconciler, as JSON values; None when that could not be asked."""
    if standings is None:
        return None
    found = next((each for each in standings if each.reconciler == name), None)
    if found is None:
        return {"holder": None, "term": 0, "expires_in": None}
    return {"holder": found.holder, "term": found.term, "expires_in": found.expires_in}
