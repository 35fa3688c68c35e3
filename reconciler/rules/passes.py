"""Rules on the keywords of a reconciler: combinations that work and will hurt."""

from __future__ import annotations

from collections.abc import Iterator

from qik_core.findings import Severity
from reconciler.rules.found import Check, Finding, Seen
from reconciler.status import Last
from reconciler.words import span


def jitter(seen: Seen) -> Iterator[Finding]:
    """Rows are spread, and not for longer than they may wait."""
    for each in seen.reconcilers:
        if not each.jitter:
            yield Finding(
                Check.JITTER_NONE,
                Severity.NOTE,
                each.name,
                "without jitter all rows become due at once after a flush",
                f"Spread them: jitter=timedelta(seconds={max(1, int(each.every / 2))})",
            )
        elif each.jitter + each.min_age > each.every:
            yield Finding(
                Check.JITTER_WIDE,
                Severity.NOTE,
                each.name,
                f"a row may wait {each.min_age:g} s of min_age, up to {each.every:g} s for a pass and {each.jitter:g} s of "
                "jitter: more than two times every",
                "Use a shorter jitter or min_age, if rows are in a hurry",
            )


def slow(seen: Seen) -> Iterator[Finding]:
    """A pass ends before the next one is due."""
    last: dict[str, Last] = {}
    for standing in seen.standings:
        if standing.last is not None:
            known = last.setdefault(standing.reconciler, standing.last)
            last[standing.reconciler] = max(known, standing.last, key=lambda one: one.seconds)
    for each in seen.reconcilers:
        ended = last.get(each.name)
        if ended is not None and ended.seconds > each.every:
            yield Finding(
                Check.SLOW_PASS,
                Severity.WARNING,
                each.name,
                f"its last pass took {ended.seconds:g} s and one begins every {each.every:g} s",
                "Use a longer every, or look at its statement: `reconciler plan`",
            )


def budget(seen: Seen) -> Iterator[Finding]:
    """A pass has the time for one page at least."""
    for each in seen.reconcilers:
        if each.budget < each.statement_timeout:
            yield Finding(
                Check.BUDGET_SHORT,
                Severity.WARNING,
                each.name,
                f"one page may take {span(each.statement_timeout)}, and a pass ends after {span(each.budget)}",
                "Use a longer budget, or a shorter statement_timeout",
            )


def marks(seen: Seen) -> Iterator[Finding]:
    """A full page fits under the high mark."""
    for each in seen.reconcilers:
        high = each.backpressure.high
        if high is not None and high < each.batch_size:
            yield Finding(
                Check.MARK_LOW,
                Severity.WARNING,
                each.name,
                f"passes wait from {high:,} jobs on, and one page has {each.batch_size:,} rows: a backlog ends each pass gated",
                f"Use a higher mark, or batch_size={high}",
            )


def edges(seen: Seen) -> Iterator[Finding]:
    """What counts as lost has had the time to be told."""
    for each in seen.reconcilers:
        if each.edges and each.shape.age is None:
            yield Finding(
                Check.EDGES_WITHOUT_AGE,
                Severity.WARNING,
                each.name,
                "edges=True, and nothing says how old a row is: one whose own push is on its way counts as lost",
                "Say when a row became pending: derive(..., age=Invoice.updated_at)",
            )


def shadow(seen: Seen) -> Iterator[Finding]:
    """A reconciler in shadow heals nothing."""
    for each in seen.reconcilers:
        if each.shadow:
            yield Finding(
                Check.SHADOW,
                Severity.NOTE,
                each.name,
                "it is in shadow: passes count what they would tell, and tell nothing",
                "Look at its counts, `reconciler shadow`, and take shadow=True off when they are right",
            )


def guards(seen: Seen) -> Iterator[Finding]:
    """What must not happen twice is not left to a job that runs without looking."""
    for each in seen.reconcilers:
        if each.guard is not None and not each.recheck:
            yield Finding(
                Check.UNGUARDED,
                Severity.NOTE,
                each.name,
                "it has a guard, and recheck=False: a second copy is kept out while the first one runs, and runs after it",
                "Leave recheck on: a job whose row does not match any more is then skipped",
            )
