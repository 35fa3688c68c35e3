"""One pass, as a straight line: read `run` first.

    look → audit → page → eligible? → told? → room? → push → codes, page by page until one is short

A pass changes nothing but Redis: it may be cut off anywhere and begun again, and locks make the repetition free.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic, time
from typing import Any, Final, TypeAlias

from qik_core import Code, settings
from qik_core.errors import QikError
from qik_core.passes import Passes, Telling
from reconciler import jitter
from reconciler.choice import Choice
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.freshness import reader
from reconciler.gauges import Gauges
from reconciler.ledger import Ledger
from reconciler.occurrences import source_of
from reconciler.pages import Page, Pages, Source
from reconciler.pressure import Gates
from reconciler.quarantine import RowStates
from reconciler.recheck import Recheck
from reconciler.report import INVALID, SHADOW, TOLD, Outcome, Progress, Report
from reconciler.rows import Batch, Invalid, batch
from reconciler.source import read_position, write_position
from reconciler.sql import read_clock
from reconciler.switches.stopping import Off, Stops
from reconciler.watch import Watch
from reconciler.words import cause

log: Final = logging.getLogger("reconciler")

ROLL_TIMEOUT: Final = 30.0
"""Seconds that a pass waits for a roll; then it goes on, and the pass after it tells the rest."""
_CALL: Final = 10.0
"""Seconds that the calls of Redis between two looks at the clock may take, more than their own deadlines allow."""
_WRITE: Final = 35.0
"""Seconds that the ledger may take: SQLite waits 30 s for other writers."""
_SAID: Final = 1.0
"""Seconds between two notes in the ledger of how far a pass is."""
_SHOWN: Final = 3

Stop: TypeAlias = tuple[Outcome, str]
Made: TypeAlias = tuple[Batch, list[Invalid]]


@dataclass(frozen=True, slots=True)
class Tools:
    """What every pass of a process works with."""

    seam: Passes
    watch: Watch
    engines: Engines
    ledger: Ledger
    gates: Gates
    states: RowStates
    recheck: Recheck
    stops: Stops

    @classmethod
    def of(cls, seam: Passes, engines: Engines, holder: str) -> Tools:
        """Return the tools of a process that calls itself `holder`."""
        home = engines.home()
        return cls(
            seam,
            Watch(seam, name=holder),
            engines,
            Ledger(home, holder),
            Gates(seam),
            RowStates(home, seam, settings.current().release or ""),
            Recheck(lambda: engines),
            Stops(seam),
        )


class Pass:
    """One pass of one reconciler.

    `standing` says whether it may go on: None, or the outcome and the reason to end with. It is asked before each page
    and before each push.
    """

    def __init__(
        self, definition: Definition, tools: Tools, term: int, standing: Callable[[], Stop | None]
    ) -> None:
        self.definition = definition
        self.until = monotonic() + _WRITE
        """When the step under way should have ended, in monotonic seconds; a step beyond it is stuck."""
        self._tools = tools
        self._term = term
        self._standing = standing
        self._began = monotonic()
        self.progress = Progress(page_size=definition.batch_size)
        """How far it is."""
        self._epoch = ""
        self._number: int | None = None
        self._said_at = self._began
        self._gauges = Gauges()
        self._choice = Choice(definition, tools, self.progress.codes, self._clock)
        self._held: dict[str, int] = {}
        self._off = Off(definition, tools.stops)
        self._through = False
        self._invalid: list[str] = []
        self._ahead = time() - monotonic()
        self._under_way: tuple[Batch, Telling] | None = None

    def run(self) -> Report:
        """Tell every pending row; every way to end is an outcome, nothing is raised but what ends the process."""
        failed: Exception | None = None
        try:
            self._number = self._tools.ledger.begin(self.definition, self._term)
            outcome, reason = self._tell_all()
        except QikError as error:
            outcome, reason, failed = Outcome.FAILED, str(error), error
        except Exception as error:  # one broken reconciler must not stop the others
            log.exception("pass failed", extra={"reconciler": self.definition.unit})
            outcome, failed = Outcome.FAILED, error
            reason = f"{type(error).__name__}: {cause(error)}"
        return self._end(outcome, reason, self._number, failed)

    def _tell_all(self) -> Stop:
        begun = self._begin()
        if not isinstance(begun[1], Pages):
            return begun
        source, pages = begun
        try:
            stopped = self._tell_pages(source, pages)
            return self._finish() or stopped or self._complete()
        except BaseException:
            with suppress(QikError):
                self._finish()  # what was pushed is counted, whatever went wrong with the page behind it
            raise
        finally:
            self._step(self.definition.statement_timeout)
            pages.close(self.definition.statement_timeout)

    def _tell_pages(self, source: Source, pages: Pages[Made]) -> Stop | None:
        """Tell page by page; returns why the pass has to end before it is through, if it has to."""
        while (stopped := self._stopped()) is None:
            page = self._page(pages)
            if page is None:
                continue
            with self._gauges.timed("telling"):
                stopped = self._tell(*page.made)
            if stopped is not None or pages.ended:
                break
            self.progress.cursor = write_position(source.position(page.rows[-1]))
            self._say_how_far()
        return stopped

    # --- the steps -------------------------------------------------------------------------------

    def _begin(self) -> tuple[Source, Pages[Made]] | Stop:
        """Look at the epoch, heal what somebody deleted by hand, and find where to start."""
        self._step(_CALL)
        seam, self._epoch = self._tools.seam, self._tools.watch.look()
        if seam.audit(self.definition.queues):
            self._roll()
        self._step(_CALL)
        primary = self._tools.engines.of(self.definition)
        where = reader(self.definition, primary, self._tools.engines.engine)
        if where.engine is None:
            return Outcome.GATED, where.note
        if where.note:
            self.progress.notes.append(where.note)
        self._ahead = read_clock(where.engine) - monotonic()
        held = self._remember()
        source = source_of(self.definition, where.engine, self._clock(), held=held, told=seam.told)
        before = self._tools.ledger.before(self.definition, self._epoch)
        self._gauges.rate = before.rate
        after = None if before.cursor is None else read_position(before.cursor)
        return source, Pages(
            source, partial(batch, self.definition), self.definition.batch_size, after
        )

    def _remember(self) -> int:
        """Take over how jobs have ended, forget rows that are healed; returns how many rows may be held back."""
        states = self._tools.states
        states.drain()
        states.healed(self.definition, self._tools.recheck.look)
        self._held = states.counts(self.definition)
        return sum(self._held.values())

    def _roll(self) -> None:
        self._step(ROLL_TIMEOUT)
        ended = self._tools.seam.roll(monotonic() + ROLL_TIMEOUT)
        note = f"jobs were deleted by hand, their locks are {'' if ended else 'not yet '}collected"
        self.progress.notes.append(note)
        log.warning(note, extra={"reconciler": self.definition.unit})

    def _page(self, pages: Pages[Made]) -> Page[Made] | None:
        """Return the next page; None when it was too slow and is to be tried again at half the size."""
        self._step(self.definition.statement_timeout)
        with self._gauges.timed("reading"):
            page = pages.read()
        self.progress.page_size = pages.size
        if page is not None:
            self.progress.pages += 1
            self.progress.scanned += len(page.rows)
            self._gauges.pending(self.definition, page.rows)
        return page

    def _tell(self, travelling: Batch, invalid: Sequence[Invalid]) -> Stop | None:
        """Tell the rows of one page that are not told; returns why the pass has to end, if it has to."""
        if stopped := self._land():
            return stopped
        self._step(_CALL)
        self._note(invalid)
        found = self._choice.of(travelling)
        if not found:
            return None
        new = self._untold(found)
        if not new:
            return None
        new = self._switched(new)
        new = self._choice.still(new, len(travelling)) if new else new
        self._gauges.untold(self.definition, new)
        if self.definition.shadow:
            self.progress.codes[SHADOW] += len(new)
            return None
        return self._stopped() or (self._push(new) if new else None)

    def _note(self, invalid: Sequence[Invalid]) -> None:
        for each in invalid:
            self.progress.codes[INVALID] += 1
            self._invalid = [*self._invalid, str(each)][:_SHOWN]
            log.warning(
                "row cannot be told",
                extra={
                    "reconciler": self.definition.unit,
                    "key": repr(each.key),
                    "error": str(each.error),
                },
            )

    def _untold(self, found: Batch) -> Batch:
        told = self._tools.seam.told(found.digests, found.tags)
        new = found.pick([at for at, each in enumerate(told) if not each])
        if len(new) < len(found):
            self.progress.codes[TOLD] += len(found) - len(new)
        return new

    def _switched(self, new: Batch) -> Batch:
        """Return the rows that no kill switch keeps back; the others are counted, and their age is seen."""
        kept, free = self._off.part(new)
        if kept:
            self._gauges.untold(self.definition, new.pick(kept))
            self.progress.codes[Code.REFUSED.value] += len(kept)
        return new.pick(free) if kept else new

    def _push(self, new: Batch) -> Stop | None:
        """Tell as many as there is room for, most urgent first."""
        room, reason = self._tools.gates.room(self.definition)
        shut = room is not None and room < len(new)
        if shut:
            new = new.pick(range(room or 0))
        if new:
            self._send(new)
        return (Outcome.GATED, f"{reason}; the rest stays in SQL") if shut else None

    def _send(self, new: Batch) -> None:
        new, delays = self._spread(new)
        self._step(_CALL)
        telling = self._tools.seam.start(
            self.definition.job,
            new.args,
            delays=delays,
            versions=new.tags,
            queue=self.definition.queue,
            digests=list(new.digests),
        )
        self._under_way = new, telling

    def _land(self) -> Stop | None:
        """Count what became of the rows that were pushed last; returns why the pass has to end, if it has to."""
        if self._under_way is None:
            return None
        (new, telling), self._under_way = self._under_way, None
        self._step(_CALL)
        pushed = telling.land()
        counted = Counter(pushed.codes)
        self.progress.codes.update({str(code): count for code, count in counted.items()})
        self._gauges.pushed += len(pushed.codes)
        if self.definition.edges:
            enqueued = [at for at, code in enumerate(pushed.codes) if code is Code.ENQUEUED]
            self._gauges.drift += self._choice.causes(new.pick(enqueued), pushed.epoch.loss)
        if pushed.epoch.loss != self._epoch:
            return Outcome.RESTARTED, "Redis lost its data during the pass"
        full = "the queue or Redis is full; the rest stays in SQL until the next pass"
        return (Outcome.GATED, full) if Code.FULL in counted else None

    def _finish(self) -> Stop | None:
        with self._gauges.timed("telling"):
            return self._land()

    def _spread(self, new: Batch) -> tuple[Batch, Sequence[float] | None]:
        """Return the rows in the order in which they are due, with the seconds until then; None for all at once."""
        delays = new.due
        if self.definition.jitter:
            window = self.definition.jitter
            delays = jitter.delays(new.digests, window, self._clock(), new.due)
        if delays is None:
            return new, None
        order = jitter.rising(delays)
        return new.pick(order), [delays[at] for at in order]

    def _say_how_far(self) -> None:
        """Let people see how far a long pass is."""
        if self._number is None or monotonic() - self._said_at < _SAID:
            return
        self._said_at = monotonic()
        self._step(_WRITE)
        seen = self.progress
        with suppress(QikError):  # it is told again in a second
            self._tools.ledger.reached(self._number, seen.scanned, seen.pages, seen.codes)

    # --- whether to go on ------------------------------------------------------------------------

    def _stopped(self) -> Stop | None:
        stopped = self._standing()
        if stopped is not None:
            return stopped
        if self._tools.watch.recent() != self._epoch:
            return Outcome.RESTARTED, "Redis lost its data during the pass"
        if monotonic() - self._began >= self.definition.budget and self.progress.cursor is not None:
            return (
                Outcome.BUDGET,
                f"not through after {self.definition.budget:g} s; the next pass goes on from here",
            )
        return None

    def _complete(self) -> Stop:
        self._through = True
        outcome, said = Outcome.COMPLETED, list(self.progress.notes)
        if off := self._off.reason:
            outcome, said = Outcome.GATED, [off, *said]
        if self._invalid:
            count, shown = self.progress.codes[INVALID], "; ".join(self._invalid)
            broken = f"{count} rows have arguments that cannot travel, as {shown}"
            outcome, said = Outcome.FAILED, [broken, *said]
        return outcome, "; ".join(said)

    def _end(
        self, outcome: Outcome, reason: str, number: int | None, error: Exception | None
    ) -> Report:
        report = Report(
            reconciler=self.definition.unit,
            outcome=outcome,
            reason=reason,
            seconds=monotonic() - self._began,
            scanned=self.progress.scanned,
            pages=self.progress.pages,
            page_size=self.progress.page_size,
            codes=dict(self.progress.codes),
            cursor=self.progress.cursor if outcome is Outcome.BUDGET else None,
            pass_id=number,
            details=self._details(outcome),
            error=error,
        )
        self._step(_WRITE)
        self._tools.ledger.close(report, self._epoch)
        return report

    def _details(self, outcome: Outcome) -> dict[str, Any]:
        """Return what was measured; what a pass through all rows alone can know is left out after any other.

        A pass of shares reads no more of a tenant than its share.
        """
        details = {**self._gauges.details(self._clock()), **self._held}
        if self._off.reason:
            details["switched_off"] = self._off.as_json()
        if not self._through or outcome is Outcome.FAILED or self.definition.fair is not None:
            return details
        scanned = self.progress.scanned
        if outcome is Outcome.COMPLETED:
            details["time_to_whole"] = round(self._gauges.whole(scanned, self.definition.jitter), 3)
        return {**details, "pending": scanned}

    def _step(self, seconds: float) -> None:
        self.until = monotonic() + seconds

    def _clock(self) -> float:
        """Return the database's time: read once, then moved on by our own monotonic clock."""
        return monotonic() + self._ahead
