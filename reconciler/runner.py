"""Runs the passes of one unit, a reconciler or one shard of it, on a thread of its own.

So passes of one unit never overlap, and one that hangs or fails does not hold up the others. A thread that waits costs
nothing but some memory; how many read one database at a time is up to its lanes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import TIMEOUT_MAX, Condition, Thread
from time import monotonic
from typing import Final

from qik_core.errors import QikError
from qik_core.passes import PassEnd, Passes
from reconciler.definition import Definition
from reconciler.lanes import SLICE, Lane, Lanes
from reconciler.lease import Leases
from reconciler.passes import Pass, Stop, Tools
from reconciler.report import TOLD, Outcome, Report

log: Final = logging.getLogger("reconciler")

STUCK: Final = 10.0
"""Seconds beyond the deadline of a step after which its pass counts as stuck."""
_RESTARTS: Final = 10
"""How often a pass by hand begins again."""
_LONGEST_PAUSE: Final = 60.0
_LOOK: Final = 1.0
"""Seconds between two looks at a gate that ended a pass: one that opens is not left unused until the next pass is due."""


class Runner:
    """Runs passes whenever it is woken and holds the lease; after a failure also by itself, later and later."""

    def __init__(
        self,
        definition: Definition,
        tools: Tools,
        leases: Leases,
        lanes: Lanes,
        *,
        told: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self.definition = definition
        self.failures = 0
        """Passes that failed since the last one that did not."""
        self._tools = tools
        self._leases = leases
        self._lanes = lanes
        self._told = told
        self._wakes = Condition()
        self._due = False
        self._ending = ""
        self._gated = False
        self._pass: Pass | None = None
        self._lane = Lane()
        self._entered = 0.0
        self._aside = False
        self._after: Runner | None = None
        self._thread = Thread(target=self._run, name=f"reconciler-{definition.unit}", daemon=True)

    def start(self, after: Runner | None = None) -> None:
        """Begin to wait; behind the end of one that has run the same unit before."""
        self._after = after
        self._thread.start()

    def wake(self) -> None:
        """Have a pass run now; during a pass, one more after it. One that waits for its lane has not begun."""
        with self._wakes:
            self._due = True
            self._wakes.notify()

    def stop(self, why: str = "the process was asked to stop") -> None:
        """Have the pass under way end at its next step, and no other begin."""
        with self._wakes:
            self._ending = why
            self._wakes.notify()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread; False if it did not come in time."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """A pass is under way."""
        return self._pass is not None

    def stuck(self) -> bool:
        """Return whether a step of the pass under way takes much longer than it may, or the thread has ended unasked."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self._ending:
            return True
        running = self._pass
        return running is not None and not self._aside and monotonic() > running.until + STUCK

    def _run(self) -> None:
        if self._after is not None:
            self._after.join(TIMEOUT_MAX)
            self._after = None
        while self._wait():
            if self._leases.term(self.definition.unit) is None:
                continue
            self._lane = self._lane_of()
            self._entered = self._lane.enter()
            with self._wakes:
                # The pass that begins now is the one that was asked for meanwhile.
                self._due = False
            try:
                term = self._leases.term(self.definition.unit)
                if term is not None and not self._ending:
                    self._run_one(term)
            finally:
                self._lane.leave()

    def _wait(self) -> bool:
        """Return True when a pass is due, False when this unit ends."""
        pause = min(_LONGEST_PAUSE, 2.0 ** (self.failures - 1)) if self.failures else None
        while True:
            with self._wakes:
                woken = self._wakes.wait_for(
                    lambda: self._due or self._ending, _LOOK if self._gated else pause
                )
                if self._ending:
                    return False
                if woken or not self._gated or self._tools.gates.opened(self.definition):
                    self._due = self._gated = False
                    return True

    def _lane_of(self) -> Lane:
        try:
            return self._lanes.of(self._tools.engines.of(self.definition))
        except QikError:  # its pass says so
            return Lane()

    def _run_one(self, term: int) -> None:
        self._pass = Pass(self.definition, self._tools, term, lambda: self._standing(term))
        try:
            report = run(self._pass, self._tools.seam)
        finally:
            self._pass = None
        self.failures = self.failures + 1 if report.outcome is Outcome.FAILED else 0
        self._gated = report.outcome is Outcome.GATED
        if report.outcome is Outcome.RESTARTED:
            self.wake()
        say(report)
        self._told(report)

    def _standing(self, term: int) -> Stop | None:
        self._let_others()
        if self._ending:
            return Outcome.DEPOSED, self._ending
        if self._leases.term(self.definition.unit) != term:
            return Outcome.DEPOSED, "the lease is gone"
        return None

    def _let_others(self) -> None:
        """Between two steps of a long pass, when no transaction of its own is open, let those who wait go first."""
        running = self._pass
        if running is None or not self._lane.wanted or monotonic() - self._entered < SLICE:
            return
        self._aside = True
        self._lane.leave()
        self._entered = self._lane.enter()
        running.until = monotonic() + STUCK
        self._aside = False


def run(one: Pass, seam: Passes) -> Report:
    """Run a pass, inside the spans of the tracers that are installed."""
    with seam.passing(one.definition.unit, one.definition.queues) as ended:
        report = one.run()
        ended(
            PassEnd(
                outcome=str(report.outcome),
                failed=report.outcome is Outcome.FAILED,
                reason=report.reason,
                error=report.error,
                counts={"scanned": report.scanned, "pages": report.pages, **report.codes},
            )
        )
        return report


def by_hand(definition: Definition, tools: Tools, told: Callable[[int], object]) -> Report:
    """Run one pass now, whoever holds the lease: the locks make that harmless. `told` hears how many rows it has read.

    It begins again when Redis loses its data on the way.
    """

    def once() -> Report:
        def standing() -> None:
            told(one.progress.scanned)

        one = Pass(definition, tools, 0, standing)
        return run(one, tools.seam)

    report = once()
    for _ in range(_RESTARTS):
        if report.outcome is not Outcome.RESTARTED:
            break
        report = once()
    return report


def say(report: Report) -> None:
    """Log a pass: one that changed nothing quietly."""
    quiet = report.outcome is Outcome.COMPLETED and not set(report.codes) - {TOLD}
    level = logging.DEBUG if quiet else logging.INFO
    if report.outcome is Outcome.FAILED:
        level = logging.WARNING
    log.log(
        level,
        "pass %s",
        report.outcome,
        extra={
            "reconciler": report.reconciler,
            "scanned": report.scanned,
            "codes": " ".join(f"{code}:{count}" for code, count in sorted(report.codes.items()))
            or "-",
            "seconds": f"{report.seconds:.3f}",
            **({"reason": report.reason} if report.reason else {}),
        },
    )
