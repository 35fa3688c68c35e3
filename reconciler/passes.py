"""One pass, as a straight line: read `run` first.

    look → audit → page → told already? → push → codes, page by page until one is short

A pass changes nothing but Redis: it may be cut off anywhere and begun again, and locks make the repetition free.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic
from typing import Any, Final, TypeAlias

from qik_core import Code
from qik_core.errors import ArgumentError, DefinitionError, QikError
from qik_core.passes import Passes
from reconciler import jitter
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import StatementTimeout
from reconciler.ledger import Ledger
from reconciler.report import INVALID, TOLD, Outcome, Progress, Report
from reconciler.source import Position, Source, read_position, write_position
from reconciler.sql import read_clock
from reconciler.watch import Watch

log: Final = logging.getLogger("reconciler")

SMALLEST_PAGE: Final = 50
"""A page is not halved below this."""
ROLL_TIMEOUT: Final = 30.0
"""Seconds that a pass waits for a roll; then it goes on, and the pass after it tells the rest."""
_CALL: Final = 10.0
"""Seconds that the calls of Redis between two looks at the clock may take, more than their own deadlines allow."""
_WRITE: Final = 35.0
"""Seconds that the ledger may take: SQLite waits 30 s for other writers."""
_TAG: Final = 6
_SHOWN: Final = 3

Stop: TypeAlias = tuple[Outcome, str]


@dataclass(frozen=True, slots=True)
class Tools:
    """What every pass of a process works with."""

    seam: Passes
    watch: Watch
    engines: Engines
    ledger: Ledger


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
        self._progress = Progress(page_size=definition.batch_size)
        self._epoch = ""
        self._invalid: list[str] = []
        self._slow = 0
        self._ahead = 0.0

    def run(self) -> Report:
        """Tell every pending row; every way to end is an outcome, nothing is raised but what ends the process."""
        number: int | None = None
        failed: Exception | None = None
        try:
            number = self._tools.ledger.begin(self.definition, self._term)
            outcome, reason = self._tell_all()
        except QikError as error:
            outcome, reason, failed = Outcome.FAILED, str(error), error
        except Exception as error:  # one broken reconciler must not stop the others
            log.exception("pass failed", extra={"reconciler": self.definition.name})
            outcome, failed = Outcome.FAILED, error
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return self._end(outcome, reason, number, failed)

    def _tell_all(self) -> Stop:
        source, position = self._begin()
        while (stopped := self._stopped()) is None:
            size = self._progress.page_size
            rows = self._page(source, position, size)
            if rows is None:
                continue
            stopped = self._tell(rows)
            if stopped is not None:
                return stopped
            if len(rows) < size:
                return self._complete()
            position = source.position(rows[-1])
            self._progress.cursor = write_position(position)
        return stopped

    # --- the steps -------------------------------------------------------------------------------

    def _begin(self) -> tuple[Source, Position | None]:
        """Look at the epoch, heal what somebody deleted by hand, and find where to start."""
        self._step(_CALL)
        self._epoch = self._tools.watch.look()
        if self._tools.seam.audit(self.definition.queues):
            self._roll()
        self._step(_CALL)
        engine = self._tools.engines.engine(self.definition.database)
        self._ahead = read_clock(engine) - monotonic()
        source = Source(self.definition, engine, self._clock())
        cursor = self._tools.ledger.cursor(self.definition.name, self._epoch)
        return source, None if cursor is None else read_position(cursor)

    def _roll(self) -> None:
        self._step(ROLL_TIMEOUT)
        ended = self._tools.seam.roll(monotonic() + ROLL_TIMEOUT)
        note = "jobs were deleted by hand, their locks are collected"
        self._progress.notes.append(note if ended else f"{note.replace('are', 'are not yet')}")
        log.warning(self._progress.notes[-1], extra={"reconciler": self.definition.name})

    def _page(self, source: Source, after: Position | None, size: int) -> Sequence[Any] | None:
        """Return the next page; None when it was too slow and is to be tried again at half the size.

        Raises:
            StatementTimeout: twice in a row at the smallest size.
        """
        self._step(self.definition.statement_timeout)
        smallest = min(SMALLEST_PAGE, self.definition.batch_size)
        try:
            rows = source.read(after, size)
        except StatementTimeout:
            self._slow += size <= smallest
            if self._slow > 1:
                raise
            self._progress.page_size = max(smallest, size // 2)
            return None
        self._slow = 0
        self._progress.pages += 1
        self._progress.scanned += len(rows)
        return rows

    def _tell(self, rows: Sequence[Any]) -> Stop | None:
        """Tell the rows of one page that are not told; returns why the pass has to end, if it has to."""
        self._step(_CALL)
        rows, args, digests = self._keys(rows)
        if not digests:
            return None
        versions = self._versions(rows)
        told = self._tools.seam.told(digests, versions)
        new = [at for at, each in enumerate(told) if not each]
        if len(new) < len(told):
            self._progress.codes[TOLD] += len(told) - len(new)
        if not new:
            return None
        return self._stopped() or self._push(new, args, digests, versions)

    def _push(
        self,
        new: Sequence[int],
        args: Sequence[tuple[Any, ...]],
        digests: Sequence[bytes],
        versions: Sequence[str] | None,
    ) -> Stop | None:
        delays = None
        if self.definition.jitter:
            window = jitter.delays(
                [digests[at] for at in new], self.definition.jitter, self._clock()
            )
            order = jitter.rising(window)
            new, delays = [new[at] for at in order], [window[at] for at in order]
        self._step(_CALL)
        pushed = self._tools.seam.push(
            self.definition.job,
            [args[at] for at in new],
            delays=delays,
            versions=None if versions is None else [versions[at] for at in new],
            queue=self.definition.queue,
        )
        self._progress.codes.update(str(code) for code in pushed.codes)
        if pushed.epoch.loss != self._epoch:
            return Outcome.RESTARTED, "Redis lost its data during the pass"
        if Code.FULL in pushed.codes:
            return (
                Outcome.GATED,
                "the queue or Redis is full; the rest stays in SQL until the next pass",
            )
        return None

    # --- rows ------------------------------------------------------------------------------------

    def _keys(
        self, rows: Sequence[Any]
    ) -> tuple[Sequence[Any], list[tuple[Any, ...]], list[bytes]]:
        """Return rows, arguments and keys, without the rows whose arguments cannot travel: one must not stop the others."""
        args = self.definition.shape.arguments(rows)
        try:
            digests = self._tools.seam.digests(self.definition.job, args)
        except ArgumentError:
            rows, args, digests = self._one_by_one(rows, args)
        if not self.definition.shape.proven:
            self._check_keys(rows, digests)
        return rows, args, digests

    def _one_by_one(
        self, rows: Sequence[Any], args: Sequence[tuple[Any, ...]]
    ) -> tuple[list[Any], list[tuple[Any, ...]], list[bytes]]:
        good: list[tuple[Any, tuple[Any, ...], bytes]] = []
        for row, each in zip(rows, args, strict=True):
            try:
                good.append((row, each, self._tools.seam.digests(self.definition.job, [each])[0]))
            except ArgumentError as error:
                self._progress.codes[INVALID] += 1
                key = tuple(row[at] for at in self.definition.shape.key)
                self._invalid = [*self._invalid, f"{key!r:.100}: {error}"][:_SHOWN]
                log.warning(
                    "row cannot be told",
                    extra={
                        "reconciler": self.definition.name,
                        "key": repr(key),
                        "error": str(error),
                    },
                )
        return [each[0] for each in good], [each[1] for each in good], [each[2] for each in good]

    def _check_keys(self, rows: Sequence[Any], digests: Sequence[bytes]) -> None:
        """Look whether keys and locks are one to one where nothing at import could prove it."""
        pairs = {
            (tuple(row[at] for at in self.definition.shape.key), digest)
            for row, digest in zip(rows, digests, strict=True)
        }
        if not len(pairs) == len({key for key, _ in pairs}) == len({digest for _, digest in pairs}):
            raise DefinitionError(
                f"{self.definition.name}: args= does not map the key one to one onto the unique arguments of "
                f"{self.definition.facts.name}: two keys share a lock, or one key has two. Return every key column "
                "from args= unchanged, and name the parameters that hold them in unique_args="
            )

    def _versions(self, rows: Sequence[Any]) -> list[str] | None:
        at = self.definition.shape.version
        return None if at is None else [tag(row[at]) for row in rows]

    # --- whether to go on ------------------------------------------------------------------------

    def _stopped(self) -> Stop | None:
        stopped = self._standing()
        if stopped is not None:
            return stopped
        if self._tools.watch.recent() != self._epoch:
            return Outcome.RESTARTED, "Redis lost its data during the pass"
        if (
            monotonic() - self._began >= self.definition.budget
            and self._progress.cursor is not None
        ):
            return (
                Outcome.BUDGET,
                f"not through after {self.definition.budget:g} s; the next pass goes on from here",
            )
        return None

    def _complete(self) -> Stop:
        if not self._invalid:
            return Outcome.COMPLETED, "; ".join(self._progress.notes)
        count = self._progress.codes[INVALID]
        return (
            Outcome.FAILED,
            f"{count} rows have arguments that cannot travel, as {'; '.join(self._invalid)}",
        )

    def _end(
        self, outcome: Outcome, reason: str, number: int | None, error: Exception | None
    ) -> Report:
        report = Report(
            reconciler=self.definition.name,
            outcome=outcome,
            reason=reason,
            seconds=monotonic() - self._began,
            scanned=self._progress.scanned,
            pages=self._progress.pages,
            page_size=self._progress.page_size,
            codes=dict(self._progress.codes),
            cursor=self._progress.cursor if outcome is Outcome.BUDGET else None,
            pass_id=number,
            error=error,
        )
        self._step(_WRITE)
        try:
            if number is not None:
                self._tools.ledger.end(report, self._epoch)
        except QikError as wrong:
            log.warning(
                "ledger not written",
                extra={"reconciler": self.definition.name, "error": str(wrong)},
            )
        return report

    def _step(self, seconds: float) -> None:
        self.until = monotonic() + seconds

    def _clock(self) -> float:
        """Return the database's time: read once, then moved on by our own monotonic clock."""
        return monotonic() + self._ahead


def tag(version: object) -> str:
    """Return a row's version as the lock record has it: 6 characters that stand for the value."""
    return blake2b(f"{type(version).__name__}:{version}".encode(), digest_size=4).hexdigest()[:_TAG]
