"""One unit of a rebuild: its pages, which of their rows want a job, and what was told of them.

It asks as a pass does, page by page: held back? told? still pending? Only when, and how many at once, is the rebuild's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final

from sqlalchemy import Engine, func, select

from qik_core import Code
from qik_core.switches import Stop, flag_of_reconciler
from reconciler import jitter
from reconciler.bookmarks import Bookmark
from reconciler.choice import Choice
from reconciler.definition import Definition
from reconciler.errors import ReconcilerError, SqlUnavailable
from reconciler.fair import ranked
from reconciler.freshness import reader
from reconciler.gauges import moment
from reconciler.occurrences import OccurrenceSource, source_of
from reconciler.pages import Page, Pages
from reconciler.passes import Tools
from reconciler.rebuilt import Done, State
from reconciler.report import INVALID, TOLD
from reconciler.rows import Batch, Invalid, batch
from reconciler.source import eligible, read_position, write_position
from reconciler.sql import read_clock, reading
from reconciler.switches.stopping import why

COUNTING: Final = 5.0
"""Seconds that counting the pending rows of one unit may take; they are not known then, and there is no ETA."""

_CLOSING: Final = 2.0
"""Seconds that the end waits for a page that nobody wants any more."""
_SHOWN: Final = 3


@dataclass(slots=True)
class Part:
    """One unit, changed in place by the thread that rebuilds."""

    definition: Definition
    tools: Tools
    size: int
    """Rows of a page."""
    override: bool = False
    """What the switch of the reconciler itself stops is told."""
    state: State = State.READY
    reason: str = ""
    total: int | None = None
    """Rows that were pending at the beginning; None where they could not be counted."""
    scanned: int = 0
    cursor: str | None = None
    before: int = 0
    """Rows that are behind a rebuild that was cut off."""
    began: float | None = None
    """When that one began, in epoch seconds."""
    codes: Counter[str] = field(default_factory=Counter)
    invalid: list[str] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    """Rows that a switch keeps back, by what it says."""
    rest: Batch | None = None
    """Untold rows of the page that is being told: those that found no room yet."""
    waits: str = ""
    """Why nothing is told now."""
    until: float = 0.0
    """Monotonic seconds at which it is tried again."""
    full: bool = False
    """The last push was refused in part: the queue or Redis is full."""
    ahead: float = 0.0
    """The database's clock against our monotonic one."""
    _counted: Counter[str] = field(default_factory=Counter)
    _keeps: Counter[str] = field(default_factory=Counter)
    _choice: Choice | None = None
    _source: Any = None
    _pages: Pages[tuple[Batch, list[Invalid]]] | None = None
    _page: Page[tuple[Batch, list[Invalid]]] | None = None

    @property
    def unit(self) -> str:
        """The reconciler, with the shard behind it where there is one."""
        return self.definition.unit

    @property
    def resumed(self) -> bool:
        """Whether it goes on where a rebuild before was cut off."""
        return self.began is not None

    @property
    def progress(self) -> int:
        """Rows that are done, in this rebuild and before it was cut off."""
        page = (
            0 if self._page is None or self.rest is None else len(self._page.rows) - len(self.rest)
        )
        return self.before + self.scanned + page

    @property
    def enqueued(self) -> int:
        """Rows that were told by this rebuild."""
        return self.codes[Code.ENQUEUED]

    def clock(self) -> float:
        """Return the database's time in epoch seconds."""
        return monotonic() + self.ahead

    # --- reading ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Find where to read, from the cursor on. Raises SqlUnavailable."""
        engine = self._engine()
        self.ahead = read_clock(engine) - monotonic()
        held = sum(self.tools.states.counts(self.definition).values())
        self._source = source_of(
            self.definition, engine, self.clock(), held=held, told=self.tools.seam.told
        )
        self._choice = Choice(self.definition, self.tools, self._counted, self.clock)
        after = None if self.cursor is None else read_position(self.cursor)
        self._pages = Pages(self._source, partial(batch, self.definition), self.size, after)

    def _engine(self) -> Engine:
        engines = self.tools.engines
        where = reader(self.definition, engines.of(self.definition), engines.engine)
        if where.engine is None:
            raise SqlUnavailable(where.note)
        return where.engine

    def count(self) -> None:
        """Count what is pending now, if that does not take long."""
        try:
            self.total = self._count()
        except ReconcilerError:
            self.total = None

    def _count(self) -> int:
        engine = self._engine()
        now = read_clock(engine)
        source = source_of(self.definition, engine, now, told=self.tools.seam.told)
        if isinstance(source, OccurrenceSource):
            return len(source.read(None, 10**9))
        rows, fair = eligible(self.definition, now, engine.dialect.name), self.definition.fair
        if fair is not None:
            rows, _ = ranked(self.definition.shape, rows, fair.per_tenant, None)
        counted = select(func.count()).select_from(rows.subquery())
        with reading(engine, min(COUNTING, self.definition.statement_timeout)) as connection:
            return int(connection.execute(counted).scalar_one())

    def load(self) -> bool:
        """Have a page at hand; False when there are no more rows. Raises SqlUnavailable, StatementTimeout."""
        if self._pages is None:
            self.open()
        while self._page is None and self._pages is not None:
            if self._pages.ended:
                return False
            self._page = self._pages.read()
            if self._page is not None and not self._page.rows:
                self._page = None
                return False
        return self._page is not None

    @property
    def urgency(self) -> float:
        """When the first rows of the page were due, or became pending, in epoch seconds; infinite where nobody says."""
        shape = self.definition.shape
        at = shape.age_at if shape.run_at is None else shape.run_at_at
        if shape.slots is not None:
            at = 0
        if at is None or self._page is None:
            return float("inf")
        ends = self._page.rows[0], self._page.rows[-1]
        return min(moment(row[at]) or 0.0 for row in ends)  # no moment at all counts as old

    def close(self) -> None:
        """Read no further."""
        if self._pages is not None:
            self._pages.close(min(_CLOSING, self.definition.statement_timeout))
        self._pages = self._page = self.rest = None

    # --- telling ---------------------------------------------------------------------------------

    def untold(self) -> Batch:
        """Return the rows of the page that want a job and have none; of a page that is begun, those that are left."""
        if self._page is None or self._choice is None:
            raise RuntimeError("no page is at hand")
        self._counted.clear()  # of a try that Redis did not answer
        self._keeps.clear()
        travelling, invalid = self._page.made
        if self.rest is None:
            self._counted[INVALID] += len(invalid)
            found = self._choice.of(travelling)
        else:
            found = self.rest
        new = self._switched(self._new(found)) if found else found
        new = self._choice.still(new, len(travelling)) if new else new
        if self.rest is None:
            self.invalid = [*self.invalid, *map(str, invalid)][:_SHOWN]
        self.codes.update(self._counted)
        self.kept.update(self._keeps)
        self.rest = new
        return new

    def _new(self, found: Batch) -> Batch:
        told = self.tools.seam.told(found.digests, found.tags)
        new = found.pick([at for at, each in enumerate(told) if not each])
        self._counted[TOLD] += len(found) - len(new)
        return new

    def _switched(self, new: Batch) -> Batch:
        """Return the rows that no kill switch keeps back; the others are counted."""
        said = self.tools.stops.rows(self.definition, new)
        kept = [None if each is None or self.overrides(each) else why(each) for each in said]
        self._keeps.update(each for each in kept if each is not None)
        self._counted[Code.REFUSED] += self._keeps.total()
        return new.pick([at for at, each in enumerate(kept) if each is None])

    def overrides(self, stop: Stop) -> bool:
        """Whether this switch is overridden: only that of the reconciler can be, since workers obey the others."""
        return self.override and stop.flag == flag_of_reconciler(self.definition.name)

    def push(self, most: int, window: float) -> str:
        """Tell up to so many of the rows that are left, spread over `window` seconds; returns the loss id of Redis.

        Raises:
            StoreError: Redis did not answer; the rows are left.
        """
        if self.rest is None:
            raise RuntimeError("nothing is left to tell")
        left, new = self.rest, self.rest.pick(range(min(most, len(self.rest))))
        delays = new.due
        if window:
            delays = jitter.delays(new.digests, window, self.clock(), new.due)
        order = range(len(new)) if delays is None else jitter.rising(delays)
        sent = new.pick(order)
        told = self.tools.seam.push(
            self.definition.job,
            sent.args,
            delays=None if delays is None else [delays[at] for at in order],
            versions=sent.tags,
            queue=self.definition.queue,
            digests=list(sent.digests),
        )
        full = {at for at, code in zip(order, told.codes, strict=True) if code is Code.FULL}
        self.codes.update(str(code) for code in told.codes if code is not Code.FULL)
        self.rest = left.pick([at for at in range(len(left)) if at in full or at >= len(new)])
        self.full = bool(full)
        return told.epoch.loss

    def turned(self) -> None:
        """Take note that the page is done."""
        if self._page is not None:
            self.scanned += len(self._page.rows)
            self.cursor = write_position(self._source.position(self._page.rows[-1]))
        self._page = self.rest = None

    # --- where it stands -------------------------------------------------------------------------

    def resume(self, mark: Bookmark) -> None:
        """Go on from a bookmark."""
        self.cursor, self.before, self.total, self.began = (
            mark.cursor,
            mark.scanned,
            mark.total,
            mark.began,
        )

    def restart(self) -> None:
        """Begin again with the first row, however it had ended: Redis has lost its data."""
        self.close()
        self.cursor, self.before, self.began, self.scanned, self.until = None, 0, None, 0, 0.0
        self.codes.clear()
        self.kept.clear()
        self.invalid = []
        self.state, self.reason = State.READY, ""

    def kept_back(self) -> list[str]:
        """Say how many rows which switches keep back, those that keep most first."""
        name = self.definition.facts.name
        return [
            f"{count:,} rows of {name} stay in SQL: {said}"
            for said, count in self.kept.most_common(_SHOWN)
        ]

    def bookmark(self, epoch: str, holder: str, began: float) -> Bookmark:
        """Return where it stands: at the beginning, if rows before it may want a job the next time."""
        again = self.codes[INVALID] or self.kept
        return Bookmark(
            epoch=epoch,
            holder=holder,
            began=began if self.began is None else self.began,
            cursor=None if again else self.cursor,
            scanned=self.before + self.scanned,
            enqueued=self.enqueued,
            total=self.total,
            ended="" if self.state is State.READY else str(self.state),
        )

    def done(self) -> Done:
        """Return what became of it."""
        codes = {code: count for code, count in sorted(self.codes.items()) if count}
        return Done(
            unit=self.unit,
            state=self.state,
            reason=self.reason,
            scanned=self.scanned,
            total=self.total,
            codes=codes,
            resumed=self.resumed,
        )
